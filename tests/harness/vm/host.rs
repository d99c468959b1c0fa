//! A made-up host: what it knows, what it answers, and what no module may ask of it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};

use super::function::Function;

/// The host's word for: done.
pub const OK: u32 = 0;
/// There is none of that name.
pub const NOT_FOUND: u32 = 1;
/// Not now, or not so.
pub const BAD_ARGUMENT: u32 = 2;
/// Somebody else has changed the value since.
pub const MISMATCH: u32 = 8;
/// Any time will do.
const NOW_NS: u64 = 1_800_000_000_000_000_000;
/// Calls in one callback, far above what any needs: a module has no fuel in Envoy, so every loop
/// must end by itself.
const CALLS_MAX: usize = 20_000;

/// The host's numbers of header maps.
pub(super) const REQUEST_HEADERS: i32 = 0;
pub(super) const RESPONSE_HEADERS: i32 = 2;
pub(super) const POST_HEADERS: i32 = 6;
/// The host's numbers of buffers.
pub(super) const REQUEST_BODY: i32 = 0;
pub(super) const POST_BODY: i32 = 4;
pub(super) const CONFIGURATION: i32 = 7;

/// Header or property values by name.
pub type Values = BTreeMap<String, Vec<u8>>;

/// What the module is being told: not everything may be asked at any time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Phase {
    /// The VM or a context begins.
    #[default]
    Start,
    /// A root is handed its configuration.
    Configure,
    /// A root's tick.
    Tick,
    /// A root's post was answered.
    PostAnswered {
        /// It was not cut off.
        has_headers: bool,
    },
    /// A stream's request headers.
    RequestHeaders,
    /// A stream's request body.
    RequestBody,
    /// A stream's response headers.
    ResponseHeaders,
    /// A stream's response body.
    ResponseBody,
    /// A context's end.
    Delete,
}

/// Comes between the module and its host.
pub trait Interference {
    /// Before a call is answered: may change what the host knows, and may give a status instead of
    /// the answer.
    fn before(&mut self, function: Function, subject: &str, host: &mut Host) -> Option<u32>;
}

/// A post under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Post {
    /// Names it.
    pub token: u32,
    /// What is posted.
    pub body: Vec<u8>,
}

/// What the host knows, what it was told, and how often it was asked.
pub struct Host {
    /// Wall clock.
    pub now_ns: u64,
    /// The plugin's configuration.
    pub configuration: Vec<u8>,
    /// The request's headers.
    pub request_headers: Values,
    /// What came of the request's body since the last callback.
    pub request_body: Vec<u8>,
    /// The response's headers.
    pub response_headers: Values,
    /// The headers of a post's answer.
    pub post_headers: Values,
    /// The body of a post's answer.
    pub post_body: Vec<u8>,
    /// By path, its parts joined by dots.
    pub properties: Values,
    /// Values and their versions.
    pub shared: BTreeMap<String, (Vec<u8>, u32)>,
    /// Level and message.
    pub log: Vec<(i32, String)>,
    /// Name and value of every metric, by its number.
    pub metrics: Vec<(String, u64)>,
    /// Posts that wait for their answers.
    pub posts: Vec<Post>,
    /// The status that the module answered with itself.
    pub local_answer: Option<u32>,
    /// Every call since they were taken last: the function and what it is about.
    pub calls: Vec<String>,
    /// What no module may do and this one did.
    pub offences: Vec<String>,
    /// Comes between.
    pub interference: Option<Box<dyn Interference>>,
    /// The streams whose request headers the module holds back.
    pub held: BTreeSet<i32>,
    /// The context that is being told.
    pub(super) context: i32,
    pub(super) phase: Phase,
    calls_in_phase: usize,
    versions: u32,
    tokens: u32,
}

impl Default for Host {
    fn default() -> Self {
        Host {
            now_ns: NOW_NS,
            configuration: Vec::new(),
            request_headers: Values::new(),
            request_body: Vec::new(),
            response_headers: Values::new(),
            post_headers: Values::new(),
            post_body: Vec::new(),
            properties: Values::new(),
            shared: BTreeMap::new(),
            log: Vec::new(),
            metrics: Vec::new(),
            posts: Vec::new(),
            local_answer: None,
            calls: Vec::new(),
            offences: Vec::new(),
            interference: None,
            held: BTreeSet::new(),
            context: 0,
            phase: Phase::Start,
            calls_in_phase: 0,
            versions: 0,
            tokens: 0,
        }
    }
}

/// Header or property values from texts.
pub fn map(values: &[(&str, &str)]) -> Values {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), value.as_bytes().to_vec());
    values.iter().map(owned).collect()
}

impl Host {
    /// Sets a property.
    pub fn set_property(&mut self, path: &str, value: impl Into<Vec<u8>>) {
        self.properties.insert(path.to_owned(), value.into());
    }

