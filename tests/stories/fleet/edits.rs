//! Edits under load: no request notices, and what was learnt about a backend that stays is kept
//! (AD-1, 5, 20, LB-20).

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::load::Running;
use harness::registry::{backend, cluster};
use harness::websocket::WebSocket;
use harness::{Behaviour, Load, Registry, Upstream, eventually};
use serde_json::{Value, json};

use super::scene::{
    CLUSTER, SOON, Scene, answered_by, backends, fault, orders, revision, wait_for_servers,
};

const EDITS: usize = 24;

/// A load that goes on for as long as the story needs it.
fn load(scene: &Scene) -> Running {
    let load = Load::new(scene.envoy.address(), 1_000_000);
    load.connections(8).per_second(300).start()
}

fn push(registry: &mut Registry, entry: Value) -> Result<()> {
    registry.edit(CLUSTER, |document| {
        if let Some(entries) = document["backends"].as_array_mut() {
            entries.push(entry);
        }
    })
}

fn remove(registry: &mut Registry, id: &str) -> Result<()> {
    registry.edit(CLUSTER, |document| {
        if let Some(entries) = document["backends"].as_array_mut() {
            entries.retain(|entry| entry["id"] != id);
        }
    })
}

/// The edits, over and over: one more backend, another weight, another policy, one backend less.
fn edit(registry: &mut Registry, nth: usize, spare: &Upstream) -> Result<()> {
    let policies = ["Random", "LeastLoaded", "PowerOfTwo", "RoundRobin"];
    match nth % 4 {
        0 => push(registry, backend(spare)),
        1 => registry.edit_backend(CLUSTER, "a", |a| a["weight"] = (100 + nth).into()),
        2 => registry.edit(CLUSTER, |document| {
            document["loadBalancing"] = json!({"policy": policies[nth / 4 % 4]});
        }),
        _ => remove(registry, spare.id()),
    }
}

#[tokio::test]
async fn ad_1_5_20_lb_20_two_dozen_edits_under_load_cost_nothing_and_forget_nothing() -> Result<()>
{
    let [a, b, bad, spare] = backends(["a", "b", "bad", "spare"])?;
    bad.set(Behaviour::ResetOnAccept);
    let extra = json!({"backoff": {"base": "600s", "max": "600s"}});
    let mut scene = Scene::start(vec![orders(&[&a, &b, &bad], extra)]).await?;
    let mut clients = scene.clients().await?;
    wait_for_servers(&mut clients, &["a", "b"]).await?;
    let tried = bad.accepted().len();
    ensure!(tried > 0, "nobody has tried it");
    scene
        .wait_for_figure("events_total", "backoff_opened", 1)
        .await?;
    // It would serve now, if anybody forgot what it did.
    bad.set(Behaviour::Ok);
    let swaps = scene.whole("configs_total;r=applied").await?;
    let load = load(&scene);
    let start = Instant::now();
    for nth in 0..EDITS {
        let before = revision(&scene.sidecar).await?;
        edit(&mut scene.store, nth, &spare)?;
        eventually(SOON, "the edit to be read", async || {
            ensure!(revision(&scene.sidecar).await? != before);
            Ok(())
        })
        .await?;
        // The newest and nothing older, on the way to the workers while the next edit is written.
        let done = load.done();
        load.reach(done + 160, SOON).await?;
    }
    scene.wait_for_the_workers().await?;
    let took = start.elapsed();
    let tally = load.stop().await?;
    // Two workers, the main thread and the canary take each over.
    let swaps = scene
        .wait_for_whole("configs_total;r=applied", swaps + 3 * 20)
        .await?
        - swaps;
    println!(
        "{EDITS} edits in {took:?}, {swaps} swaps in the VMs, {} requests, {} failed, by {:?}; \
         {} connections to the one in back-off",
        tally.sent(),
        tally.failed(),
        tally.backends,
        bad.accepted().len() - tried
    );
    tally.ensure_clean()?;
    ensure!(tally.by("spare") > 0, "what was added was never used");
    ensure!(bad.accepted().len() == tried);
    ensure!(
        scene.figure("picks_total", "spill").await? == 0,
        "registry and endpoints out of step"
    );
    scene
        .wait_for_figure("failed_attempts_total", "unknown", u64::try_from(tried)?)
        .await?;
    scene.ensure_sane().await
}

