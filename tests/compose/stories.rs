//! What is told of the compose file. The stories build on each other, in this order.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use harness::compose::traffic::Traffic;
use harness::compose::{self, ADMIN_TOKEN, BACKENDS, EDGES, Project};
use harness::{Client, client};
use serde_json::Value;

use super::Outcomes;

const OVERRIDES: &str = "pointsman:override:orders";

/// Every story; whether the services did start.
pub async fn tell_all(project: &Project, outcomes: &mut Outcomes) -> bool {
    macro_rules! tell {
        ($($story:ident),*) => {
            $(if !outcomes.tell(stringify!($story), $story(project)).await {
                println!("{}", project.logs().await);
            })*
        };
    }
    tell!(starts_from_a_clean_clone);
    if outcomes.failed > 0 {
        return false;
    }
    tell!(
        routes_to_every_backend_through_both,
        a_change_in_redis_moves_traffic,
        a_document_applied_by_the_sidecars_own_image_moves_traffic,
        a_backend_that_stops_costs_nothing,
        redis_that_stops_costs_nothing,
        a_sidecar_that_is_killed_costs_nothing,
        an_envoy_cut_off_from_what_steers_it_serves_on,
        an_envoy_cut_off_from_its_clients_comes_back,
        shows_its_figures_and_no_more,
        asks_for_its_tokens,
        publishes_on_loopback_and_gives_no_rights
    );
    true
}

/// `up --build` is all; the seed has written the registry, both Envoys have it.
async fn starts_from_a_clean_clone(project: &Project) -> Result<String> {
    let started = Instant::now();
    project.up().await?;
    let took = started.elapsed().as_secs();
    compose::served().await?;
    Ok(format!("up in {took} s"))
}

async fn routes_to_every_backend_through_both(project: &Project) -> Result<String> {
    let traffic = Traffic::to_containers(project).await?;
    traffic.more(300, &EDGES).await?;
    let counted = traffic.stop().await?;
    for edge in EDGES {
        for backend in BACKENDS {
            let count = counted.through(edge).by(backend);
            ensure!(count > 30, "{edge}: {count} {backend}");
        }
    }
    counted.clean()
}

/// One backend is drained and comes back, then two are cordoned and come back.
async fn a_change_in_redis_moves_traffic(project: &Project) -> Result<String> {
    let traffic = Traffic::to_containers(project).await?;
    project
        .redis(&["HSET", OVERRIDES, "orders-2", "Draining"])
        .await?;
    traffic.spares("orders-2", &EDGES).await?;
    project.redis(&["HDEL", OVERRIDES, "orders-2"]).await?;
    traffic.serves("orders-2", &EDGES).await?;
    let cordon = [
        "HSET", OVERRIDES, "orders-1", "Cordoned", "orders-3", "Cordoned",
    ];
    project.redis(&cordon).await?;
    traffic.spares("orders-1", &EDGES).await?;
    traffic.spares("orders-3", &EDGES).await?;
    project.redis(&["DEL", OVERRIDES]).await?;
    traffic.serves("orders-1", &EDGES).await?;
    traffic.serves("orders-3", &EDGES).await?;
    traffic.stop().await?.clean()
}

/// The command line in a container of its own beside the sidecar.
async fn pointsman(project: &Project, words: &[&str], token: &str, input: &str) -> Result<String> {
    let (network, token) = (
        project.network("control"),
        format!("POINTSMAN_ADMIN_TOKEN={token}"),
    );
    let run = [
        "run",
        "--rm",
        "--interactive",
        "--network",
        &network,
        "--env",
        &token,
    ];
    let rest = [
        "--env",
        "POINTSMAN_ADMIN_ADDRESS=sidecar:18080",
        "pointsman",
    ];
    compose::run("docker", &[&run[..], &rest, words].concat(), input).await
}

/// Through the admin API: one backend without weight, and back again.
async fn a_document_applied_by_the_sidecars_own_image_moves_traffic(
    project: &Project,
) -> Result<String> {
    let get = ["get", "cluster", "orders", "-o", "json"];
    let document = pointsman(project, &get, ADMIN_TOKEN, "").await?;
    let mut changed: Value = serde_json::from_str(&document)?;
    for backend in changed["backends"].as_array_mut().context("no backends")? {
        let weight = if backend["id"] == "orders-3" { 0 } else { 100 };
        backend["weight"] = weight.into();
    }
    let (apply, changed) = (["apply", "-f", "-"], changed.to_string());
    let traffic = Traffic::to_containers(project).await?;
    let refused = pointsman(project, &apply, "wrong", &changed).await;
    ensure!(refused.is_err(), "a wrong token was good enough to apply");
    traffic.serves("orders-3", &EDGES).await?;
    pointsman(project, &apply, ADMIN_TOKEN, &changed).await?;
    traffic.spares("orders-3", &EDGES).await?;
    pointsman(project, &apply, ADMIN_TOKEN, &document).await?;
    traffic.serves("orders-3", &EDGES).await?;
    traffic.stop().await?.clean()
}

/// Stopped, killed and started again under load.
async fn a_backend_that_stops_costs_nothing(project: &Project) -> Result<String> {
    let traffic = Traffic::to_containers(project).await?;
    for (verb, backend) in [("stop", "orders-1"), ("kill", "orders-3")] {
        project.container_is(verb, backend).await?;
        traffic.more(200, &EDGES).await?;
        project.container_is("start", backend).await?;
        traffic.serves(backend, &EDGES).await?;
    }
    traffic.stop().await?.clean()
}

