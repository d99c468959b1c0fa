//! What a module can call of its host.

/// A function of the host, by its name in the ABI without `proxy_`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Function {
    /// `log`
    Log,
    /// `get_current_time_nanoseconds`
    Time,
    /// `set_tick_period_milliseconds`
    TickPeriod,
    /// `get_buffer_bytes`
    Buffer,
    /// `get_property`
    Property,
    /// `set_property`
    SetProperty,
    /// `get_header_map_pairs`
    Headers,
    /// `get_header_map_value`
    Header,
    /// `replace_header_map_value`
    ReplaceHeader,
    /// `remove_header_map_value`
    RemoveHeader,
    /// `add_header_map_value`
    AddHeader,
    /// `get_shared_data`
    Shared,
    /// `set_shared_data`
    SetShared,
    /// `define_metric`
    DefineMetric,
    /// `increment_metric`
    IncrementMetric,
    /// `record_metric`
    RecordMetric,
    /// `send_local_response`
    Answer,
    /// `http_call`
    Post,
    /// `set_effective_context`
    EffectiveContext,
}

const NAMES: [(&str, Function); 19] = [
    ("log", Function::Log),
    ("get_current_time_nanoseconds", Function::Time),
    ("set_tick_period_milliseconds", Function::TickPeriod),
    ("get_buffer_bytes", Function::Buffer),
    ("get_property", Function::Property),
    ("set_property", Function::SetProperty),
    ("get_header_map_pairs", Function::Headers),
    ("get_header_map_value", Function::Header),
    ("replace_header_map_value", Function::ReplaceHeader),
    ("remove_header_map_value", Function::RemoveHeader),
    ("add_header_map_value", Function::AddHeader),
    ("get_shared_data", Function::Shared),
    ("set_shared_data", Function::SetShared),
    ("define_metric", Function::DefineMetric),
    ("increment_metric", Function::IncrementMetric),
    ("record_metric", Function::RecordMetric),
    ("send_local_response", Function::Answer),
    ("http_call", Function::Post),
    ("set_effective_context", Function::EffectiveContext),
];

impl Function {
    /// The function of an import; `None` for one that no module of ours calls.
    pub fn named(import: &str) -> Option<Self> {
        let name = import.strip_prefix("proxy_")?;
        let found = NAMES.iter().find(|(known, _)| *known == name)?;
        Some(found.1)
    }

    /// Its name in the ABI, without `proxy_`.
    pub fn name(self) -> &'static str {
        let found = NAMES.iter().find(|(_, function)| *function == self);
        found.map_or("", |(name, _)| name)
    }

    /// Every function, in the order of the ABI.
    pub fn all() -> impl Iterator<Item = Self> {
        NAMES.iter().map(|(_, function)| *function)
    }
}
