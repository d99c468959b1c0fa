//! Leaving without a loss: backends that are drained, removed, added again and reweighted while
//! requests run (RG-17 to 21, AD-5).

use anyhow::{Context, Result, ensure};
use harness::registry::backend;
use harness::{Behaviour, Client, Registry, Response, Upstream, eventually};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::scene::{CLUSTER, SOON, Scene, answered_by, backends, fault, orders, wait_for_servers};

/// A request that a backend holds, on a connection of its own.
struct Held(JoinHandle<Result<Response>>);

impl Held {
    /// Sends GETs until `at` holds one; it must hold what it gets.
    async fn at(scene: &Scene, at: &Upstream) -> Result<Self> {
        let before = at.in_flight();
        loop {
            let mut client = scene.envoy.client();
            let task = tokio::spawn(async move { client.get("/held").await });
            eventually(SOON, "an answer or a held request", async || {
                ensure!(task.is_finished() || at.in_flight() > before);
                Ok(())
            })
            .await?;
            if !task.is_finished() {
                return Ok(Held(task));
            }
            ensure!(task.await??.status == 200);
        }
    }

    async fn answer(self) -> Result<Response> {
        self.0.await?
    }
}

fn entries(registry: &mut Registry, change: impl FnOnce(&mut Vec<Value>)) -> Result<()> {
    registry.edit(CLUSTER, |document| {
        if let Some(entries) = document["backends"].as_array_mut() {
            change(entries);
        }
    })
}

fn remove(registry: &mut Registry, id: &str) -> Result<()> {
    entries(registry, |entries| {
        entries.retain(|entry| entry["id"] != id)
    })
}

/// Those said to be free. Who takes the lease of a VM that had no time for seconds may say so again.
fn drained(scene: &Scene) -> Vec<String> {
    let events = scene.envoy.events().into_iter();
    let of = |event: &harness::envoy::Event| event.name() == "backend_drained";
    let ids = events.filter(of);
    let mut ids: Vec<String> = ids.map(|event| event.field("backend").to_owned()).collect();
    ids.dedup();
    ids
}

/// Waits until `a`, and nobody else, is said to be free.
async fn wait_until_free(scene: &Scene) -> Result<()> {
    eventually(SOON, "the word that it is free", async || {
        ensure_drained(scene, &["a"])
    })
    .await
}

fn ensure_drained(scene: &Scene, ids: &[&str]) -> Result<()> {
    let drained = drained(scene);
    ensure!(drained == ids, "{drained:?} of {:#?}", scene.envoy.events());
    Ok(())
}

/// Fails when within several ticks of the VM that says so these are not those said to be free.
async fn ensure_drained_for_ticks(scene: &Scene, ids: &[&str]) -> Result<()> {
    scene
        .throughout_ticks(async || ensure_drained(scene, ids))
        .await
}

/// The keep-alive clients' next requests go elsewhere, the held one ends well, and then, once, the
/// backend is said to be free.
async fn leave_with_a_running_request(
    mut scene: Scene,
    leaving: &Upstream,
    change: impl FnOnce(&mut Registry) -> Result<()>,
) -> Result<()> {
    let mut clients = scene.clients().await?;
    wait_for_servers(&mut clients, &["a", "b"]).await?;
    leaving.set(Behaviour::Hold);
    let held = Held::at(&scene, leaving).await?;
    let took = scene.edit(change).await?;
    let hits = leaving.hits();
    let order = answered_by(&mut clients, 200).await?;
    ensure!(leaving.hits() == hits && order.iter().all(|backend| backend == "b"));
    ensure_drained_for_ticks(&scene, &[]).await?;
    leaving.set(Behaviour::Ok);
    let answer = held.answer().await?;
    ensure!(answer.status == 200 && answer.backend() == Some("a"));
    wait_until_free(&scene).await?;
    answered_by(&mut clients, 200).await?;
    ensure_drained_for_ticks(&scene, &["a"]).await?;
    println!(
        "left everywhere after {took:?}; 400 GETs: {} to it; the held one: {}; told once",
        leaving.hits() - hits,
        answer.status
    );
    ensure!(leaving.hits() == hits);
    scene.ensure_sane().await
}

