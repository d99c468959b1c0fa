//! Counts log lines for which there is no value, where they are written: by their field `event`.

use std::fmt::Debug;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::counts::EventCounts;
use crate::model::event::LINES;

/// A layer of the log that counts our own lines, whatever of them is written.
pub fn counted<S>(counts: EventCounts) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let ours = Targets::new().with_target(env!("CARGO_CRATE_NAME"), LevelFilter::DEBUG);
    Lines(counts).with_filter(ours)
}

struct Lines(EventCounts);

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, line: &Event<'_>, _: Context<'_, S>) {
        let mut name = Name(None);
        line.record(&mut name);
        if let Some(name) = name.0 {
            self.0.count(name, None);
        }
    }
}

/// The name of a line, where it is one of [`LINES`].
struct Name(Option<&'static str>);

impl Visit for Name {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "event" {
            self.0 = LINES.into_iter().find(|name| *name == value);
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}
}

#[cfg(test)]
mod tests;
