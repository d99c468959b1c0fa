//! A backend that failed is left alone for a while, and for longer each time.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::envoy::Event;
use harness::registry::cluster;
use harness::{Behaviour, Bootstrap, Client, Envoy, Load, Upstream, eventually};
use serde_json::{Value, json};

use crate::scene::{
    self, CLUSTER, Requests, SOON, answered_by, backends, figure, in_flight, serve, wait_for_figure,
};

/// Far longer than the pause between two requests of a load, on a busy machine too.
const SLACK: Duration = Duration::from_secs(5);

/// Tries closer together than this were picked before the first of them was seen to fail.
const AT_ONCE: Duration = Duration::from_millis(50);

fn turns(base: &str, max: &str, tries: u32) -> Value {
    json!({
        "loadBalancing": {"policy": "RoundRobin"},
        "backoff": {"base": base, "max": max, "maxTries": tries},
    })
}

/// Keeps traffic up until the backend has been tried `count` times, and says how long it was left
/// alone in between, as it saw it itself. One request at a time: two could both be picked before
/// either has failed.
async fn pauses(envoy: &Envoy, bad: &Upstream, count: usize) -> Result<Vec<Duration>> {
    let load = Load::new(envoy.address(), u64::MAX)
        .connections(1)
        .per_second(200)
        .start();
    eventually(
        SOON,
        "the backend to be tried again and again",
        async || {
            let tried = tries(bad).len();
            ensure!(tried >= count, "{tried} times");
            Ok(())
        },
    )
    .await?;
    load.stop().await?.ensure_clean()?;
    Ok(tries(bad)
        .windows(2)
        .take(count - 1)
        .map(|two| two[1] - two[0])
        .collect())
}

/// When the backend was tried; requests that were picked before the first of them was seen to fail
/// try it at the same time and count as one (RT-2).
fn tries(bad: &Upstream) -> Vec<Instant> {
    let mut tried: Vec<_> = bad.accepted().iter().map(|accepted| accepted.at).collect();
    tried.dedup_by(|next, first| *next - *first < AT_ONCE);
    tried
}

/// Wait n is a whole number of bases, from 1 to `longest[n]`, and the backend was left alone for as
/// long and until the next request after it.
fn ensure_obeyed(
    waits: &[(u64, u64)],
    pauses: &[Duration],
    base: Duration,
    longest: &[u32],
) -> Result<()> {
    ensure!(waits.len() >= longest.len() && pauses.len() >= longest.len());
    for (nth, longest) in longest.iter().enumerate() {
        let (pause, wait) = (pauses[nth], Duration::from_millis(waits[nth].1));
        let whole = (1..=*longest).any(|bases| wait == base * bases);
        ensure!(whole, "wait {nth}, {wait:?}, of at most {longest} {base:?}");
        // The window begins when the failure is seen, a little after the backend accepted.
        ensure!(
            pause >= wait && pause <= wait + SLACK,
            "left alone for {pause:?} in place of {wait:?}"
        );
    }
    Ok(())
}

/// RT-1: 1, 1, 1 to 3, 1 to 7 times the base, seen at the backend.
#[tokio::test]
async fn rt_1_the_backend_is_left_alone_for_longer_each_time() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let envoy = serve(&cluster(CLUSTER, &[&a, &b], turns("200ms", "60s", 6))).await?;
    a.set(Behaviour::ResetOnAccept);
    let pauses = pauses(&envoy, &a, 5).await?;
    let waits = waits(&envoy)?;
    println!("RT-1, base 200 ms: (tries, wait) {waits:?}, left alone for {pauses:?}");
    ensure_obeyed(&waits, &pauses, Duration::from_millis(200), &[1, 1, 3, 7])
}

/// RT-1 with the defaults.
#[tokio::test]
async fn rt_1_the_default_base_is_a_second() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let document = cluster(CLUSTER, &[&a, &b], json!({}));
    let envoy = serve(&document).await?;
    a.set(Behaviour::ResetOnAccept);
    let pauses = pauses(&envoy, &a, 4).await?;
    let waits = waits(&envoy)?;
    println!("RT-1, defaults: (tries, wait) {waits:?}, left alone for {pauses:?}");
    ensure_obeyed(&waits, &pauses, Duration::from_secs(1), &[1, 1, 3])
}

/// (tries, wait in ms) of every back-off so far.
fn waits(envoy: &Envoy) -> Result<Vec<(u64, u64)>> {
    let opened = envoy
        .events()
        .into_iter()
        .filter(|event| event.name() == "backoff_opened");
    let figures = |event: Event| {
        Ok((
            event.field("tries").parse()?,
            event.field("wait_ms").parse()?,
        ))
    };
    opened.map(figures).collect()
}

