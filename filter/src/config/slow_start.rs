//! How the share of a backend grows that has just come, or come back.

use std::time::Duration;

use serde_json::{Value, json};

use super::duration;
use super::reader::{Object, Path, Report};

/// A policy's `slowStart`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlowStart {
    /// So long after it came a backend has all its weight.
    pub window: Duration,
    /// So much of it, it has from the start.
    pub min_weight_percent: u32,
}

impl Default for SlowStart {
    fn default() -> Self {
        SlowStart {
            window: Duration::from_secs(30),
            min_weight_percent: 10,
        }
    }
}

impl SlowStart {
    pub(super) fn read(value: &Value, path: &Path<'_>, report: &Report) -> Option<Self> {
        let default = SlowStart::default();
        let object = Object::of(value, path, report)?;
        let range = (Duration::from_secs(1), Duration::from_secs(3600));
        let percent = default.min_weight_percent;
        Some(SlowStart {
            window: object.duration("window", default.window, range),
            min_weight_percent: object.number("minWeightPercent", percent, 1, 100),
        })
    }

    pub(super) fn write(self) -> Value {
        json!({
            "window": duration::print(self.window), "minWeightPercent": self.min_weight_percent,
        })
    }
}
