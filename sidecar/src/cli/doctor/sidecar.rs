//! What the sidecar says of its proxies, beside what this Envoy says of itself.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use serde_json::Value;

use super::super::client::Answer;
use super::clocks;
use super::envoy::Envoy;
use super::finding::Finding;

/// All that is wrong between the sidecar and its proxies. `status` is its `/status`, or why there is none;
/// `ahead` how far Envoy's clock is ahead of this machine's.
pub fn findings(
    status: &Result<Answer, String>,
    ahead: Option<SignedDuration>,
    envoy: &Envoy<'_>,
) -> Vec<Finding> {
    let mut found: Vec<Finding> = disconnected(envoy).into_iter().collect();
    let answer = match status {
        Ok(answer) => answer,
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
    let status = &answer.body;
    let store = status["registry"]["store"]["clockAheadMs"].as_i64();
    let store = store.map(SignedDuration::from_millis);
    found.extend(store.and_then(|ahead| clocks::finding("the store's", ahead)));
    found.extend(shadowed(status, envoy));
    let revision = status["registry"]["revision"].as_str();
    for proxy in status["proxies"].as_array().into_iter().flatten() {
        found.extend(of_proxy(proxy, revision));
    }
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

fn shadowed(status: &Value, envoy: &Envoy<'_>) -> Option<Finding> {
    let known = status["clusters"].as_array().into_iter().flatten();
    let known: BTreeSet<&str> = known.filter_map(|it| it["name"].as_str()).collect();
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

fn of_proxy(proxy: &Value, revision: Option<&str>) -> Vec<Finding> {
    let node = proxy["node"].as_str().unwrap_or("?");
    let mut found = Vec::new();
    let streams: Vec<&Value> = proxy["streams"].as_array().into_iter().flatten().collect();
    let processes = proxy["processes"].as_array().map_or(0, Vec::len);
    if streams.len() > 1 || proxy["doubled"] == true {
        found.push(Finding {
            check: "doubled-node",
            what: format!(
                "{} Envoys say that they are {node}",
                streams.len().max(processes)
            ),
            why: "nobody can tell which of them is behind, refuses what it is sent, or fails",
            mend: "give every Envoy a node.id of its own (--service-node)",
        });
    }
    let types = streams
        .iter()
        .filter_map(|it| it["types"].as_object())
        .flatten();
    for (kind, progress) in types {
        if let Some(error) = progress["nacked"]["error"].as_str() {
            found.push(Finding {
                check: "nack",
                what: format!("{node} refuses {kind}: {error}"),
                why: "it goes on with what it had before",
                mend: "the text says what Envoy cannot take; `pointsman get config` shows what it was sent",
            });
        }
    }
    if let Some(refused) = proxy["refused"]["reason"].as_str() {
        found.push(Finding {
            check: "refused-configuration",
            what: format!("the filter in {node} refuses its configuration: {refused}"),
            why: "it goes on with the registry that it had before",
            mend: "run the module of the sidecar's version",
        });
    }
    let runs = proxy["revisions"].as_array().into_iter().flatten();
    let behind: Vec<&str> = runs
        .filter_map(Value::as_str)
        .filter(|it| Some(*it) != revision)
        .collect();
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
    use serde_json::json;

    fn checks(proxy: &Value) -> Vec<&'static str> {
        let found = of_proxy(proxy, Some("new"));
        found.iter().map(|finding| finding.check).collect()
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
    }
}
