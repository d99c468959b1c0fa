//! Rate limits of backends, on Envoy: what one cannot take others get, and who must come again is told
//! when.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use harness::client::get;
use harness::clock::Clock;
use harness::registry::{backend, backup, cluster};
use harness::{Behaviour, Client, Envoy, Load, Upstream};
use serde_json::{Value, json};

use crate::scene::{
    CLUSTER, Requests, backends, bootstrap, figure, in_flight, serve, wait_for_figure,
    wait_for_figure_at_least,
};

const WORKERS: u32 = 4;

/// A backend's entry with a rate limit.
fn limited(upstream: &Upstream, per_second: u32, burst: u32) -> Value {
    let mut entry = backend(upstream);
    entry["rateLimit"] = json!({"perSecond": per_second, "burst": burst});
    entry
}

/// [`CLUSTER`] of these entries, in turn.
fn document(entries: &[Value]) -> Value {
    json!({"name": CLUSTER, "backends": entries, "loadBalancing": {"policy": "RoundRobin"}})
}

async fn on_four_workers(document: &Value) -> Result<Envoy> {
    let bootstrap = bootstrap(document)?.concurrency(WORKERS).exact_balance()?;
    Envoy::start(bootstrap).await
}

/// RL-2: each request that the limited one would have had and did not get is a deferral.
#[tokio::test]
async fn rl_2_what_a_limited_backend_cannot_take_others_get() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let envoy = on_four_workers(&document(&[limited(&a, 20, 10), backup(&b)])).await?;
    let load = Load::new(envoy.address(), 2000)
        .connections(8)
        .per_second(800);
    let tally = load.run().await?;
    tally.ensure_clean()?;
    let (a, b) = (tally.by("a"), tally.by("b"));
    let deferred = wait_for_figure_at_least(&envoy, "picks_total", "deferred", b).await?;
    println!("primary limited: {a} by a, {b} by its backup, {deferred} deferred");
    ensure!(deferred == b && a + b == 2000 && a >= 10, "{deferred}");
    ensure!(figure(&envoy, "picks_total", "unpaid").await? * 100 <= 2000);
    Ok(())
}

/// RL-2: 99 of 100 have no token; no request fails, and no worker looks for one in vain.
#[tokio::test]
async fn rl_2_the_last_of_a_hundred_with_tokens_serves() -> Result<()> {
    let upstreams: Result<Vec<Upstream>> = (0..100)
        .map(|nth| Upstream::new(&format!("b{nth}")))
        .collect();
    let upstreams = upstreams?;
    let mut entries: Vec<Value> = upstreams.iter().map(|it| limited(it, 1, 1)).collect();
    entries[99] = backend(&upstreams[99]);
    for policy in ["RoundRobin", "PowerOfTwo"] {
        let mut document = document(&entries);
        document["loadBalancing"]["policy"] = policy.into();
        let envoy = on_four_workers(&document).await?;
        let start = Instant::now();
        let tally = Load::new(envoy.address(), 3000)
            .connections(8)
            .run()
            .await?;
        tally.ensure_clean()?;
        let took = start.elapsed();
        let (free, others) = (tally.by("b99"), 3000 - tally.by("b99"));
        let deferred = figure(&envoy, "picks_total", "deferred").await?;
        println!(
            "{policy}: {free} by the one without a limit, {others} by 99 others in {took:?}, {deferred} deferred"
        );
        // A token each, and one more a second.
        ensure!(others <= 99 * (2 + took.as_secs()), "{:?}", tally.backends);
        ensure!(deferred >= 1000, "{deferred} deferred");
        envoy.stop().await?;
    }
    Ok(())
}

/// RL-3: who waits for exactly as long as it is told is served; a gRPC client is told in its own words.
#[tokio::test]
async fn rl_3_who_must_come_again_is_told_when() -> Result<()> {
    let [a] = backends(["a"])?;
    let clock = Clock::new()?;
    let mut entry = limited(&a, 1, 3);
    entry["maxInFlight"] = json!(1000);
    let envoy = Envoy::start_by(bootstrap(&document(&[entry]))?, &clock).await?;
    let mut client = envoy.client();
    let mut ahead_ms = 0;
    for round in 0..3 {
        let mut served = 0;
        let refused = loop {
            let response = client.get("/").await?;
            if response.status != 200 {
                break response;
            }
            served += 1;
        };
        let seconds: i64 = refused
            .header("retry-after")
            .context("no Retry-After")?
            .parse()?;
        println!(
            "{served} served, then {} retry-after {seconds}: {}",
            refused.status,
            refused.text()
        );
        ensure!(refused.status == 429 && refused.text().contains("all_limited"));
        ensure!(
            seconds == 1 && (served >= 3 || round > 0),
            "{seconds} s, {served}"
        );
        ahead_ms += seconds * 1000;
        clock.step_to(ahead_ms)?;
        let response = client.get("/").await?;
        ensure!(response.status == 200, "{}", response.status);
    }
    let refused = figure(&envoy, "refusals_total", "all_limited").await?;
    ensure!(refused == 3, "{refused}");

    let mut call = get("/orders.Orders/List");
    call.headers_mut()
        .insert("content-type", "application/grpc".parse()?);
    let told = loop {
        let told = client.send(call.clone()).await?;
        if told.header("grpc-status") != Some("0") && told.backend().is_none() {
            break told;
        }
    };
    let grpc = (
        told.status.as_u16(),
        told.header("grpc-status"),
        told.header("retry-after"),
    );
    println!("gRPC: {grpc:?}");
    ensure!(
        grpc == (200, Some("8"), Some("1")) && told.body.is_empty(),
        "{grpc:?}"
    );
    Ok(())
}

