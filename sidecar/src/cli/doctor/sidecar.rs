//! What the sidecar says of its proxies, beside what this Envoy says of itself.

use std::collections::BTreeSet;

use jiff::SignedDuration;

use super::super::client::Answer;
use super::clocks;
use super::envoy::Envoy;
use super::finding::Finding;
use crate::api::{Proxy, Status};

/// All that is wrong between the sidecar and its proxies. `status` is its `/status`, or why there is none;
/// `ahead` how far Envoy's clock is ahead of this machine's.
pub fn findings(
    status: &Result<(Answer, Status), String>,
    ahead: Option<SignedDuration>,
    envoy: &Envoy<'_>,
) -> Vec<Finding> {
    let mut found: Vec<Finding> = disconnected(envoy).into_iter().collect();
    let (answer, status) = match status {
        Ok(answered) => answered,
        Err(why) => {
            found.push(Finding {
                check: "sidecar-unreachable",
                what: why.clone(),
                why: "nothing can be said of the registry, of verdicts and of what other proxies run",
                mend: "start it, or say --address and --token; --no-sidecar where there is none",
            });
            return found;
        }
    };
    if let (Some(envoy), Some(sidecar)) = (ahead, answer.ahead) {
        found.extend(clocks::finding("Envoy's", envoy - sidecar));
    }
    let store = status.registry.store.clock_ahead_ms;
    let store = store.map(SignedDuration::from_millis);
    found.extend(store.and_then(|ahead| clocks::finding("the store's", ahead)));
    found.extend(slow(status));
    found.extend(shadowed(status, envoy));
    let revision = status.registry.revision.as_deref();
    let proxies = status.proxies.iter();
    found.extend(proxies.flat_map(|proxy| of_proxy(proxy, revision)));
    found
}

fn disconnected(envoy: &Envoy<'_>) -> Option<Finding> {
    envoy.is_connected().filter(|it| !it).map(|_| Finding {
        check: "disconnected",
        what: format!("Envoy {} has no stream to its control plane", envoy.node()),
        why: "it serves what it knew last, and hears of no change",
        mend: "look at the cluster pointsman_sidecar of its bootstrap, and at the token",
    })
}

/// Longest full reading of a store that holds nothing up, ms.
const LISTING_MAX_MS: u64 = 1000;

fn slow(status: &Status) -> Option<Finding> {
    let took = status.registry.store.listing_ms;
    took.filter(|took| *took > LISTING_MAX_MS).map(|took| Finding {
        check: "slow-store",
        what: format!("reading all of the registry's store takes {took} ms"),
        why: "every change waits while it is read, each POINTSMAN_RECONCILE_INTERVAL and after an outage",
        mend: "give the registry a Redis database of its own: all keys of the database are looked at",
    })
}

fn shadowed(status: &Status, envoy: &Envoy<'_>) -> Option<Finding> {
    let known: BTreeSet<&str> = status.clusters.iter().map(|it| it.name.as_str()).collect();
    let both: Vec<&str> = envoy
        .static_clusters()
        .filter(|it| known.contains(it))
        .collect();
    (!both.is_empty()).then(|| Finding {
        check: "shadowed-cluster",
        what: format!("the bootstrap has the registry's {}", both.join(", ")),
        why: "Envoy keeps its own cluster of that name, and no change of the registry reaches it",
        mend: "take it out of the bootstrap, or give it another name",
    })
}

fn of_proxy(proxy: &Proxy, revision: Option<&str>) -> Vec<Finding> {
    let node = &proxy.node;
    let mut found = Vec::new();
    if proxy.streams.len() > 1 || proxy.doubled {
        let count = proxy.streams.len().max(proxy.processes.len());
        found.push(Finding {
            check: "doubled-node",
            what: format!("{count} Envoys say that they are {node}"),
            why: "nobody can tell which of them is behind, refuses what it is sent, or fails",
            mend: "give every Envoy a node.id of its own (--service-node)",
        });
    }
    for (kind, progress) in proxy.streams.iter().flat_map(|it| &it.types) {
        if let Some(nacked) = &progress.nacked {
            let what = nacked.resource.as_ref().unwrap_or(kind);
            found.push(Finding {
                check: "nack",
                what: format!("{node} refuses {what}: {}", nacked.error),
                why: "it goes on with what it had before",
                mend: "the text says what Envoy cannot take; `pointsman get config` shows what it was sent",
            });
        }
    }
    if let Some(refused) = &proxy.refused {
        found.push(Finding {
            check: "refused-configuration",
            what: format!(
                "the filter in {node} refuses its configuration: {}",
                refused.reason
            ),
            why: "it goes on with the registry that it had before",
            mend: "run the module of the sidecar's version",
        });
    }
    let runs = proxy.revisions.iter().flatten().map(String::as_str);
    let behind: Vec<&str> = runs.filter(|it| Some(*it) != revision).collect();
    if !behind.is_empty() {
        found.push(Finding {
            check: "revision-behind",
            what: format!("workers of {node} run {}, not {}", behind.join(", "), revision.unwrap_or("?")),
            why: "they route by an older registry",
            mend: "a change of this moment needs a second; else look for a refusal above, or a stuck worker",
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::{Value, json};

    fn checks(proxy: &Value) -> Vec<&'static str> {
        let proxy = Proxy::deserialize(proxy).expect("a proxy");
        let found = of_proxy(&proxy, Some("new"));
        found.iter().map(|finding| finding.check).collect()
    }

    #[test]
    fn a_store_that_is_read_for_long_is_slow() {
        let status = |took| {
            let mut status = Status::default();
            status.registry.store.listing_ms = took;
            status
        };
        assert!(slow(&status(Some(1000))).is_none() && slow(&status(None)).is_none());
        let found = slow(&status(Some(1001))).unwrap();
        assert_eq!(
            found.what,
            "reading all of the registry's store takes 1001 ms"
        );
    }

    #[test]
    fn a_proxy_is_behind_or_refuses_or_is_well() {
        let stream = json!({"types": {"clusters": {"acked": "1", "nacked": null}}});
        let well = json!({"node": "a", "revisions": ["new"], "refused": null, "streams": [stream]});
        assert_eq!(checks(&well), [""; 0]);
        let fresh = json!({"node": "a", "revisions": null, "streams": [stream]});
        assert_eq!(checks(&fresh), [""; 0], "nothing served yet");
        let behind = json!({"node": "a", "revisions": ["new", "old"], "streams": [stream]});
        assert_eq!(checks(&behind), ["revision-behind"]);
        let refuses = json!({"node": "a", "revisions": ["new"], "refused": {"reason": "x"}});
        assert_eq!(checks(&refuses), ["refused-configuration"]);
        let twice = json!({"node": "a", "revisions": ["new"], "doubled": true});
        assert_eq!(checks(&twice), ["doubled-node"]);
    }
}
