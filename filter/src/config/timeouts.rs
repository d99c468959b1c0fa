//! How long Envoy waits for a cluster's backends.

use std::time::Duration;

use serde_json::{Value, json};

use super::duration;
use super::reader::{Object, Path, Report};

/// What a cluster's connections are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// How long a connection may take to be made; then the attempt has failed.
    pub connect: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            connect: Duration::from_secs(1),
        }
    }
}

impl Timeouts {
    pub(super) fn read(value: &Value, path: &Path<'_>, report: &Report) -> Option<Self> {
        let object = Object::of(value, path, report)?;
        let range = (Duration::from_millis(10), Duration::from_secs(60));
        let connect = object.duration("connect", Timeouts::default().connect, range);
        Some(Timeouts { connect })
    }

    pub(super) fn write(self) -> Value {
        json!({"connect": duration::print(self.connect)})
    }
}
