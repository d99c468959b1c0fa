//! What became of a write: whether the registry is served with it by now.

use std::time::Duration;

use pointsman_filter::base::hash;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::api::Serving;
use crate::registry::{Published, Registry, SourceStatus};

/// How long an answer waits for what was written to be served.
const SERVED_MAX: Duration = Duration::from_secs(3);

/// Waits until the registry is as it must be, the guard holds it back, or time is up.
pub async fn wait(
    mut published: watch::Receiver<Published>,
    mut status: watch::Receiver<SourceStatus>,
    is: impl Fn(&Registry) -> bool,
) -> Serving {
    let is_served = |published: &Published| published.as_deref().is_some_and(&is);
    let settled = async {
        loop {
            let held = status.borrow_and_update().held.is_some();
            if held || is_served(&published.borrow_and_update()) {
                return;
            }
            tokio::select! {
                Ok(()) = published.changed() => {}
                Ok(()) = status.changed() => {}
                else => return,
            }
        }
    };
    // What is not served in time is told so below.
    drop(timeout(SERVED_MAX, settled).await);
    let registry = published.borrow();
    let held = status.borrow().held;
    Serving {
        revision: registry.as_ref().map(|it| hash::hex(it.revision)),
        served: is_served(&registry),
        held: held.map(Into::into),
    }
}
