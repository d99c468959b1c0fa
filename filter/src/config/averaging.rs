//! What Tiered makes of the times that it measures.

use std::time::Duration;

use serde_json::{Map, Value};

use super::duration;
use super::policy::insert;
use super::reader::{Object, Report, kind};

const THOUSANDTHS: f64 = 1000.0;
const INITIAL_LATENCY_MAX: Duration = Duration::from_secs(60);

/// The `smoothing` and `initialLatency` of a cluster that Tiered balances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Averaging {
    /// How much of an average the newest time is, thousandths.
    pub smoothing: u32,
    /// What a backend is taken for that was not measured.
    pub initial_latency: Duration,
}

impl Default for Averaging {
    fn default() -> Self {
        Averaging {
            smoothing: 100,
            initial_latency: Duration::from_secs(5),
        }
    }
}

impl Averaging {
    /// Reads them from among the fields of `loadBalancing`; the policy needs them or not.
    pub(super) fn read(object: &Object<'_>, needed: bool, report: &Report) -> Self {
        let default = Averaging::default();
        for name in ["smoothing", "initialLatency"] {
            if !needed && object.get(name).is_some() {
                // A newer module may have more policies that average.
                report.unknown(&object.at(name), "needs policy Tiered");
            }
        }
        let range = (Duration::ZERO, INITIAL_LATENCY_MAX);
        let initial_latency = object.duration("initialLatency", default.initial_latency, range);
        Averaging {
            smoothing: read_smoothing(object, report).unwrap_or(default.smoothing),
            initial_latency,
        }
    }

    /// Writes what is not the default.
    pub(super) fn write(self, map: &mut Map<String, Value>) {
        let default = Averaging::default();
        if self.smoothing != default.smoothing {
            insert(map, "smoothing", f64::from(self.smoothing) / THOUSANDTHS);
        }
        if self.initial_latency != default.initial_latency {
            insert(map, "initialLatency", duration::print(self.initial_latency));
        }
    }
}

fn read_smoothing(object: &Object<'_>, report: &Report) -> Option<u32> {
    let value = object.get("smoothing")?;
    let part = value.as_f64().filter(|it| (0.001..=1.0).contains(it));
    if part.is_none() {
        let why = format!("must be a number from 0.001 to 1, not {}", kind(value));
        report.error(&object.at("smoothing"), why);
    }
    // Rounded to the nearest.
    part.map(|part| (part * THOUSANDTHS + 0.5) as u32)
}