/// RT-2: hundreds of requests fail together on two workers, and that is one failure; all of them are
/// retried at the same time, so Envoy's retry budget must not be the limit.
#[tokio::test]
async fn rt_2_failures_at_the_same_time_count_once() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let document = cluster(CLUSTER, &[&a, &b], turns("20s", "60s", 6));
    let envoy = Envoy::start(scene::bootstrap(&document)?.concurrency(2)).await?;
    a.set(Behaviour::Hold);
    b.set(Behaviour::Hold);
    let requests = Requests::send(envoy.address(), 600);
    let each = in_flight(&[&a, &b], 600).await?;
    a.set(Behaviour::ResetOnRequest);
    b.set(Behaviour::Ok);
    let answers = requests.answers().await?;
    ensure!(answers.iter().all(|answer| answer.status == 200));
    ensure!(each[0] >= 280, "too few at the one that fails: {each:?}");
    let failed = u64::try_from(each[0])?;
    wait_for_figure(&envoy, "failed_attempts_total", "unknown", failed).await?;
    wait_for_figure(&envoy, "events_total", "backoff_opened", 1).await?;
    println!("RT-2: {each:?} in flight, {failed} failed together");
    assert_eq!(waits(&envoy)?, [(1, 20_000)]);
    Ok(())
}

/// RT-3: one success and everything before it is forgotten.
#[tokio::test]
async fn rt_3_a_success_resets_the_back_off() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let envoy = serve(&cluster(CLUSTER, &[&a, &b], turns("50ms", "60s", 6))).await?;
    let mut client = envoy.client();
    fail_until(&mut client, &envoy, &a, 4).await?;
    until_served(&mut client, &a).await?;
    fail_until(&mut client, &envoy, &a, 5).await?;
    wait_for_figure(&envoy, "events_total", "backoff_closed", 1).await?;
    let waits = waits(&envoy)?;
    println!("RT-3: (tries, wait): {waits:?}, closed once after the fourth");
    let tries: Vec<u64> = waits.iter().map(|(tries, _)| *tries).collect();
    assert_eq!(tries, [1, 2, 3, 4, 1]);
    assert_eq!(waits[4].1, 50);
    Ok(())
}

/// RT-5, GT-2 and GT-3: down and up are told once, at the last counted failure and at the first
/// answer; the exhausted backend is retried all the same.
#[tokio::test]
async fn rt_5_gt_3_down_and_up_are_told_once() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let envoy = serve(&cluster(CLUSTER, &[&a, &b], turns("20ms", "100ms", 3))).await?;
    let mut client = envoy.client();
    let edges = async || {
        let down = figure(&envoy, "events_total", "backend_down").await?;
        let up = figure(&envoy, "events_total", "backend_up").await?;
        let logged = ["backend_down", "backend_up"].map(|name| envoy.count_events(name, CLUSTER));
        anyhow::Ok((down, up, logged))
    };
    fail_until(&mut client, &envoy, &a, 2).await?;
    assert_eq!(edges().await?, (0, 0, [0, 0]), "two failures are not three");
    fail_until(&mut client, &envoy, &a, 8).await?;
    let down = edges().await?;
    wait_for_figure(&envoy, "available_backends", "", 1).await?;
    until_served(&mut client, &a).await?;
    answered_by(&mut client, 50).await?;
    let up = edges().await?;
    println!("RT-5: (down, up, logged) after 8 failures {down:?}, after the return {up:?}");
    assert_eq!((down, up), ((1, 0, [1, 0]), (1, 1, [1, 1])));
    Ok(())
}

/// GT-2: a backend that merely waits counts as available.
#[tokio::test]
async fn gt_2_a_backend_that_waits_counts_as_available() -> Result<()> {
    let [a, b, other] = backends(["a", "b", "other"])?;
    let documents = json!([
        cluster(CLUSTER, &[&a, &b], turns("20s", "60s", 6)),
        cluster("second", &[&other], turns("20s", "60s", 1)),
    ]);
    let bootstrap = Bootstrap::fixed(&json!({"schema": 1, "clusters": documents}))?
        .endpoints(CLUSTER, &[a.address(), b.address()])?
        .endpoints("second", &[other.address()])?
        .route("/second", "second")?;
    let envoy = Envoy::start(bootstrap).await?;
    let mut client = envoy.client();
    let second = "wasmcustom.pointsman_available_backends;c=second";
    envoy.wait_for_stat(second, 1).await?;
    fail_until(&mut client, &envoy, &a, 1).await?;
    other.stop().await;
    ensure!(client.get("/second").await?.status == 503);
    // The same tick records the gauges of both clusters, those of the first one first.
    envoy.wait_for_stat(second, 0).await?;
    let available = figure(&envoy, "available_backends", "").await?;
    println!("GT-2: inside its window, and {available} of 2 count as available");
    assert_eq!(available, 2);
    Ok(())
}

/// Sends GETs while the backend resets every connection, until so many back-offs were opened.
async fn fail_until(client: &mut Client, envoy: &Envoy, bad: &Upstream, opened: u64) -> Result<()> {
    bad.set(Behaviour::ResetOnAccept);
    bad.disconnect().await;
    eventually(SOON, &format!("{opened} back-offs"), async || {
        answered_by(client, 1).await.context("a client noticed")?;
        let seen = figure(envoy, "events_total", "backoff_opened").await?;
        ensure!(seen >= opened, "{seen}");
        Ok(())
    })
    .await
}

/// Sends GETs until the backend, now well, has answered one.
async fn until_served(client: &mut Client, good: &Upstream) -> Result<()> {
    good.set(Behaviour::Ok);
    eventually(SOON, "the backend to be back", async || {
        let order = answered_by(client, 1).await?;
        ensure!(order == [good.id()], "{order:?}");
        Ok(())
    })
    .await
}