#[tokio::test]
async fn rg_19_20_21_draining_lets_the_running_request_finish_and_takes_no_other() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let scene = Scene::start(vec![orders(&[&a, &b], json!({}))]).await?;
    leave_with_a_running_request(scene, &a, |registry| {
        registry.edit_backend(CLUSTER, "a", |backend| backend["state"] = "Draining".into())
    })
    .await
}

#[tokio::test]
async fn rg_18_19_21_removal_lets_the_running_request_finish_and_takes_no_other() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let scene = Scene::start(vec![orders(&[&a, &b], json!({}))]).await?;
    leave_with_a_running_request(scene, &a, |registry| remove(registry, "a")).await
}

#[tokio::test]
async fn rg_18_of_two_ids_at_one_address_one_goes_and_the_other_serves_on() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let mut document = orders(&[&a, &b], json!({}));
    let mut twin = backend(&a);
    twin["id"] = "twin".into();
    document["backends"]
        .as_array_mut()
        .context("backends")?
        .push(twin);
    let mut scene = Scene::start(vec![document]).await?;
    let mut clients = scene.clients().await?;
    scene.edit(|registry| remove(registry, "a")).await?;
    let before = a.hits();
    answered_by(&mut clients, 100).await?;
    println!("its sibling took {} of 100 requests", a.hits() - before);
    ensure!(a.hits() - before == 50);
    let hosts = scene.envoy.hosts(CLUSTER).await?.unwrap_or_default();
    ensure!(hosts.len() == 2, "{hosts:?}");
    ensure!(drained(&scene).is_empty(), "the address still serves");
    scene.ensure_sane().await
}

/// Keeps one worker busy for so long.
fn keep_busy(mut client: Client, millis: u64) -> JoinHandle<Result<(Client, Response)>> {
    tokio::spawn(async move {
        let response = fault(&mut client, &format!("busy-{millis}")).await?;
        Ok((client, response))
    })
}

fn set_state(registry: &mut Registry, state: &str) -> Result<()> {
    registry.edit_backend(CLUSTER, "a", |backend| backend["state"] = state.into())
}

#[tokio::test]
async fn rg_19_a_backend_that_serves_again_is_not_said_to_be_free() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let mut scene = Scene::start(vec![orders(&[&a, &b], json!({}))]).await?;
    let mut clients = scene.clients().await?;
    a.set(Behaviour::Hold);
    let held = Held::at(&scene, &a).await?;
    for state in ["Draining", "Normal", "Draining", "Normal"] {
        scene.edit(|registry| set_state(registry, state)).await?;
    }
    a.set(Behaviour::Ok);
    ensure!(held.answer().await?.status == 200);
    wait_for_servers(&mut clients, &["a", "b"]).await?;
    ensure_drained_for_ticks(&scene, &[]).await?;
    scene
        .edit(|registry| set_state(registry, "Draining"))
        .await?;
    wait_until_free(&scene).await?;
    ensure_drained_for_ticks(&scene, &["a"]).await?;
    scene.ensure_sane().await
}

#[tokio::test]
async fn rg_19_the_streams_of_a_busy_worker_are_not_forgotten() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let mut scene = Scene::faulty(vec![orders(&[&a, &b], json!({}))]).await?;
    let clients = scene.clients().await?;
    a.set(Behaviour::Hold);
    let held = Held::at(&scene, &a).await?;
    scene
        .edit(|registry| set_state(registry, "Draining"))
        .await?;
    // Longer than a worker's word counts, and than a lease holds.
    let busy: Vec<_> = clients
        .into_iter()
        .map(|client| keep_busy(client, 3000))
        .collect();
    for worker in busy {
        let (_client, response) = worker.await??;
        ensure!(response.status == 200, "{}", response.status);
    }
    ensure!(drained(&scene).is_empty(), "{:?}", drained(&scene));
    a.set(Behaviour::Ok);
    ensure!(held.answer().await?.status == 200);
    wait_until_free(&scene).await?;
    scene.ensure_sane().await
}

