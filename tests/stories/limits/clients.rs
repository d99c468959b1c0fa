//! Streams of one client's address at a time.

use anyhow::{Context, Result, ensure};
use harness::client::Response;
use harness::{Behaviour, Client, Upstream, eventually};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::fleet::scene::{Scene, backends, orders};
use crate::scene::{SOON, in_flight};

/// At most so many streams of an address.
fn limits(max: u32) -> Value {
    json!({"limits": {"maxStreamsPerClient": max}})
}

/// RL-10: one stream on each of two workers; once both have told the other, the third is refused.
#[tokio::test]
async fn rl_10_the_third_stream_of_an_address_is_429_on_any_worker() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let scene = Scene::start(vec![orders(&[&a, &b], limits(2))]).await?;
    let mut clients = scene.clients().await?;
    a.set(Behaviour::Hold);
    b.set(Behaviour::Hold);
    let [first, second] = &mut clients[..] else {
        anyhow::bail!("{} clients", clients.len());
    };
    let held = async { tokio::join!(first.get("/"), second.get("/")) };
    let story = async {
        in_flight(&[&a, &b], 2).await?;
        scene.time_of_exchanges(1).await?;
        for _ in 0..4 {
            let third = scene.envoy.client().get("/").await?;
            println!("the third: {} {}", third.status, third.text());
            ensure_refused(&third)?;
        }
        ensure!(scene.figure("refusals_total", "too_many_streams").await? == 4);
        a.set(Behaviour::Ok);
        b.set(Behaviour::Ok);
        anyhow::Ok(())
    };
    let ((first, second), story) = tokio::join!(held, story);
    story?;
    ensure!(first?.status == 200 && second?.status == 200);
    eventually(SOON, "streams to be taken again", async || {
        let status = scene.envoy.client().get("/").await?.status;
        ensure!(status == 200, "{status}");
        Ok(())
    })
    .await
}

/// Two workers, of which one holds a stream, and the VM of the other has died.
struct AfterTrap {
    scene: Scene,
    backends: [Upstream; 2],
    held: JoinHandle<Result<Response>>,
    /// Of the worker whose VM has died.
    trapped: Client,
}

impl AfterTrap {
    async fn start(max: u32) -> Result<Self> {
        let [a, b] = backends(["a", "b"])?;
        let mut scene = Scene::faulty(vec![orders(&[&a, &b], limits(max))]).await?;
        scene.envoy.expect_traps();
        let mut clients = scene.clients().await?;
        let mut trapped = clients.pop().context("no client")?;
        a.set(Behaviour::Hold);
        b.set(Behaviour::Hold);
        let held = hold(clients.pop().context("one client")?);
        in_flight(&[&a, &b], 1).await?;
        ensure!(trapped.fault("trap").await?.status == 503);
        // Longer than the dead VM's last heartbeat counts.
        scene.time_of_exchanges(1).await?;
        Ok(AfterTrap {
            scene,
            backends: [a, b],
            held,
            trapped,
        })
    }
}

fn hold(mut client: Client) -> JoinHandle<Result<Response>> {
    tokio::spawn(async move { client.get("/").await })
}

fn ensure_refused(response: &Response) -> Result<()> {
    let told = response.header("retry-after");
    ensure!(response.status == 429 && told == Some("60"), "{response:?}");
    ensure!(response.text().contains("too_many_streams"));
    Ok(())
}

/// RL-10: the VM that takes the dead one's place begins with this request.
#[tokio::test]
async fn rl_10_the_first_request_of_a_new_vm_counts_the_streams_of_other_workers() -> Result<()> {
    let mut after = AfterTrap::start(1).await?;
    ensure_refused(&after.trapped.get("/").await?)?;
    after.backends.iter().for_each(|it| it.set(Behaviour::Ok));
    ensure!(after.held.await??.status == 200);
    Ok(())
}

/// RL-10: of two streams one is the living worker's, one the new VM's; a third is refused on both.
#[tokio::test]
async fn rl_10_a_vm_that_dies_forgets_its_own_streams_alone() -> Result<()> {
    let AfterTrap {
        scene,
        backends,
        held,
        trapped,
    } = AfterTrap::start(2).await?;
    let second = hold(trapped);
    in_flight(&backends.each_ref(), 2).await?;
    scene.time_of_exchanges(1).await?;
    // One is on each worker: each takes the next connection when it has fewer.
    let mut clients = [scene.envoy.client(), scene.envoy.client()];
    for client in &mut clients {
        client.connect().await?;
    }
    for client in &mut clients {
        ensure_refused(&client.get("/").await?)?;
    }
    backends.iter().for_each(|it| it.set(Behaviour::Ok));
    for stream in [held, second] {
        ensure!(stream.await??.status == 200);
    }
    Ok(())
}
