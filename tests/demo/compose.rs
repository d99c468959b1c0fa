//! `make compose-demo`: `envoy/docker-compose.yaml`, told step by step; no request may fail.
//!
//! `KEEP=1` keeps everything running. `make` builds base images where `STAND_INS=1` says so.

use std::env;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use harness::compose::traffic::{Counted, Traffic};
use harness::compose::{self, BACKENDS, DEADLINE, EDGES, FILE, Project, run};
use harness::eventually;
use serde_json::Value;
use tokio::signal::ctrl_c;

const NAME: &str = "pointsman-demo";
const KEY: &str = "pointsman:cluster:orders";
const OVERRIDES: &str = "pointsman:override:orders";

#[tokio::main]
async fn main() -> ExitCode {
    if let Some(why) = compose::missing().await {
        eprintln!("The demo needs Docker: {why}");
        return ExitCode::FAILURE;
    }
    let project = Project::new(NAME);
    let told = tokio::select! {
        told = tell(&project) => told,
        _ = ctrl_c() => Err(anyhow::anyhow!("interrupted; everything is stopped")),
    };
    let call = format!("docker compose --project-name {NAME} --file {FILE}");
    let keep = env::var_os("KEEP").is_some_and(|keep| !keep.is_empty());
    let ended = match keep {
        true => Ok(()),
        false => project.down().await,
    };
    if let Err(error) = told.and(ended) {
        eprintln!("\nThe demo FAILED: {error:#}");
        return ExitCode::FAILURE;
    }
    println!("\nAll as it should be: not one request failed.");
    if keep {
        println!("\nEverything keeps running. Try next:\n");
        println!("  curl -i http://127.0.0.1:10000/");
        println!("  {call} exec sidecar pointsman get cluster orders");
        println!("  {call} exec sidecar pointsman drain orders orders-1 --for 1m --wait");
        println!("  {call} down --volumes   # ends it");
    }
    ExitCode::SUCCESS
}

async fn tell(project: &Project) -> Result<()> {
    println!(
        "It starts Redis, the sidecar, two Envoys and three backends, moves traffic, stops a backend"
    );
    println!(
        "and Redis, and counts errors. That takes a minute; the images take some more, the first time."
    );
    println!("`docker compose` stands for `docker compose --project-name {NAME} --file {FILE}`.\n");
    println!("Building the images, starting everything …");
    let started = Instant::now();
    project.up().await?;
    println!("   … took {} s.", started.elapsed().as_secs());
    println!("\n1. Requests spread.");
    show(some_traffic().await?)?;
    drain(project).await?;
    reweight(project).await?;
    stop_a_backend(project).await?;
    stop_redis(project).await?;
    look().await
}

/// What the backends answered, as bars, and that nothing failed.
fn show(counted: Counted) -> Result<()> {
    let sent = counted.sent().max(1);
    for backend in BACKENDS {
        let count = counted.by(backend);
        let share = count * 100 / sent;
        let bar = "#".repeat(usize::try_from(share / 2)?);
        println!("   {backend}  {count:>5}  {share:>3} %  {bar}");
    }
    let failed: u64 = EDGES
        .iter()
        .map(|edge| counted.through(edge).failed())
        .sum();
    println!("   {sent} requests through two Envoys, {failed} failed.");
    counted.clean()?;
    Ok(())
}

async fn some_traffic() -> Result<Counted> {
    let traffic = Traffic::to_published().await?;
    traffic.more(300, &EDGES).await?;
    traffic.stop().await
}

/// Changes the registry as a person would.
async fn redis(project: &Project, words: &[&str]) -> Result<()> {
    let quoted = words.iter().map(|word| match word.contains('{') {
        true => format!("'{word}'"),
        false => (*word).to_owned(),
    });
    let shown: Vec<String> = quoted.collect();
    println!(
        "   $ docker compose exec redis redis-cli {}",
        shown.join(" ")
    );
    project.redis(words).await?;
    Ok(())
}

async fn drain(project: &Project) -> Result<()> {
    println!("\n2. An operator drains orders-2, and takes it back.");
    let traffic = Traffic::to_published().await?;
    redis(project, &["HSET", OVERRIDES, "orders-2", "Draining"]).await?;
    let started = Instant::now();
    traffic.spares("orders-2", &EDGES).await?;
    let drained = started.elapsed().as_secs_f64();
    traffic.more(150, &EDGES).await?;
    redis(project, &["HDEL", OVERRIDES, "orders-2"]).await?;
    traffic.serves("orders-2", &EDGES).await?;
    println!("   It was seen to be left alone within {drained:.1} s, and serves again.");
    show(traffic.stop().await?)
}