    /// Writes a value into shared data as another VM does.
    pub fn write_shared(&mut self, key: &str, value: Vec<u8>) {
        // One counter for all keys, as the host has it.
        self.versions = self.versions.wrapping_add(1).max(1);
        self.shared.insert(key.to_owned(), (value, self.versions));
    }

    /// The bytes of all values in shared data.
    pub fn shared_bytes(&self) -> usize {
        self.shared.values().map(|(value, _)| value.len()).sum()
    }

    /// The calls since they were taken last.
    pub fn take_calls(&mut self) -> Vec<String> {
        std::mem::take(&mut self.calls)
    }

    /// The value of a metric, or 0.
    pub fn metric(&self, name: &str) -> u64 {
        let named = self.metrics.iter().filter(|(known, _)| known == name);
        named.map(|(_, value)| value).sum()
    }

    pub(super) fn enter(&mut self, phase: Phase, context: i32) {
        self.phase = phase;
        self.context = context;
        self.calls_in_phase = 0;
    }

    pub(super) fn note(&mut self, function: Function, subject: &str) -> Result<()> {
        self.calls_in_phase += 1;
        if self.calls_in_phase > CALLS_MAX {
            bail!("more than {CALLS_MAX} calls in one callback");
        }
        let subject = match function {
            // The rest is the hash of a cluster's name or the number of a slot.
            Function::Shared | Function::SetShared => {
                subject.rsplit_once('/').map_or("", |it| it.0)
            }
            _ => subject,
        };
        let call = format!("{} {subject}", function.name());
        self.calls.push(call.trim_end().to_owned());
        Ok(())
    }

    pub(super) fn offence(&mut self, what: impl Into<String>) -> u32 {
        let what: String = what.into();
        self.offences.push(format!("{:?}: {what}", self.phase));
        BAD_ARGUMENT
    }

    /// A map of headers; `None` while there is none.
    pub(super) fn headers(&mut self, map: i32) -> Option<&mut Values> {
        match (map, self.phase) {
            (REQUEST_HEADERS, Phase::RequestHeaders) => Some(&mut self.request_headers),
            // They can be read and written for as long as they are held back.
            (REQUEST_HEADERS, Phase::RequestBody) if self.held.contains(&self.context) => {
                Some(&mut self.request_headers)
            }
            (RESPONSE_HEADERS, Phase::ResponseHeaders) => Some(&mut self.response_headers),
            (POST_HEADERS, Phase::PostAnswered { has_headers: true }) => {
                Some(&mut self.post_headers)
            }
            _ => None,
        }
    }

    pub(super) fn set_header(
        &mut self,
        map: i32,
        name: &str,
        value: Option<Vec<u8>>,
        adds: bool,
    ) -> u32 {
        let fits = |byte: &u8| !matches!(byte, b'\r' | b'\n' | b'\0');
        if !name.bytes().all(|byte| fits(&byte)) || !value.iter().flatten().all(fits) {
            return self.offence(format!("the header {name:?} is set to {value:?}"));
        }
        let Some(headers) = self.headers(map) else {
            return self.offence(format!("the header {name} is set"));
        };
        match value {
            Some(value) if adds => {
                let line = headers.entry(name.to_owned()).or_default();
                if !line.is_empty() {
                    line.push(b',');
                }
                line.extend(value);
            }
            Some(value) => drop(headers.insert(name.to_owned(), value)),
            None => drop(headers.remove(name)),
        }
        OK
    }

    pub(super) fn set_shared(&mut self, key: &str, value: Vec<u8>, asked: u32) -> u32 {
        // On a key that is not there every version fits.
        let version = self.shared.get(key).map(|(_, version)| *version);
        if version.is_some_and(|version| asked != 0 && asked != version) {
            return MISMATCH;
        }
        self.write_shared(key, value);
        OK
    }

    pub(super) fn change_metric(&mut self, id: i32, change: impl FnOnce(u64) -> u64) -> u32 {
        let index = usize::try_from(id).ok().and_then(|id| id.checked_sub(1));
        match index.and_then(|index| self.metrics.get_mut(index)) {
            Some((_, value)) => {
                *value = change(*value);
                OK
            }
            None => {
                self.offence(format!("there is no metric {id}"));
                NOT_FOUND
            }
        }
    }

    pub(super) fn answer_locally(&mut self, status: u32) -> u32 {
        let may = match self.phase {
            Phase::RequestHeaders | Phase::ResponseHeaders => true,
            Phase::RequestBody => self.held.contains(&self.context),
            _ => false,
        };
        if !may || self.local_answer.is_some() {
            return self.offence("a local answer");
        }
        self.local_answer = Some(status);
        OK
    }

    pub(super) fn post(&mut self, body: Vec<u8>) -> Option<u32> {
        if !matches!(self.phase, Phase::Tick | Phase::PostAnswered { .. }) {
            self.offence("a post");
            return None;
        }
        self.tokens += 1;
        let token = self.tokens;
        self.posts.push(Post { token, body });
        Some(token)
    }
}
