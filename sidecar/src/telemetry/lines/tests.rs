use std::collections::BTreeSet;
use std::fs::read_to_string;
use std::path::Path;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use tracing_subscriber::layer::SubscriberExt;

use super::*;
use crate::model::event::Event as Value;
use crate::telemetry::metrics::Metrics;

/// The code of every file, without its tests.
fn sources(folder: &Path, into: &mut Vec<(String, String)>) {
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        match path.file_stem().unwrap().to_str().unwrap() {
            "tests" | "fixture" | "layers" => {}
            _ if path.is_dir() => sources(&path, into),
            _ => {
                let text = read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
                into.push((path.display().to_string(), code.to_owned()));
            }
        }
    }
}

/// Invariant 10: whatever is logged is an event of the closed list, and sidecar/README.md tells of it.
#[test]
fn every_line_that_is_logged_is_an_event_of_the_closed_list() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    let mut written = BTreeSet::new();
    for (file, code) in &files {
        let macros = ["trace!(", "debug!(", "info!(", "warn!(", "error!("];
        for (at, found) in macros.iter().flat_map(|it| code.match_indices(it)) {
            if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
                continue;
            }
            let fields = code[at + found.len()..].trim_start();
            let event = fields.strip_prefix("event = ");
            let event =
                event.unwrap_or_else(|| panic!("{file}: a line without event: {fields:.60}"));
            match event.strip_prefix('"').and_then(|it| it.split('"').next()) {
                Some(name) => {
                    assert!(
                        LINES.contains(&name),
                        "{file}: event={name} is not in LINES"
                    );
                    written.insert(name);
                }
                // The value's own name, in the sink alone.
                None => assert!(
                    event.starts_with("name,") && file.ends_with("telemetry/events.rs"),
                    "{file}: {event:.60}"
                ),
            }
        }
    }
    assert_eq!(written, BTreeSet::from(LINES), "nobody writes the rest");
    let readme = read_to_string(root.join("README.md")).unwrap();
    for name in Value::NAMES.into_iter().chain(LINES) {
        assert!(
            readme.contains(&format!("`{name}`")),
            "README knows no {name}"
        );
    }
}

#[derive(Debug)]
struct NoGauges;

impl Collector for NoGauges {
    fn encode(&self, _: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        Ok(())
    }
}

/// Lines of others are not ours, nor are names that are not in the list.
#[test]
fn a_line_is_counted_by_its_event_at_every_level() {
    let counts = EventCounts::default();
    let metrics = Metrics::new(counts.clone(), NoGauges);
    let subscriber = tracing_subscriber::registry().with(counted(counts));
    tracing::subscriber::with_default(subscriber, || {
        for _ in 0..2 {
            tracing::debug!(event = "acked", node = "edge");
        }
        tracing::info!(
            event = "proxy_gone",
            reason = "refused",
            "a proxy went away"
        );
        tracing::info!(event = "not in the list");
        tracing::info!(target: "hyper", event = "listening");
    });
    let text = metrics.text().unwrap();
    for line in [
        "pointsman_events_total{event=\"acked\"} 2\n",
        "pointsman_events_total{event=\"proxy_gone\"} 1\n",
        "pointsman_events_total{event=\"listening\"} 0\n",
    ] {
        assert!(text.contains(line), "{text}");
    }
    assert!(!text.contains("not in the list"), "{text}");
}