/// A new document by the sidecar's command line, and the old one by Redis's.
async fn reweight(project: &Project) -> Result<()> {
    let before = project.redis(&["GET", KEY]).await?;
    let mut document: Value = serde_json::from_str(&before)?;
    for backend in document["backends"].as_array_mut().context("no backends")? {
        let weight = if backend["id"] == "orders-3" { 10 } else { 100 };
        backend["weight"] = weight.into();
    }
    println!("\n3. A new document: orders-3 gets a tenth of the others' weight.");
    println!(
        "   $ docker compose exec -T sidecar pointsman get cluster orders -o json > orders.json"
    );
    println!("   … with weight 10 for orders-3 and 100 for the others in orders.json:");
    println!("   $ docker compose exec -T sidecar pointsman apply -f - < orders.json");
    let sidecar = project.container("sidecar");
    let apply = [
        "exec",
        "--interactive",
        &sidecar,
        "pointsman",
        "apply",
        "-f",
        "-",
    ];
    let said = run("docker", &apply, &document.to_string()).await?;
    said.lines().for_each(|line| println!("   {line}"));
    weight_served(10).await?;
    let counted = some_traffic().await?;
    let obeyed = counted.by("orders-3") * 4 < counted.by("orders-1");
    show(counted)?;
    ensure!(obeyed, "the weight is not obeyed");
    println!("\n4. The first document again, this time written straight to Redis.");
    redis(project, &["SET", KEY, &before]).await?;
    weight_served(100).await?;
    show(some_traffic().await?)
}

/// Waits until every worker has a document with this weight for orders-3.
async fn weight_served(wanted: u64) -> Result<()> {
    eventually(DEADLINE, "the weights on every worker", async || {
        let now = compose::status().await?;
        let mut backends = now["clusters"][0]["backends"]
            .as_array()
            .into_iter()
            .flatten();
        let weight = backends
            .find(|it| it["id"] == "orders-3")
            .map(|it| &it["weight"]);
        ensure!(weight.is_some_and(|it| *it == wanted), "{weight:?}");
        let newest = &now["registry"]["revision"];
        for proxy in now["proxies"].as_array().context("no proxies")? {
            ensure!(proxy["revisions"] == serde_json::json!([newest]), "{proxy}");
        }
        Ok(())
    })
    .await
}

async fn stop_a_backend(project: &Project) -> Result<()> {
    println!("\n5. orders-1 is stopped and started again.\n   $ docker compose stop orders-1");
    let traffic = Traffic::to_published().await?;
    project.container_is("stop", "orders-1").await?;
    traffic.more(200, &EDGES).await?;
    println!("   $ docker compose start orders-1");
    project.container_is("start", "orders-1").await?;
    traffic.serves("orders-1", &EDGES).await?;
    show(traffic.stop().await?)
}

async fn stop_redis(project: &Project) -> Result<()> {
    println!("\n6. Redis is stopped and started again.\n   $ docker compose stop redis");
    let traffic = Traffic::to_published().await?;
    project.container_is("stop", "redis").await?;
    compose::health(503).await?;
    println!("   /health says 503; requests go on with the last registry.");
    traffic.more(200, &EDGES).await?;
    println!("   $ docker compose start redis");
    project.container_is("start", "redis").await?;
    compose::health(200).await?;
    println!("   /health says 200.");
    show(traffic.stop().await?)
}

async fn look() -> Result<()> {
    let now = compose::status().await?;
    println!("\n7. Where to look.");
    println!("   $ curl -H 'authorization: Bearer demo-admin-token' http://127.0.0.1:18080/status");
    let (Some(proxies), Some(backends)) = (
        now["proxies"].as_array(),
        now["clusters"][0]["backends"].as_array(),
    ) else {
        bail!("{now}");
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    for proxy in proxies {
        let revision = text(&proxy["revisions"][0]);
        println!(
            "   {}: {} workers run revision {revision}",
            text(&proxy["node"]),
            proxy["workers"]
        );
    }
    for backend in backends {
        let [id, address, state] = ["id", "address", "state"].map(|key| text(&backend[key]));
        let health = if backend["healthy"] == true {
            "healthy"
        } else {
            "unhealthy"
        };
        println!("   {id} {address} {state}, {health}");
    }
    println!(
        "   and http://127.0.0.1:9902/stats/prometheus of the first Envoy, 9903 of the second."
    );
    Ok(())
}