/// AD-5: an edit forgets no cooldown, whichever role has learnt of it.
#[tokio::test]
async fn ad_5_a_cooldown_outlives_edits() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let extra = json!({
        "retry": {"on": ["ConnectFailure", 429]},
        "passive": {"cooldown": {"base": "1h", "max": "1h"}},
    });
    a.set(Behaviour::status(429));
    let mut scene = Scene::start(vec![orders(&[&a, &b], extra)]).await?;
    let mut clients = scene.clients().await?;
    wait_for_servers(&mut clients, &["b"]).await?;
    // It would serve now, if anybody forgot what it answered.
    a.set(Behaviour::Ok);
    let hits = a.hits();
    for weight in [50, 70] {
        let before = revision(&scene.sidecar).await?;
        let edited = |a: &mut Value| a["weight"] = weight.into();
        scene.store.edit_backend(CLUSTER, "a", edited)?;
        eventually(SOON, "the edit to be read", async || {
            ensure!(revision(&scene.sidecar).await? != before);
            Ok(())
        })
        .await?;
        scene.wait_for_the_workers().await?;
        let order = answered_by(&mut clients, 40).await?;
        ensure!(order.iter().all(|id| id == "b"), "{order:?}");
    }
    ensure!(a.hits() == hits && hits > 0, "{hits}, then {}", a.hits());
    scene.wait_for_figure("cooling_backends", "", 1).await
}

#[tokio::test]
async fn an_edit_while_one_worker_is_busy_reaches_it_later_and_costs_nothing() -> Result<()> {
    let [a, b, c] = backends(["a", "b", "c"])?;
    let mut scene = Scene::faulty(vec![orders(&[&a, &b], json!({}))]).await?;
    let mut clients = scene.clients().await?;
    let old = revision(&scene.sidecar).await?;
    let mut victim = clients.pop().context("two clients")?;
    let busy = tokio::spawn(async move {
        let response = fault(&mut victim, "busy-5000").await?;
        Ok::<_, anyhow::Error>((victim, response))
    });
    let before = Instant::now();
    push(&mut scene.store, backend(&c))?;
    remove(&mut scene.store, "a")?;
    // The free worker obeys while the other cannot.
    let obeyed = wait_for_servers(&mut clients, &["b", "c"]).await?;
    ensure!(!busy.is_finished(), "the other was done before");
    let lowest = eventually(SOON, "the report of two revisions", async || {
        let status = scene.sidecar.status().await?;
        let revisions = status["proxies"][0]["revisions"].clone();
        ensure!(
            revisions.as_array().is_some_and(|all| all.len() == 2),
            "{revisions}"
        );
        Ok(revisions)
    })
    .await?;
    let (victim, response) = busy.await??;
    clients.push(victim);
    ensure!(
        response.status == 200,
        "{} {}",
        response.status,
        response.text()
    );
    let order = answered_by(&mut clients, 60).await?;
    ensure!(order.iter().all(|backend| backend != "a"), "{order:?}");
    scene.wait_for_the_workers().await?;
    println!(
        "the free worker obeyed after {obeyed:?}; meanwhile the workers ran {lowest}; all on the \
         new one {:?} after the edit",
        before.elapsed()
    );
    ensure!(
        lowest
            .as_array()
            .is_some_and(|all| all.contains(&old.into()))
    );
    scene.ensure_sane().await
}

