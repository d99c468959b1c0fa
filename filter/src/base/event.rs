//! The closed list of the filter's events: each is a log line and a count of
//! `pointsman_events_total`, and has its place in filter/README.md.

macro_rules! events {
    ($($(#[doc = $text:literal])+ $event:ident = $name:literal,)+) => {
        /// What an event is called.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum EventName {
            $($(#[doc = $text])+ $event,)+
        }

        impl EventName {
            /// All there are.
            pub const ALL: &[EventName] = &[$(EventName::$event,)+];

            /// Its name in the log line's `event=` and in the counter's reason.
            pub fn name(self) -> &'static str {
                match self {
                    $(EventName::$event => $name,)+
                }
            }
        }
    };
}

events! {
    /// A failure was counted; the backend is left alone for a while.
    BackoffOpened = "backoff_opened",
    /// A backend that had failed answered.
    BackoffClosed = "backoff_closed",
    /// As many failures were counted as count.
    BackendDown = "backend_down",
    /// The first answer after that.
    BackendUp = "backend_up",
    /// A backend has too much to do; it is left alone for a while.
    CooldownStarted = "cooldown_started",
    /// The last stream of a backend that takes no new ones has ended.
    BackendDrained = "backend_drained",
    /// No backend of a cluster is available any more.
    AllDown = "all_down",
    /// Some backend is available again.
    Recovered = "recovered",
    /// Requests are sent to unhealthy backends from now on.
    FailOpenEntered = "fail_open_entered",
    /// A healthy backend serves again.
    FailOpenLeft = "fail_open_left",
    /// A request was held for its body, of which nothing came: the proxy may not be told to hand it over.
    BodyMissed = "body_missed",
    /// A VM took a configuration over.
    ConfigApplied = "config_applied",
    /// A VM rejected a configuration.
    ConfigRefused = "config_refused",
    /// The sidecar cannot be asked.
    ExchangeFailed = "exchange_failed",
    /// The sidecar was silent for longer than its verdicts hold.
    VerdictsExpired = "verdicts_expired",
}

#[cfg(test)]
#[cfg(not(target_arch = "wasm32"))] // It reads the sources.
mod tests {
    use super::*;
    use std::path::Path;
    use std::{env, fs};

    /// The code of every file but this one, without tests.
    fn code(folder: &Path) -> String {
        let mut all = String::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                all += &code(&path);
            } else if !path.ends_with("base/event.rs") && !path.ends_with("tests.rs") {
                let text = fs::read_to_string(&path).unwrap();
                all += text.split("#[cfg(test)]").next().unwrap();
            }
        }
        all
    }

    /// Invariant 10: whatever is logged as an event is in the list, somebody reports each of the list,
    /// and filter/README.md tells of it.
    #[test]
    fn every_event_of_the_sources_is_in_the_closed_list_and_in_the_readme() {
        let crate_root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let code = code(&crate_root.join("src"));
        let lines = code.lines().filter(|line| !line.trim().starts_with("//"));
        for line in lines {
            let named = line.split("event=").nth(1);
            let by_hand = named.is_some_and(|name| !name.starts_with("{}"));
            assert!(!by_hand, "an event outside of the list: {line}");
        }
        let readme = fs::read_to_string(crate_root.join("README.md")).unwrap();
        let rows = readme
            .lines()
            .filter(|line| line.starts_with("| `pointsman_events_total` |"));
        let row: String = rows.collect();
        for event in EventName::ALL {
            let reported = code.contains(&format!("EventName::{event:?}"));
            assert!(reported, "nobody reports {event:?}");
            let name = format!("`{}`", event.name());
            assert!(
                row.contains(&name),
                "filter/README.md's row of events has no {name}"
            );
        }
    }
}