/// The last registry serves; what is written after the restart arrives.
async fn redis_that_stops_costs_nothing(project: &Project) -> Result<String> {
    let traffic = Traffic::to_containers(project).await?;
    project.container_is("stop", "redis").await?;
    compose::health(503).await?;
    traffic.more(200, &EDGES).await?;
    compose::answers("/readyz", 200).await?;
    project.container_is("start", "redis").await?;
    compose::health(200).await?;
    project
        .redis(&["HSET", OVERRIDES, "orders-2", "Draining"])
        .await?;
    traffic.spares("orders-2", &EDGES).await?;
    project.redis(&["DEL", OVERRIDES]).await?;
    traffic.serves("orders-2", &EDGES).await?;
    traffic.stop().await?.clean()
}

/// A backend stops while it is away, and it comes back to both Envoys.
async fn a_sidecar_that_is_killed_costs_nothing(project: &Project) -> Result<String> {
    let traffic = Traffic::to_containers(project).await?;
    project.container_is("kill", "sidecar").await?;
    traffic.more(200, &EDGES).await?;
    project.container_is("stop", "orders-2").await?;
    traffic.more(200, &EDGES).await?;
    project.container_is("start", "orders-2").await?;
    project.container_is("start", "sidecar").await?;
    compose::served().await?;
    traffic.serves("orders-2", &EDGES).await?;
    traffic.stop().await?.clean()
}

/// It loses no request, and has the change when it is back.
async fn an_envoy_cut_off_from_what_steers_it_serves_on(project: &Project) -> Result<String> {
    let traffic = Traffic::to_containers(project).await?;
    project.cut("edge-2", "control").await?;
    traffic.more(100, &EDGES).await?;
    project
        .redis(&["HSET", OVERRIDES, "orders-3", "Draining"])
        .await?;
    traffic.spares("orders-3", &["edge-1"]).await?;
    // Whether it hears of the change before is open: the sidecar, which probes the backends, has a
    // name in the other network too, and Envoy asks for its address every second.
    project.join("edge-2", "control", None).await?;
    traffic.spares("orders-3", &["edge-2"]).await?;
    project.redis(&["DEL", OVERRIDES]).await?;
    traffic.serves("orders-3", &["edge-1"]).await?;
    traffic.serves("orders-3", &["edge-2"]).await?;
    let counted = traffic.stop().await?;
    compose::served().await?;
    counted.clean()
}

/// The other one does not notice.
async fn an_envoy_cut_off_from_its_clients_comes_back(project: &Project) -> Result<String> {
    let traffic = Traffic::to_containers(project).await?;
    let address = project.address("edge-2", "traffic").await?;
    project.cut("edge-2", "traffic").await?;
    traffic.more(200, &["edge-1"]).await?;
    project.join("edge-2", "traffic", Some(address)).await?;
    traffic.more(50, &["edge-2"]).await?;
    traffic.serves("orders-1", &["edge-2"]).await?;
    let counted = traffic.stop().await?;
    counted.through("edge-1").ensure_clean()?;
    let lost = counted.through("edge-2").failed();
    Ok(format!("edge-1: 0 errors; edge-2, cut off: {lost} errors"))
}

/// Each Envoy publishes two pages of its admin interface.
async fn shows_its_figures_and_no_more(_: &Project) -> Result<String> {
    for port in [9902, 9903] {
        let mut client = compose::published(port);
        let text = client.get("/stats/prometheus").await?.text();
        let series = text
            .lines()
            .filter(|it| it.starts_with("pointsman_"))
            .count();
        ensure!(series > 5, "{port}: {series} series of the filter");
        for (path, wanted) in [("/ready", 200), ("/stats", 404), ("/quitquitquit", 404)] {
            let status = client.get(path).await?.status;
            ensure!(status == wanted, "{port}{path}: {status}");
        }
    }
    Ok("/ready and /stats/prometheus answer, nothing else does".to_owned())
}

/// Without them nothing is read, and no Envoy is served.
async fn asks_for_its_tokens(project: &Project) -> Result<String> {
    for path in ["/status", "/metrics"] {
        for token in [None, Some("wrong")] {
            let status = compose::admin(path, token).await?.status;
            ensure!(status == 401, "{path}: {status}");
        }
    }
    let sidecar = project.address("sidecar", "control").await?;
    let exchange = client::post("/v1/exchange", "{}");
    let answer = Client::new((sidecar, 18000).into()).send(exchange).await?;
    ensure!(
        answer.status == 401,
        "the exchange without a token: {}",
        answer.status
    );
    Ok("/status, /metrics and the exchange say 401".to_owned())
}

/// Every published port, and how the sidecar runs.
async fn publishes_on_loopback_and_gives_no_rights(project: &Project) -> Result<String> {
    let mut ports = 0;
    for service in ["redis", "sidecar"].iter().chain(&EDGES).chain(&BACKENDS) {
        let form = "{{range .NetworkSettings.Ports}}{{range .}}{{.HostIp}} {{end}}{{end}}";
        let hosts = project.shown(service, form).await?;
        for host in hosts.split_whitespace() {
            ensure!(host == "127.0.0.1", "{service} is published on {host}");
            ports += 1;
        }
    }
    ensure!(ports == 5, "{ports} ports are published");
    let form = "{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}} {{.Config.User}}";
    let shown = project.shown("sidecar", form).await?;
    ensure!(shown == "true [ALL] 65532:65532", "{shown}");
    Ok("5 ports, all on 127.0.0.1".to_owned())
}
