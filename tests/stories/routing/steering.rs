//! No client steers a pick, a retry or a timeout.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::client::get;
use harness::registry::{Registry, cluster};
use harness::{Behaviour, Bootstrap, Client, Envoy, Sidecar, Upstream, artefacts};
use serde_json::{Value, json};

use crate::scene::{self, CLUSTER, backends, cluster_stat};

const LIST: &str = "x-gateway-destination-endpoint";

/// Every request header by which Envoy's router lets a request decide something for itself, with
/// the boldest value.
fn wishes(favourite: &Upstream) -> Vec<(&'static str, String)> {
    let address = favourite.address().to_string();
    let mut wishes = vec![
        (LIST, address.clone()),
        ("x-envoy-original-dst-host", address),
    ];
    wishes.extend(
        [
            ("x-envoy-max-retries", "5"),
            (
                "x-envoy-retry-on",
                "5xx,retriable-status-codes,retriable-headers",
            ),
            ("x-envoy-retry-grpc-on", "unavailable,internal"),
            ("x-envoy-retriable-status-codes", "500,503"),
            ("x-envoy-retriable-header-names", "x-backend"),
            ("x-envoy-hedge-on-per-try-timeout", "true"),
            ("x-envoy-upstream-rq-per-try-timeout-ms", "20"),
            ("x-envoy-upstream-rq-timeout-ms", "40"),
            ("x-envoy-upstream-rq-timeout-alt-response", "1"),
            ("x-envoy-upstream-stream-duration-ms", "40"),
            ("x-envoy-expected-rq-timeout-ms", "40"),
            ("x-envoy-upstream-alt-stat-name", "mine"),
        ]
        .map(|(name, value)| (name, value.to_owned())),
    );
    wishes
}

/// Envoy takes the client for an internal one, the kind that it obeys.
fn trusting(bootstrap: Bootstrap) -> Bootstrap {
    bootstrap.edit(|root| {
        let path = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
        if let Some(manager) = root.pointer_mut(path) {
            manager["use_remote_address"] = true.into();
            manager["internal_address_config"] =
                json!({"cidr_ranges": [{"address_prefix": "127.0.0.0", "prefix_len": 8}]});
        }
    })
}

/// A weightless favourite, that no pick of ours ever goes to, and a backend for everybody.
fn document(favourite: &Upstream, other: &Upstream) -> Value {
    let mut document = cluster(CLUSTER, &[favourite, other], json!({}));
    document["backends"][0]["weight"] = 0.into();
    document
}

