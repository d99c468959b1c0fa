//! This machine's clock, where no store has one of its own.

use std::time::{SystemTime, UNIX_EPOCH};

/// ms since 1970.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
