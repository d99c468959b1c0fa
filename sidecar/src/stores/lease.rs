//! Who writes the statuses: one sidecar of those on a namespace, by a Lease.
//!
//! A Lease that its holder has not touched for as long as it says is free. That is judged by what
//! was seen here, on our own clock: no two machines' clocks need to agree.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease as Record, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ObjectMeta, PostParams};
use tokio::time::Instant;
use tracing::warn;

use super::kubernetes::access::Access;

/// The Lease's name.
const NAME: &str = "pointsman-status";

/// Our part in the Lease.
pub struct Lease {
    api: Api<Record>,
    identity: String,
    duration: Duration,
    sight: Sight,
    /// Until when it is ours.
    held_until: Option<Instant>,
    /// There are no Leases here, which was said already.
    lawless: bool,
}

/// Another one's Lease as it was seen first, and when: its version.
#[derive(Debug, Default)]
struct Sight(Option<(String, Instant)>);

/// What a look at the Lease asks for.
#[derive(Debug, PartialEq, Eq)]
enum Move {
    /// Make it.
    Create,
    /// Write it anew: it is ours, or free.
    Take,
    /// Leave it to its holder.
    Leave,
}

impl Lease {
    /// Nobody's yet. `identity` tells this sidecar from every other one.
    pub fn new(access: &Access, identity: String, duration: Duration) -> Self {
        Lease {
            api: Api::namespaced(access.client.clone(), &access.namespace),
            identity,
            duration,
            sight: Sight::default(),
            held_until: None,
            lawless: false,
        }
    }

    /// Who we are there.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// How often [`Lease::renew`] is to be called.
    pub fn beat(&self) -> Duration {
        self.duration / 3
    }

    /// Whether we are the one. Ends before others think so: they wait for the whole duration.
    pub fn held(&self, now: Instant) -> bool {
        self.lawless || self.held_until.is_some_and(|until| now < until)
    }

    /// Looks at the Lease, and takes or keeps it where that may be.
    pub async fn renew(&mut self) {
        let begun = Instant::now();
        let written = match self.api.get_opt(NAME).await {
            Ok(record) => match self.sight.judge(record.as_ref(), &self.identity, begun) {
                Move::Leave => {
                    self.held_until = None;
                    return;
                }
                Move::Create => {
                    let record = self.record(None, Timestamp::now());
                    self.api.create(&PostParams::default(), &record).await
                }
                Move::Take => {
                    let record = self.record(record, Timestamp::now());
                    self.api
                        .replace(NAME, &PostParams::default(), &record)
                        .await
                }
            },
            Err(error) => Err(error),
        };
        match written {
            Ok(_) => {
                self.lawless = false;
                self.held_until = Some(begun + self.duration * 2 / 3);
            }
            // Another one was faster.
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => {
                self.held_until = None;
            }
            Err(kube::Error::Api(status)) if matches!(status.code, 403..=405) => {
                self.give_up(&status.message);
            }
            // In trouble or out of reach: what was held runs out by itself.
            Err(_) => {}
        }
    }

    /// Without Leases (no right to them, no such kind) each sidecar writes: as good as it was with
    /// one sidecar, and harmless with several.
    fn give_up(&mut self, why: &str) {
        if !std::mem::replace(&mut self.lawless, true) {
            warn!(
                event = "lease_unavailable",
                "the Lease {NAME} cannot be used, so every sidecar writes statuses: {why}"
            );
        }
    }

    fn record(&self, before: Option<Record>, now: Timestamp) -> Record {
        let (metadata, old) = match before {
            Some(record) => (record.metadata, record.spec.unwrap_or_default()),
            None => (ObjectMeta::default(), LeaseSpec::default()),
        };
        let ours = old.holder_identity.as_deref() == Some(self.identity.as_str());
        let seconds = i32::try_from(self.duration.as_secs().max(1)).unwrap_or(i32::MAX);
        let changes = old.lease_transitions.unwrap_or(0);
        Record {
            metadata: ObjectMeta {
                name: Some(NAME.to_owned()),
                // A version: whoever wrote meanwhile wins.
                ..metadata
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: Some(seconds),
                acquire_time: match ours {
                    true => old.acquire_time,
                    false => Some(MicroTime(now)),
                },
                renew_time: Some(MicroTime(now)),
                lease_transitions: Some(if ours { changes } else { changes + 1 }),
                ..LeaseSpec::default()
            }),
        }
    }
}

impl Sight {
    fn judge(&mut self, record: Option<&Record>, identity: &str, now: Instant) -> Move {
        let Some(record) = record else {
            self.0 = None;
            return Move::Create;
        };
        let spec = record.spec.as_ref();
        let holder = spec
            .and_then(|it| it.holder_identity.as_deref())
            .unwrap_or("");
        if holder.is_empty() || holder == identity {
            self.0 = None;
            return Move::Take;
        }
        let version = record.metadata.resource_version.clone().unwrap_or_default();
        let said = spec.and_then(|it| it.lease_duration_seconds);
        let said = said.and_then(|it| u64::try_from(it).ok());
        let lasts = Duration::from_secs(said.unwrap_or(0));
        match &self.0 {
            Some((seen, since)) if *seen == version => match now >= *since + lasts {
                true => Move::Take,
                false => Move::Leave,
            },
            _ => {
                self.0 = Some((version, now));
                Move::Leave
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn held(holder: &str, version: &str) -> Record {
        let record = json!({
            "metadata": {"name": NAME, "resourceVersion": version},
            "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15},
        });
        serde_json::from_value(record).expect("a Lease")
    }

    #[test]
    fn rg_16_a_lease_is_taken_when_nobody_has_it_or_its_holder_is_silent() {
        let (mut sight, start) = (Sight::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(sight.judge(None, "me", at(0)), Move::Create);
        assert_eq!(sight.judge(Some(&held("", "1")), "me", at(0)), Move::Take);
        assert_eq!(sight.judge(Some(&held("me", "1")), "me", at(0)), Move::Take);
        // Seen for the first time, whatever its times say: it counts from now.
        let other = held("other", "2");
        assert_eq!(sight.judge(Some(&other), "me", at(1)), Move::Leave);
        assert_eq!(sight.judge(Some(&other), "me", at(15)), Move::Leave);
        // It was renewed: the wait begins again.
        let renewed = held("other", "3");
        assert_eq!(sight.judge(Some(&renewed), "me", at(16)), Move::Leave);
        assert_eq!(sight.judge(Some(&renewed), "me", at(30)), Move::Leave);
        assert_eq!(sight.judge(Some(&renewed), "me", at(31)), Move::Take);
    }
}