/// Sends a request with the wishes and returns its status.
async fn send_wishes(client: &mut Client, wishes: &[(&'static str, String)]) -> Result<u16> {
    let mut request = get("/");
    for (name, value) in wishes {
        request.headers_mut().insert(*name, value.parse()?);
    }
    Ok(client.send(request).await?.status.as_u16())
}

/// Fails when these wishes together have any effect.
async fn ensure_in_vain(
    client: &mut Client,
    wishes: &[(&'static str, String)],
    favourite: &Upstream,
    other: &Upstream,
) -> Result<()> {
    favourite.forget();
    other.forget();
    other.set(Behaviour::Slow(Duration::from_millis(120)));
    let slow = send_wishes(client, wishes).await?;
    ensure!(slow == 200, "a slow answer became {slow}");
    other.set(Behaviour::status(503));
    let failing = send_wishes(client, wishes).await?;
    ensure!(failing == 503, "a 503 became {failing}");
    let hits = (favourite.hits(), other.hits());
    ensure!(hits == (0, 2), "a pick or a retry: {hits:?}");
    for request in other.requests() {
        for (name, value) in wishes {
            ensure!(
                request.header(name) != Some(value),
                "passed on to the backend"
            );
        }
    }
    Ok(())
}

/// Whether a client has named a stat.
async fn has_a_stat_of_its_own(envoy: &Envoy) -> Result<bool> {
    Ok(!envoy.stats(r"\.mine\.").await?.is_empty())
}

/// All wishes at once, and each alone.
async fn ensure_all_in_vain(envoy: &Envoy, favourite: &Upstream, other: &Upstream) -> Result<()> {
    let all = wishes(favourite);
    let mut client = envoy.client();
    ensure_in_vain(&mut client, &all, favourite, other).await?;
    for wish in &all {
        let alone = std::slice::from_ref(wish);
        ensure_in_vain(&mut client, alone, favourite, other)
            .await
            .context(wish.0)?;
    }
    let named = has_a_stat_of_its_own(envoy).await?;
    ensure!(!named, "a stat of the client's naming");
    println!("in vain, alone and together: {} headers", all.len());
    Ok(())
}

#[tokio::test]
async fn an_internal_client_steers_nothing_past_the_static_bootstrap() -> Result<()> {
    let [favourite, other] = backends(["favourite", "other"])?;
    let bootstrap = trusting(scene::bootstrap(&document(&favourite, &other))?);
    let envoy = Envoy::start(bootstrap).await?;
    ensure_all_in_vain(&envoy, &favourite, &other).await
}

#[tokio::test]
async fn an_internal_client_steers_nothing_past_the_ads_bootstrap() -> Result<()> {
    let [favourite, other] = backends(["favourite", "other"])?;
    let registry = Registry::new(vec![document(&favourite, &other)])?;
    let sidecar = Sidecar::start(&registry).await?;
    let envoy = Envoy::start(trusting(Bootstrap::ads(sidecar.xds_address())?)).await?;
    scene::wait_for_figure(&envoy, "total_backends", "", 2).await?;
    ensure_all_in_vain(&envoy, &favourite, &other).await
}

/// The same client where the headers are let in: the stories above can fail.
#[tokio::test]
async fn without_the_early_mutation_an_internal_client_would_steer() -> Result<()> {
    let [favourite, other] = backends(["favourite", "other"])?;
    let mut bootstrap = trusting(scene::bootstrap(&document(&favourite, &other))?);
    let manager = bootstrap
        .manager_mut()?
        .as_object_mut()
        .context("a manager")?;
    manager
        .remove("early_header_mutation_extensions")
        .context("it is shipped")?;
    let envoy = Envoy::start(bootstrap).await?;
    let mut client = envoy.client();
    let mut true_ones = Vec::new();
    for wish in wishes(&favourite) {
        let alone = std::slice::from_ref(&wish);
        if let Err(effect) = ensure_in_vain(&mut client, alone, &favourite, &other).await {
            println!("{}: {effect}", wish.0);
            true_ones.push(wish.0);
        }
    }
    if has_a_stat_of_its_own(&envoy).await? {
        true_ones.push("x-envoy-upstream-alt-stat-name");
    }
    // The filter itself writes the list, how often is tried and on what; the rest only says how.
    let wanted = [
        "x-envoy-original-dst-host",
        "x-envoy-upstream-rq-per-try-timeout-ms",
        "x-envoy-upstream-rq-timeout-ms",
        "x-envoy-upstream-stream-duration-ms",
        "x-envoy-expected-rq-timeout-ms",
        "x-envoy-upstream-alt-stat-name",
    ];
    assert_eq!(true_ones, wanted);
    Ok(())
}

fn faulty() -> Result<PathBuf> {
    artefacts::built("faulty.wasm")
}

async fn kill_the_vm(client: &mut Client) -> Result<()> {
    let mut request = get("/");
    request.headers_mut().insert("x-fault", "trap".parse()?);
    assert_eq!(client.send(request).await?.status, 503);
    Ok(())
}

/// While its VM is dead a worker answers 503, whatever the client wishes, and nobody is asked.
#[tokio::test]
async fn no_client_steers_while_the_vm_is_dead() -> Result<()> {
    let [favourite, other] = backends(["favourite", "other"])?;
    let mut bootstrap =
        trusting(scene::bootstrap(&document(&favourite, &other))?).module(&faulty()?)?;
    let config = bootstrap.filter_mut("pointsman")?;
    config["typed_config"]["config"]["reload_config"]["backoff"]["base_interval"] = "60s".into();
    let mut envoy = Envoy::start(bootstrap).await?;
    envoy.expect_traps();
    let mut client = envoy.client();
    kill_the_vm(&mut client).await?;
    for _ in 0..20 {
        assert_eq!(send_wishes(&mut client, &wishes(&favourite)).await?, 503);
    }
    println!(
        "FAIL_RELOAD, VM dead: 20 of 20 answered 503, {} hits",
        favourite.hits() + other.hits()
    );
    assert_eq!(favourite.hits() + other.hits(), 0);
    Ok(())
}

/// The other choice for a dead VM, FAIL_OPEN: Envoy's fallback balances, and no wish comes true
/// there either.
#[tokio::test]
async fn no_client_steers_while_a_dead_vm_is_passed_by() -> Result<()> {
    let [favourite, other] = backends(["favourite", "other"])?;
    let mut bootstrap =
        trusting(scene::bootstrap(&document(&favourite, &other))?).module(&faulty()?)?;
    let config = &mut bootstrap.filter_mut("pointsman")?["typed_config"]["config"];
    config["failure_policy"] = "FAIL_OPEN".into();
    config
        .as_object_mut()
        .context("a filter's config")?
        .remove("reload_config");
    let mut envoy = Envoy::start(bootstrap).await?;
    envoy.expect_traps();
    let mut client = envoy.client();
    kill_the_vm(&mut client).await?;
    favourite.set(Behaviour::status(503));
    other.set(Behaviour::status(503));
    for _ in 0..100 {
        assert_eq!(send_wishes(&mut client, &wishes(&favourite)).await?, 503);
    }
    let retries = envoy.stat(&cluster_stat("upstream_rq_retry")).await?;
    let hits = [favourite.hits(), other.hits()];
    println!(
        "FAIL_OPEN, VM dead: 100 GETs with every wish: favourite, other {hits:?}, {retries} retries"
    );
    assert_eq!((hits[0] + hits[1], retries), (100, 0));
    ensure!(hits[1] >= 20, "the client's list was obeyed");
    Ok(())
}