#[tokio::test]
async fn old_streams_outlive_edits_and_only_one_vm_posts_for_all_the_roots_they_hold() -> Result<()>
{
    let [a, b, c] = backends(["a", "b", "c"])?;
    let extra = json!({"loadBalancing": {"policy": "LeastLoaded"}});
    let mut scene = Scene::start(vec![orders(&[&a, &b], extra)]).await?;
    let mut clients = scene.clients().await?;
    let mut sockets = Vec::new();
    // Two websockets begin under each of four configurations, so that their roots live on.
    for weight in 101..105 {
        for _ in 0..2 {
            let mut socket = WebSocket::open(scene.envoy.address(), "/old").await?;
            ensure!(socket.echo("hello").await? == "hello");
            sockets.push(socket);
        }
        scene
            .edit(|registry| registry.edit_backend(CLUSTER, "a", |a| a["weight"] = weight.into()))
            .await?;
    }
    let beats = scene.time_of_exchanges(4).await?;
    println!("8 websockets over 4 edits; 4 exchanges without news took {beats:?}");
    // Two that post would need two seconds.
    ensure!(
        beats > Duration::from_secs(3),
        "more than one VM or root posts"
    );

    // In flight is counted where it is, over all swaps: the newcomer is idle and gets everything.
    scene.edit(|registry| push(registry, backend(&c))).await?;
    let order = answered_by(&mut clients, 20).await?;
    ensure!(order.iter().all(|backend| backend == "c"), "{order:?}");
    for socket in &mut sockets {
        ensure!(socket.echo("still here").await? == "still here");
    }
    drop(sockets);
    let spread = wait_for_servers(&mut clients, &["a", "b", "c"]).await?;
    println!("while they lived the idle newcomer got all requests; all three {spread:?} after");
    ensure!(a.in_flight() + b.in_flight() == 0);
    scene.ensure_sane().await
}

#[tokio::test]
async fn a_cluster_that_leaves_the_registry_leaves_envoy_and_comes_back_as_it_was() -> Result<()> {
    let [a, bad, other] = backends(["a", "bad", "other"])?;
    bad.set(Behaviour::ResetOnAccept);
    let extra = json!({"backoff": {"base": "600s", "max": "600s"}});
    let document = orders(&[&a, &bad], extra);
    let another = cluster("another", &[&other], json!({}));
    let mut scene = Scene::start(vec![document.clone(), another]).await?;
    let mut clients = scene.clients().await?;
    wait_for_servers(&mut clients, &["a"]).await?;
    bad.set(Behaviour::Ok);
    let tried = bad.accepted().len();
    let start = Instant::now();
    scene.edit(|registry| registry.remove(CLUSTER)).await?;
    eventually(SOON, "the cluster to be gone", async || {
        let hosts = scene.envoy.hosts(CLUSTER).await?;
        ensure!(hosts.is_none(), "{hosts:?}");
        Ok(())
    })
    .await?;
    let gone = start.elapsed();
    let answer = clients[0].get("/").await?;
    ensure!(
        answer.status == 503 && answer.backend().is_none(),
        "{}",
        answer.status
    );
    for gauge in ["total_backends", "available_backends"] {
        scene.wait_for_figure(gauge, "", 0).await?;
    }

    let start = Instant::now();
    scene.edit(|registry| registry.put(document)).await?;
    wait_for_servers(&mut clients, &["a"]).await?;
    println!(
        "gone after {gone:?}, back after {:?}; {} connections to the one in back-off",
        start.elapsed(),
        bad.accepted().len() - tried
    );
    ensure!(bad.accepted().len() == tried, "its back-off was forgotten");
    scene.wait_for_figure("total_backends", "", 2).await?;
    scene.ensure_sane().await
}

/// What Envoy gives a connection to the cluster.
async fn connect_timeout(scene: &Scene) -> Result<Value> {
    let dump = scene.envoy.config_dump().await?;
    let configs = dump["configs"].as_array().context("configs")?;
    let clusters = configs
        .iter()
        .flat_map(|it| it["dynamic_active_clusters"].as_array());
    let mut clusters = clusters.flatten().map(|it| &it["cluster"]);
    let ours = clusters.find(|it| it["name"] == CLUSTER);
    Ok(ours.context("no cluster")?["connect_timeout"].clone())
}

#[tokio::test]
async fn a_connection_has_the_time_that_the_document_gives_it() -> Result<()> {
    let [a] = backends(["a"])?;
    let mut scene = Scene::start(vec![orders(&[&a], json!({}))]).await?;
    wait_for_servers(&mut scene.clients().await?, &["a"]).await?;
    assert_eq!(connect_timeout(&scene).await?, "1s");
    let load = load(&scene);
    load.reach(100, SOON).await?;
    scene.store.edit(CLUSTER, |document| {
        document["timeouts"] = json!({"connect": "250ms"});
    })?;
    eventually(SOON, "Envoy to take the new time", async || {
        let time = connect_timeout(&scene).await?;
        ensure!(time == "0.250s", "{time}");
        Ok(())
    })
    .await?;
    load.reach(load.done() + 100, SOON).await?;
    load.stop().await?.ensure_clean()?;
    scene.ensure_sane().await
}
