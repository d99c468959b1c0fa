//! Who writes statuses: one sidecar of those on a store.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

/// Where a lease stands.
pub trait LeaseStore: Send {
    /// Looks at it, and takes or keeps it for `holder` where that may be.
    fn renew(&mut self, holder: &str, duration: Duration) -> impl Future<Output = Renewal> + Send;

    /// Gives it back if it is the holder's.
    fn release(&mut self, holder: &str) -> impl Future<Output = ()> + Send;
}

/// What came of looking at a lease.
#[derive(Debug, PartialEq, Eq)]
pub enum Renewal {
    /// It is ours.
    Ours,
    /// It is another one's.
    Theirs,
    /// There are none here, or not for us.
    Forbidden(String),
    /// The store is in trouble or out of reach.
    Unknown,
}

/// Another one's lease as it was seen first, and when. Whether its holder is silent is judged on our own
/// clock: no two machines' clocks need to agree, and none may be set.
#[derive(Debug, Default)]
pub struct Sight(Option<(String, Instant)>);

impl Sight {
    /// Whether its holder has not touched it for as long as it `lasts`; `version` is another one after
    /// every touch.
    pub fn is_silent(&mut self, version: &str, lasts: Duration, now: Instant) -> bool {
        match &self.0 {
            Some((seen, since)) if seen == version => now >= *since + lasts,
            _ => {
                self.0 = Some((version.to_owned(), now));
                false
            }
        }
    }

    /// It is nobody else's.
    pub fn forget(&mut self) {
        self.0 = None;
    }
}

/// Longest time to give a lease back: it ends by itself.
const RELEASE_MAX: Duration = Duration::from_secs(2);

/// Our part in a lease.
pub struct Lease<S> {
    store: S,
    holder: String,
    duration: Duration,
    /// Until when it is ours.
    held_until: Option<Instant>,
    /// There are no leases here, which was said already.
    lawless: bool,
}

impl<S: LeaseStore> Lease<S> {
    /// Nobody's yet. `holder` tells this sidecar from every other one.
    pub fn new(store: S, holder: String, duration: Duration) -> Self {
        Lease {
            store,
            holder,
            duration,
            held_until: None,
            lawless: false,
        }
    }

    /// Who we are there.
    pub fn holder(&self) -> &str {
        &self.holder
    }

    /// How often [`Lease::renew`] is to be called.
    pub fn beat(&self) -> Duration {
        self.duration / 3
    }

    /// Whether we are the one. Ends before others think so: they wait for the whole duration.
    pub fn held(&self, now: Instant) -> bool {
        self.lawless || self.held_until.is_some_and(|until| now < until)
    }

    /// Whether every sidecar writes, because there are no leases here.
    pub fn is_lawless(&self) -> bool {
        self.lawless
    }

    /// Looks at the lease, and takes or keeps it where that may be; whether it is ours since now.
    pub async fn renew(&mut self) -> bool {
        let begun = Instant::now();
        let held = self.held(begun);
        match self.store.renew(&self.holder, self.duration).await {
            Renewal::Ours => {
                self.lawless = false;
                self.held_until = Some(begun + self.duration * 2 / 3);
            }
            Renewal::Theirs => {
                self.lawless = false;
                self.held_until = None;
            }
            // As good as it was with one sidecar, and harmless with several.
            Renewal::Forbidden(why) => {
                if !std::mem::replace(&mut self.lawless, true) {
                    warn!(
                        event = "lease_unavailable",
                        "the lease cannot be used, so every sidecar writes statuses: {why}"
                    );
                }
            }
            // What was held runs out by itself.
            Renewal::Unknown => {}
        }
        !held && self.held(Instant::now())
    }

    /// Gives it back, so that another one takes over at once.
    pub async fn release(mut self) {
        if self.held_until.is_some() {
            let released = self.store.release(&self.holder);
            tokio::time::timeout(RELEASE_MAX, released)
                .await
                .unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers by hand.
    struct Hand(Vec<Renewal>);

    impl LeaseStore for Hand {
        async fn renew(&mut self, _: &str, _: Duration) -> Renewal {
            self.0.remove(0)
        }

        async fn release(&mut self, _: &str) {}
    }

    #[tokio::test(start_paused = true)]
    async fn rg_16_what_is_held_ends_before_others_think_so() {
        let forbidden = || Renewal::Forbidden("no".to_owned());
        let answers = [
            Renewal::Ours,
            Renewal::Unknown,
            Renewal::Ours,
            Renewal::Theirs,
            forbidden(),
            Renewal::Ours,
        ];
        let store = Hand(answers.into());
        let mut lease = Lease::new(store, "me".to_owned(), Duration::from_secs(15));
        let held = |lease: &Lease<Hand>| lease.held(Instant::now());
        assert!(!held(&lease));
        assert!(lease.renew().await && held(&lease), "since now");
        // In trouble it runs out by itself.
        tokio::time::advance(Duration::from_secs(9)).await;
        assert!(!lease.renew().await && held(&lease));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!held(&lease));
        assert!(lease.renew().await && held(&lease));
        assert!(
            !lease.renew().await && !held(&lease),
            "another one was faster"
        );
        // Without leases each sidecar writes.
        assert!(lease.renew().await && lease.is_lawless());
        assert!(!lease.renew().await && held(&lease) && !lease.is_lawless());
    }
}
