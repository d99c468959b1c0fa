//! The Lease of a namespace: one that its holder has not touched for as long as it says is free.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease as Record, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ObjectMeta, PostParams};
use tokio::time::Instant;

use super::access::Access;
use crate::stores::lease::{LeaseStore, Renewal, Sight};

/// The Lease's name.
const NAME: &str = "pointsman-status";

/// Where the Lease stands.
pub struct KubernetesLease {
    api: Api<Record>,
    sight: Sight,
}

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

impl KubernetesLease {
    /// The Lease of this namespace.
    pub fn new(access: &Access) -> Self {
        KubernetesLease {
            api: Api::namespaced(access.client.clone(), &access.namespace),
            sight: Sight::default(),
        }
    }
}

impl LeaseStore for KubernetesLease {
    async fn renew(&mut self, holder: &str, duration: Duration) -> Renewal {
        let written = match self.api.get_opt(NAME).await {
            Ok(found) => match judge(&mut self.sight, found.as_ref(), holder, Instant::now()) {
                Move::Leave => return Renewal::Theirs,
                Move::Create => {
                    let record = record(None, holder, duration, Timestamp::now());
                    self.api.create(&PostParams::default(), &record).await
                }
                Move::Take => {
                    let record = record(found, holder, duration, Timestamp::now());
                    let params = PostParams::default();
                    self.api.replace(NAME, &params, &record).await
                }
            },
            Err(error) => Err(error),
        };
        match written {
            Ok(_) => Renewal::Ours,
            // Another one was faster.
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => {
                Renewal::Theirs
            }
            // No right to them, or no such kind.
            Err(kube::Error::Api(status)) if matches!(status.code, 403..=405) => {
                Renewal::Forbidden(format!("{NAME}: {}", status.message))
            }
            Err(_) => Renewal::Unknown,
        }
    }

    async fn release(&mut self, holder: &str) {
        let Ok(Some(mut found)) = self.api.get_opt(NAME).await else {
            return;
        };
        let Some(spec) = &mut found.spec else {
            return;
        };
        if spec.holder_identity.as_deref() == Some(holder) {
            spec.holder_identity = None;
            let params = PostParams::default();
            // What cannot be given back ends by itself.
            drop(self.api.replace(NAME, &params, &found).await);
        }
    }
}

fn record(before: Option<Record>, holder: &str, duration: Duration, now: Timestamp) -> Record {
    let (metadata, old) = match before {
        Some(record) => (record.metadata, record.spec.unwrap_or_default()),
        None => (ObjectMeta::default(), LeaseSpec::default()),
    };
    let ours = old.holder_identity.as_deref() == Some(holder);
    let seconds = i32::try_from(duration.as_secs().max(1)).unwrap_or(i32::MAX);
    let changes = old.lease_transitions.unwrap_or(0);
    Record {
        metadata: ObjectMeta {
            name: Some(NAME.to_owned()),
            // A version: whoever wrote meanwhile wins.
            ..metadata
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(holder.to_owned()),
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

fn judge(sight: &mut Sight, record: Option<&Record>, identity: &str, now: Instant) -> Move {
    let Some(record) = record else {
        sight.forget();
        return Move::Create;
    };
    let spec = record.spec.as_ref();
    let holder = spec
        .and_then(|it| it.holder_identity.as_deref())
        .unwrap_or("");
    if holder.is_empty() || holder == identity {
        sight.forget();
        return Move::Take;
    }
    let version = record.metadata.resource_version.as_deref();
    let said = spec.and_then(|it| it.lease_duration_seconds);
    let said = said.and_then(|it| u64::try_from(it).ok());
    let lasts = Duration::from_secs(said.unwrap_or(0));
    match sight.is_silent(version.unwrap_or_default(), lasts, now) {
        true => Move::Take,
        false => Move::Leave,
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
        assert_eq!(judge(&mut sight, None, "me", at(0)), Move::Create);
        assert_eq!(
            judge(&mut sight, Some(&held("", "1")), "me", at(0)),
            Move::Take
        );
        assert_eq!(
            judge(&mut sight, Some(&held("me", "1")), "me", at(0)),
            Move::Take
        );
        // Seen for the first time, whatever its times say: it counts from now.
        let other = held("other", "2");
        assert_eq!(judge(&mut sight, Some(&other), "me", at(1)), Move::Leave);
        assert_eq!(judge(&mut sight, Some(&other), "me", at(15)), Move::Leave);
        // It was renewed: the wait begins again.
        let renewed = held("other", "3");
        assert_eq!(judge(&mut sight, Some(&renewed), "me", at(16)), Move::Leave);
        assert_eq!(judge(&mut sight, Some(&renewed), "me", at(30)), Move::Leave);
        assert_eq!(judge(&mut sight, Some(&renewed), "me", at(31)), Move::Take);
    }
}
