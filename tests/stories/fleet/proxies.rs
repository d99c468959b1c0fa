//! One sidecar, several Envoys, and who may ask it.

use anyhow::{Context, Result, ensure};
use harness::client::post;
use harness::{Behaviour, Bootstrap, Client, Envoy, Registry, Sidecar, eventually, throughout};
use serde_json::{Value, json};

use super::scene::{
    SOON, Scene, backends, bootstrap, check, orders, wait_for_servers, wait_for_the_workers,
};

async fn warm(envoy: &Envoy) -> Result<Vec<Client>> {
    let mut clients = envoy.pinned_clients().await?;
    for client in &mut clients {
        client.get("/").await?;
    }
    Ok(clients)
}

#[tokio::test]
async fn two_envoys_share_one_sidecar_and_both_obey_it() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let extra = json!({"healthCheck": check(50, 1)});
    let registry = Registry::new(vec![orders(&[&a, &b], extra)])?;
    let sidecar = Sidecar::start(&registry).await?;
    let mut envoys = Vec::new();
    for node in ["edge-1", "edge-2"] {
        envoys.push(Envoy::start(bootstrap(&sidecar)?.node(node)).await?);
    }
    let mut clients = warm(&envoys[0]).await?;
    clients.extend(warm(&envoys[1]).await?);
    wait_for_the_workers(&sidecar).await?;
    let status = sidecar.status().await?;
    let proxies = status["proxies"].as_array().context("proxies")?;
    let nodes: Vec<&Value> = proxies.iter().map(|proxy| &proxy["node"]).collect();
    ensure!(nodes == ["edge-1", "edge-2"], "{nodes:?}");
    let streams = |proxy: &Value| proxy["streams"].as_array().map(Vec::len);
    ensure!(proxies.iter().all(|proxy| streams(proxy) == Some(1)));
    let probes = a.probes().len();
    a.set_health(Behaviour::status(500));
    let out = wait_for_servers(&mut clients, &["b"]).await?;
    a.set_health(Behaviour::Ok);
    let back = wait_for_servers(&mut clients, &["a", "b"]).await?;
    println!("4 workers of 2 Envoys: out after {out:?}, back after {back:?}");
    // Probed once for the whole fleet, however many Envoys there are.
    let took = out + back;
    let rounds = usize::try_from(took.as_millis() / 50)? + 2;
    let probes = a.probes().len() - probes;
    println!("{probes} probes in {took:?}");
    ensure!(
        probes <= rounds,
        "{probes} probes, at most {rounds} are due"
    );
    for envoy in &envoys {
        let done = "wasmcustom.pointsman_exchanges_total;r=done";
        envoy.wait_for_stat_at_least(done, 1).await?;
    }
    // The other serves on when one goes, and the sidecar notices.
    envoys.pop().context("two Envoys")?.stop().await?;
    eventually(SOON, "its stream to be gone", async || {
        let status = sidecar.status().await?;
        let left = status["proxies"].as_array().context("proxies")?;
        let open = left
            .iter()
            .filter(|proxy| streams(proxy) == Some(1))
            .count();
        ensure!(open == 1, "{left:?}");
        Ok(())
    })
    .await?;
    clients.truncate(2);
    wait_for_servers(&mut clients, &["a", "b"]).await?;
    Ok(())
}

const TOKEN: &str = "a-word-that-nobody-should-see";

fn with_token(bootstrap: Bootstrap, token: &str) -> Bootstrap {
    let value = format!("Bearer {token}");
    bootstrap.edit(|root| {
        root["dynamic_resources"]["ads_config"]["grpc_services"][0]["initial_metadata"] =
            json!([{"key": "authorization", "value": value}]);
    })
}

#[tokio::test]
async fn with_a_token_set_only_those_who_show_it_are_served_and_obey() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let extra = json!({"healthCheck": check(50, 1)});
    let registry = Registry::new(vec![orders(&[&a, &b], extra)])?;
    let settings = [("POINTSMAN_XDS_TOKEN", TOKEN)];
    let sidecar = Sidecar::start_with(&registry, &settings).await?;
    let envoy = Envoy::start(with_token(bootstrap(&sidecar)?, TOKEN)).await?;
    let scene = Scene {
        envoy,
        sidecar,
        store: registry,
    };
    let mut clients = scene.clients().await?;
    a.set_health(Behaviour::status(500));
    let out = wait_for_servers(&mut clients, &["b"]).await?;
    println!("with the token: served, and a verdict is obeyed after {out:?}");

    for (who, stranger) in [
        ("without a token", bootstrap(&scene.sidecar)?),
        (
            "with another",
            with_token(bootstrap(&scene.sidecar)?, "guess"),
        ),
    ] {
        let envoy = Envoy::start(stranger.node("stranger")).await?;
        let mut client = envoy.client();
        let asked = async || {
            let asked = "cluster.pointsman_sidecar.upstream_rq_total";
            let asked = envoy.stat(asked).await?;
            ensure!(asked > 2, "it has asked {asked} times");
            Ok(())
        };
        let unserved = async || {
            let response = client.get("/").await?;
            ensure!(response.status == 503 && response.backend().is_none());
            Ok(())
        };
        let until = "it to be turned away twice";
        throughout(SOON, until, asked, unserved).await?;
        let status = scene.sidecar.status().await?.to_string();
        ensure!(!status.contains("stranger"), "{status}");
        println!("{who}: Envoy runs and has nothing");
    }
    let mut outsider = Client::new(scene.sidecar.xds_address());
    for authorization in [None, Some(format!("Bearer {TOKEN}"))] {
        let mut request = post("/v1/exchange", r#"{"node": "stranger"}"#);
        let content_type = "application/vnd.pointsman.exchange+json".parse()?;
        request.headers_mut().insert("content-type", content_type);
        if let Some(value) = authorization {
            // The proxies' own word opens xDS, and not this.
            request
                .headers_mut()
                .insert("authorization", value.parse()?);
        }
        ensure!(outsider.send(request).await?.status == 401);
    }
    let said = scene.sidecar.status().await?.to_string() + &scene.sidecar.metrics().await?;
    ensure!(!said.contains(TOKEN) && !scene.sidecar.process().log().contains(TOKEN));
    scene.ensure_sane().await
}
