//! Envoy's log, as far as it is made for machines: the filter's `event=` lines, and the ends of VMs.

use std::collections::BTreeMap;

/// One `event=…` line. Stories ask for fields, never for wording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Envoy's name of the level: `info`, `warning`, `error`.
    pub level: String,
    /// The fields `key=value`; a value in double quotes may hold blanks.
    pub fields: BTreeMap<String, String>,
}

impl Event {
    /// What happened: the field `event`.
    pub fn name(&self) -> &str {
        self.field("event")
    }

    /// A field; empty when absent.
    pub fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }
}

/// The events in a log, in their order.
pub(super) fn events(log: &str) -> Vec<Event> {
    log.lines().filter_map(event).collect()
}

/// The lines that tell of a call into a VM that trapped: `Function: … failed: Uncaught …`.
pub(super) fn traps(log: &str) -> Vec<String> {
    let told = log
        .lines()
        .filter(|line| line.contains(" failed: Uncaught "));
    told.map(str::to_owned).collect()
}

fn event(line: &str) -> Option<Event> {
    // "[time][thread][level][component] … event=name key=value key="two words""
    let (head, tail) = line.split_at(line.find("event=")?);
    let level = head
        .split(['[', ']'])
        .filter(|part| !part.is_empty())
        .nth(2)?
        .to_owned();
    Some(Event {
        level,
        fields: fields(tail),
    })
}

fn fields(mut rest: &str) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    while let Some((key, after)) = rest.split_once('=') {
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(' ').unwrap_or((after, "")),
        };
        fields.insert(key.trim().to_owned(), value.to_owned());
        rest = after;
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_read_by_its_fields() {
        let line = "[2026-11-21 11:04:34.027][26350][warning][wasm] [context.cc:1] wasm log \
                    pointsman: event=fail_open_entered cluster=orders why=\"no backend left\" n=3";
        let found = events(&format!("[info] nothing\n{line}\n"));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].level, "warning");
        assert_eq!(found[0].name(), "fail_open_entered");
        assert_eq!(found[0].field("cluster"), "orders");
        assert_eq!(found[0].field("why"), "no backend left");
        assert_eq!(found[0].field("n"), "3");
        assert_eq!(found[0].field("absent"), "");
    }
}