/// RL-1: a clock that is set neither empties a bucket nor freezes one.
#[tokio::test]
async fn rl_1_a_clock_that_is_set_neither_empties_nor_freezes_a_bucket() -> Result<()> {
    let [a] = backends(["a"])?;
    let clock = Clock::new()?;
    // A burst takes longer to come than the clock steps.
    let document = document(&[limited(&a, 1, 10_000)]);
    let envoy = Envoy::start_by(bootstrap(&document)?, &clock).await?;
    let hour_ms = 3_600_000;
    let mut client = envoy.client();
    client.get("/").await?;
    for ahead_ms in [-hour_ms, hour_ms, 0] {
        clock.step_to(ahead_ms)?;
        let tally = Load::new(envoy.address(), 500).run().await?;
        println!("{} ms ahead: {:?}", ahead_ms, tally.statuses);
        tally.ensure_clean()?;
    }
    let empty = Load::new(envoy.address(), 11_000)
        .connections(8)
        .run()
        .await?;
    let refused = empty.statuses.get(&429).copied().unwrap_or_default();
    ensure!(refused > 0, "the bucket is not empty: {:?}", empty.statuses);
    clock.step_to(-hour_ms)?;
    let tally = Load::new(envoy.address(), 500).run().await?;
    println!(
        "empty ({refused} refused), then an hour back: {:?}",
        tally.statuses
    );
    tally.ensure_clean()
}

/// `maxInFlight` sends elsewhere like an empty bucket; where everybody is full it is 429, and nobody
/// knows until when.
#[tokio::test]
async fn who_has_its_most_in_flight_is_passed_by() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let most = |upstream: &Upstream, max: u32| {
        let mut entry = backend(upstream);
        entry["maxInFlight"] = json!(max);
        entry
    };
    let mut spare = most(&b, 3);
    spare["backup"] = json!(true);
    let envoy = serve(&document(&[most(&a, 2), spare])).await?;
    a.set(Behaviour::Hold);
    b.set(Behaviour::Hold);
    let requests = Requests::send(envoy.address(), 5);
    let each = in_flight(&[&a, &b], 5).await?;
    let full = envoy.client().get("/").await?;
    println!(
        "{each:?} in flight; the sixth: {} {}",
        full.status,
        full.text()
    );
    ensure!(each == [2, 3], "{each:?}");
    ensure!(full.status == 429 && full.header("retry-after").is_none());
    wait_for_figure(&envoy, "picks_total", "deferred", 3).await?;
    a.set(Behaviour::Ok);
    b.set(Behaviour::Ok);
    let answers = requests.answers().await?;
    ensure!(answers.iter().all(|answer| answer.status == 200));
    let next = envoy.client().get("/").await?;
    ensure!(next.backend() == Some("a"), "{next:?}");
    Ok(())
}

/// RL-2: a client whose backend has no token is served by another, and keeps its cookie.
#[tokio::test]
async fn rl_2_a_sticky_client_keeps_its_cookie() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let mut document = document(&[limited(&a, 1, 1), backend(&b)]);
    document["sticky"] = json!({"cookie": "P"});
    let envoy = serve(&document).await?;
    let mut client = envoy.client();
    let send = async |client: &mut Client| {
        let mut request = get("/");
        request.headers_mut().insert("cookie", "P=a".parse()?);
        client.send(request).await
    };
    let mut elsewhere = 0;
    for _ in 0..20 {
        let response = send(&mut client).await?;
        ensure!(response.status == 200 && response.header("set-cookie").is_none());
        elsewhere += usize::from(response.backend() == Some("b"));
    }
    println!("{elsewhere} of 20 were served elsewhere, none with a new cookie");
    ensure!(elsewhere >= 10, "{elsewhere}");
    ensure!(figure(&envoy, "picks_total", "sticky_lost").await? == 0);
    Ok(())
}

/// What is not limited is no more written of than before.
#[tokio::test]
async fn a_cluster_without_limits_defers_nothing() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let envoy = serve(&cluster(CLUSTER, &[&a, &b], json!({}))).await?;
    Load::new(envoy.address(), 200)
        .run()
        .await?
        .ensure_clean()?;
    ensure!(figure(&envoy, "picks_total", "deferred").await? == 0);
    Ok(())
}
