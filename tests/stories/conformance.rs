//! One set of cases for each store: equal documents give the filters equal bytes, equal
//! faults are named in equal words, whatever keeps the registry (invariant 6, RG-7, RM-12).

use anyhow::{Context, Result, ensure};
use harness::{Bootstrap, Envoy, Home, Kind, SOON, Sidecar, eventually};
use serde_json::{Value, json};

/// What the sidecar makes of a registry.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    /// What the filters are sent, to the byte.
    configuration: String,
    /// The records that were refused, each with its place and what is wrong.
    rejected: Value,
    /// Its clusters as `/status` shows them, without what only time tells.
    clusters: Value,
}

/// The registries of the suite, one after the other, each an edit of the one before.
fn steps() -> Vec<Vec<Value>> {
    let plain = json!({"name": "plain", "backends": [{"address": "127.0.0.1:8081"}]});
    let full = json!({
        "name": "full",
        "loadBalancing": {"policy": "LeastLoaded", "metric": "Latency"},
        "sticky": {"cookie": "C", "path": "/shop", "httpOnly": false, "sameSite": "Strict"},
        "healthCheck": {"tcp": {}, "interval": "1h", "timeout": "1.5s", "unhealthyThreshold": 5},
        "retry": {"attempts": 2, "on": ["Reset", 503], "perTryTimeout": "2s"},
        "backoff": {"base": "500ms", "max": "30s"},
        "passive": {
            "failures": ["ConnectFailure", "ServerError", "grpc:14"], "consecutive": 2,
            "maxEjectedPercent": 20,
            "cooldown": {"statuses": [429, 529, "grpc:8"], "base": "2s", "max": "30s"},
        },
        "timeouts": {"connect": "250ms"},
        "whenAllUnhealthy": "Refuse",
        "limits": {"maxRequests": 9, "maxPendingRequests": 8, "maxConnections": 7,
            "maxStreamsPerClient": 6, "retryAfter": "5s"},
        "rateLimit": {"perSecond": 4},
        "jsonRpc": {"maxBatch": 7, "errors": "Map", "methods": ["eth_call", "eth_b"]},
        "refusal": {"body": "away"},
        "backends": [
            {"id": "b", "address": "127.0.0.1:8082", "weight": 0, "backup": true},
            {"id": "a", "address": "[::1]:8082", "stickyId": "s", "state": "Draining"},
            {"id": "c", "address": "127.0.0.1:8083", "state": "Cordoned", "maxInFlight": 3,
                "rateLimit": {"perSecond": 2, "burst": 1}},
        ],
    });
    let affine = json!({
        "name": "affine",
        "loadBalancing": {
            "policy": "Maglev", "affinity": {"header": "X-User"}, "maglevTableSize": 251,
            "shuffleShard": {"percent": 50, "whenExhausted": "Refuse"},
        },
    });
    let ranked = json!({
        "name": "ranked",
        "loadBalancing": {"policy": "Tiered", "smoothing": 0.3, "initialLatency": "1.5s"},
    });
    let empty = json!({"name": "empty.one-2"});
    // Faults that no store can see by itself.
    let twice = json!({"name": "plain", "backends": [
        {"id": "x", "address": "127.0.0.1:8081"}, {"id": "x", "address": "127.0.0.1:8082"}]});
    let fresh = json!({"name": "fresh", "backends": [
        {"id": "y", "address": "127.0.0.1:1"}, {"id": "y", "address": "127.0.0.1:1"}]});
    let mended = json!({"name": "plain", "backends": [{"id": "x", "address": "127.0.0.1:8084"}]});
    vec![
        vec![
            plain.clone(),
            full.clone(),
            affine.clone(),
            ranked.clone(),
            empty.clone(),
        ],
        vec![twice, full.clone(), affine, ranked, empty.clone(), fresh],
        vec![mended, full, empty],
    ]
}

