//! How often each event happened, by its reason where reasons are a closed list.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use crate::model::event::{Event, LINES};

/// `event`, and `reason` for those events that have one.
type Labels = Vec<(&'static str, &'static str)>;

/// A counter per event and reason, each from zero on. Clones count into the same counters.
#[derive(Clone, Debug)]
pub struct EventCounts(Family<Labels, Counter>);

impl Default for EventCounts {
    fn default() -> Self {
        let counts = EventCounts(Family::default());
        for event in Event::NAMES.into_iter().chain(LINES) {
            let reasons = Event::reasons(event);
            if reasons.is_empty() {
                counts.counter(event, None);
            }
            for reason in reasons {
                counts.counter(event, Some(reason));
            }
        }
        counts
    }
}

impl EventCounts {
    /// Counts an event of the closed list.
    pub fn count(&self, event: &'static str, reason: Option<&'static str>) {
        self.counter(event, reason).inc();
    }

    /// How often each event that is a value was counted, for whatever reason.
    pub fn of_values(&self) -> Vec<(&'static str, u64)> {
        let count = |event| match Event::reasons(event) {
            [] => self.counter(event, None).get(),
            reasons => {
                let counted = reasons.iter();
                counted.map(|it| self.counter(event, Some(it)).get()).sum()
            }
        };
        Event::NAMES.map(|event| (event, count(event))).to_vec()
    }

    /// What a registry of metrics takes.
    pub fn family(&self) -> Family<Labels, Counter> {
        self.0.clone()
    }

    fn counter(&self, event: &'static str, reason: Option<&'static str>) -> Counter {
        let reason = reason.map(|reason| ("reason", reason));
        let labels = [("event", event)].into_iter().chain(reason).collect();
        self.0.get_or_create_owned(&labels)
    }
}
