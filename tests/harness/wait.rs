//! The only place that lets time pass: waiting for a condition, with a deadline.

use std::time::Duration;

use anyhow::{Result, anyhow};
use tokio::time::{Instant, sleep, timeout_at};

/// How long any single thing of a story may take, on a busy machine too.
pub const SOON: Duration = Duration::from_secs(40);
/// How long lies between two looks at a condition: a twentieth of the wait so far, within these. A look
/// costs computing time that the stories beside it want.
const INTERVALS: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(20));

/// Looks again and again until `look` succeeds, and returns what it saw.
///
/// An error of `look` means "not yet", so write it with `ensure!` and say the value that was seen.
/// Fails after `deadline` with `what` was awaited and the last look's error.
pub async fn eventually<T>(
    deadline: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> Result<T>,
) -> Result<T> {
    let start = Instant::now();
    let end = start + deadline;
    let mut last = anyhow!("no look has ended");
    loop {
        match timeout_at(end, look()).await {
            Ok(Ok(seen)) => return Ok(seen),
            Ok(Err(not_yet)) => last = not_yet,
            Err(_) => {}
        }
        let interval = (start.elapsed() / 20).clamp(INTERVALS.0, INTERVALS.1);
        if Instant::now() + interval >= end {
            return Err(last.context(format!("waited {deadline:?} for {what}")));
        }
        sleep(interval).await;
    }
}

/// Looks again and again at what must hold, until enough has happened.
///
/// For what must not happen, or must go on: "no event while ten more requests are answered". An
/// error of `enough` means "not yet", as in [`eventually`]; one of `holds` ends the wait at once. A
/// period is not enough of anything: say what happens in it.
pub async fn throughout(
    deadline: Duration,
    until: &str,
    mut enough: impl AsyncFnMut() -> Result<()>,
    mut holds: impl AsyncFnMut() -> Result<()>,
) -> Result<()> {
    eventually(deadline, until, async || {
        let happened = enough().await;
        // After that look: what the last of it broke is seen too.
        match holds().await {
            Ok(()) => happened.map(Ok),
            Err(broken) => Ok(Err(broken.context(format!("before {until}")))),
        }
    })
    .await?
}

/// The slowness of a peer, or the period of a measurement; never a way to wait for something.
pub(crate) async fn slowness(delay: Duration) {
    sleep(delay).await;
}

/// The beat of a paced load, `per_second` ticks; ticks that were missed are made up for.
pub(crate) fn beat(per_second: u32) -> tokio::time::Interval {
    tokio::time::interval(Duration::from_secs(1) / per_second.max(1))
}