/// Brings the registry to each step and tells what came of it. Demo mode has no other way than this
/// one either: whatever is asked of a store holds without one.
async fn outcomes(kind: Kind) -> Result<Vec<Outcome>> {
    let mut store = kind.start().await?;
    let steps = steps();
    for document in &steps[0] {
        store.keep(document).await?;
    }
    let sidecar = Sidecar::start(&store).await?;
    let envoy = Envoy::start(Bootstrap::ads(sidecar.xds_address())?).await?;
    let mut outcomes = vec![outcome(&sidecar, &envoy, 0).await?];
    for pair in steps.windows(2) {
        for document in &pair[1] {
            store.keep(document).await?;
        }
        for gone in &pair[0] {
            if pair[1].iter().all(|it| it["name"] != gone["name"]) {
                store
                    .discard(gone["name"].as_str().context("no name")?)
                    .await?;
            }
        }
        let faults = if outcomes.len() == 1 { 2 } else { 0 };
        outcomes.push(outcome(&sidecar, &envoy, faults).await?);
    }
    envoy.stop().await?;
    sidecar.stop().await?;
    Ok(outcomes)
}

/// Waits until so many records are refused and Envoy has what the sidecar serves.
async fn outcome(sidecar: &Sidecar, envoy: &Envoy, faults: usize) -> Result<Outcome> {
    eventually(SOON, "Envoy to have what is served", async || {
        let mut status = sidecar.status().await?;
        let mut rejected = status["registry"]["rejected"].take();
        let list = rejected.as_array_mut().context("rejected")?;
        ensure!(list.len() == faults, "{list:?}");
        list.sort_by_key(ToString::to_string);
        let configuration = configuration(envoy).await?;
        let parsed: Value = serde_json::from_str(&configuration)?;
        let (has, wants) = (&parsed["revision"], &status["registry"]["revision"]);
        ensure!(has == wants, "{has} is not {wants}");
        let mut clusters = status["clusters"].take();
        for backend in clusters.as_array_mut().into_iter().flatten() {
            for backend in backend["backends"].as_array_mut().into_iter().flatten() {
                backend["lastCheckAgo"].take();
                backend["lastFailureReason"].take();
                backend["failures"].take();
                backend["healthy"].take();
            }
            backend["healthy"].take();
            backend["halfHealthy"].take();
        }
        Ok(Outcome {
            configuration,
            rejected,
            clusters,
        })
    })
    .await
}

/// The filter's configuration as Envoy has it.
async fn configuration(envoy: &Envoy) -> Result<String> {
    let dump = envoy.config_dump().await?;
    let sections = dump["configs"].as_array().context("configs")?;
    let filters = sections
        .iter()
        .filter_map(|it| it["ecds_filters"].as_array());
    let ours = filters.flatten().map(|filter| &filter["ecds_filter"]);
    let mut values = ours
        .filter(|filter| filter["name"] == "pointsman")
        .filter_map(|filter| filter["typed_config"]["config"]["configuration"]["value"].as_str());
    Ok(values.next().context("no filter yet")?.to_owned())
}

#[tokio::test]
async fn rm_12_demo_mode_keeps_the_suites_promises() -> Result<()> {
    let outcomes = outcomes(Kind::File).await?;
    let [first, broken, mended] = outcomes.as_slice() else {
        anyhow::bail!("{outcomes:?}");
    };
    // The last good version serves on: the same bytes as before.
    assert_eq!(first.configuration, broken.configuration);
    assert_ne!(broken.configuration, mended.configuration);
    let twice = "clusters.plain.backends[1].id: must be unique, but \"x\" stands above";
    let said = broken.rejected.to_string();
    ensure!(said.contains(&twice.replace('"', "\\\"")), "{said}");
    Ok(())
}

#[tokio::test]
async fn rg_7_every_store_is_as_good_as_demo_mode() -> Result<()> {
    let demo = outcomes(Kind::File).await?;
    for kind in Kind::all("rg_7_every_store_is_as_good")? {
        if kind != Kind::File {
            assert_eq!(outcomes(kind).await?, demo, "{kind:?}");
        }
    }
    Ok(())
}