#[tokio::test]
async fn a_removed_backend_stays_in_envoy_until_the_last_worker_has_let_go_of_it() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let mut scene = Scene::faulty(vec![orders(&[&a, &b], json!({}))]).await?;
    let mut clients = scene.clients().await?;
    let idle = clients.remove(0);
    let busy = keep_busy(clients.remove(0), 5000);
    let address = a.address().to_string();
    remove(&mut scene.store, "a")?;
    // The free worker takes the removal over at once.
    let mut idle = vec![idle];
    let out = wait_for_servers(&mut idle, &["b"]).await?;
    ensure!(
        !busy.is_finished(),
        "the edit took longer than the worker was busy"
    );
    let mut looks = 0;
    eventually(SOON, "the busy worker to be done", async || {
        if !busy.is_finished() {
            let hosts = scene.envoy.hosts(CLUSTER).await?.unwrap_or_default();
            // Looked at twice: what was asked before the end may have been answered after it.
            let early = !hosts.contains(&address) && !busy.is_finished();
            looks += 1;
            return Ok(if early {
                Err(anyhow::anyhow!("gone early: {hosts:?}"))
            } else {
                ensure!(busy.is_finished(), "busy");
                Ok(())
            });
        }
        Ok(Ok(()))
    })
    .await??;
    let (client, response) = busy.await??;
    ensure!(response.status == 200, "{}", response.status);
    let done = std::time::Instant::now();
    eventually(SOON, "the host to be gone", async || {
        let hosts = scene.envoy.hosts(CLUSTER).await?.unwrap_or_default();
        ensure!(hosts == [b.address().to_string()], "{hosts:?}");
        Ok(())
    })
    .await?;
    let gone = done.elapsed();
    println!(
        "out of the free worker's picks after {out:?}; still a host at {looks} looks while the \
         other was busy; gone {gone:?} after it was done"
    );
    // Long before its time in Envoy is up in any case, which is 30 s.
    ensure!(looks > 10, "{looks} looks");
    let mut clients = vec![idle.remove(0), client];
    let order = answered_by(&mut clients, 40).await?;
    ensure!(order.iter().all(|backend| backend == "b"));
    scene.ensure_sane().await
}

#[tokio::test]
async fn rg_17_ad_5_adding_again_and_reweighting_keep_the_back_off() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    a.set(Behaviour::ResetOnAccept);
    let extra = json!({"backoff": {"base": "60s", "max": "60s"}});
    let mut scene = Scene::start(vec![orders(&[&a, &b], extra)]).await?;
    let mut clients = scene.clients().await?;
    wait_for_servers(&mut clients, &["b"]).await?;
    let failed = a.accepted().len();
    ensure!(failed > 0, "nobody has tried it");
    scene
        .wait_for_figure("events_total", "backoff_opened", 1)
        .await?;
    a.set(Behaviour::Ok);

    let mut told = Vec::new();
    told.push(
        scene
            .edit(|registry| {
                registry.edit_backend(CLUSTER, "a", |backend| backend["weight"] = 300.into())
            })
            .await?,
    );
    told.push(scene.edit(|registry| remove(registry, "a")).await?);
    let entry = backend(&a);
    told.push(
        scene
            .edit(|registry| entries(registry, |entries| entries.push(entry)))
            .await?,
    );
    told.push(
        scene
            .edit(|registry| {
                registry.edit(CLUSTER, |document| {
                    document["loadBalancing"] = json!({"policy": "LeastLoaded"});
                })
            })
            .await?,
    );
    let order = answered_by(&mut clients, 100).await?;
    println!(
        "reweighted, removed, added, new policy in {told:?}: {} connections, {} of 100 requests \
         inside the window",
        a.accepted().len() - failed,
        order.iter().filter(|backend| *backend == "a").count()
    );
    ensure!(a.accepted().len() == failed);
    // The same id at another address is somebody new.
    let [moved] = backends(["a"])?;
    scene
        .edit(|registry| {
            registry.edit_backend(CLUSTER, "a", |backend| {
                backend["address"] = moved.address().to_string().into();
            })
        })
        .await?;
    wait_for_servers(&mut clients, &["a", "b"]).await?;
    ensure!(moved.hits() > 0 && a.accepted().len() == failed);
    scene.ensure_sane().await
}
