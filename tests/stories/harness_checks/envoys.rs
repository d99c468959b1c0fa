//! A real Envoy from the shipped bootstraps, before any filter has a say.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use harness::websocket::WebSocket;
use harness::{Behaviour, Bootstrap, Envoy, Load, Upstream, grpc};
use serde_json::json;

const LIST: &str = "x-gateway-destination-endpoint";

fn backends() -> Result<(Upstream, Upstream, Vec<SocketAddr>)> {
    let (one, two) = (Upstream::new("one")?, Upstream::new("two")?);
    let addresses = vec![one.address(), two.address()];
    Ok((one, two, addresses))
}

/// `static.yaml` without its filter: Envoy's fallback policy balances.
fn unfiltered(endpoints: &[SocketAddr]) -> Result<Bootstrap> {
    Bootstrap::fixed(&json!({}))?
        .without_filter()?
        .endpoints("orders", endpoints)
}

#[tokio::test]
async fn envoy_runs_from_the_static_bootstrap_and_answers_its_admin() -> Result<()> {
    let (one, two, addresses) = backends()?;
    let envoy = Envoy::start(
        unfiltered(&addresses)?
            .endpoints("second", &addresses[1..])?
            .route("/second", "second")?,
    )
    .await?;
    let tally = Load::new(envoy.address(), 100).run().await?;
    tally.ensure_clean()?;
    assert_eq!(one.hits() + two.hits(), 100);
    ensure!(tally.by("one") > 0 && tally.by("two") > 0, "{tally:?}");

    let completed = "cluster.orders.upstream_rq_completed";
    envoy.wait_for_stat(completed, 100).await?;
    let printed: Vec<String> = addresses.iter().map(SocketAddr::to_string).collect();
    assert_eq!(envoy.hosts("orders").await?, Some(printed));
    assert_eq!(envoy.hosts("third").await?, None);
    assert_eq!(
        envoy.config_dump().await?["configs"][0]["bootstrap"]["node"]["id"],
        "edge-1"
    );
    assert_eq!(envoy.client().get("/second").await?.backend(), Some("two"));
    ensure!(envoy.process().cpu()? > Duration::ZERO);
    ensure!(
        envoy
            .prometheus()
            .await?
            .contains("envoy_cluster_upstream_rq_completed")
    );
    envoy.stop().await
}

#[tokio::test]
async fn the_shipped_recipe_obeys_a_list_and_hides_it_from_backends() -> Result<()> {
    let (one, two, addresses) = backends()?;
    let envoy = Envoy::start(unfiltered(&addresses)?.allow_header(LIST)?).await?;
    let mut client = envoy.client();
    for upstream in [&one, &two, &one] {
        let list = upstream.address().to_string();
        let response = client.get_with("/", &[(LIST, &list)]).await?;
        assert_eq!(response.backend(), Some(upstream.id()));
    }
    ensure!(
        one.requests()
            .iter()
            .all(|request| request.header(LIST).is_none())
    );
    Ok(())
}

/// How often the two backends are reached by 20 requests of a client that names the first one and
/// asks for retries; the second answers 503. Envoy takes the client for internal: it would obey.
async fn hits_of_a_bold_client(bootstrap: Bootstrap, one: &Upstream, two: &Upstream) -> Result<()> {
    two.set(Behaviour::status(503));
    let trusting = bootstrap.edit(|root| {
        let path = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
        if let Some(manager) = root.pointer_mut(path) {
            manager["use_remote_address"] = true.into();
            manager["internal_address_config"] =
                json!({"cidr_ranges": [{"address_prefix": "127.0.0.0", "prefix_len": 8}]});
        }
    });
    let envoy = Envoy::start(trusting).await?;
    let mut client = envoy.client();
    for _ in 0..20 {
        let list = one.address().to_string();
        let wishes = [
            (LIST, list.as_str()),
            ("x-envoy-retry-on", "5xx"),
            ("x-envoy-max-retries", "3"),
        ];
        client.get_with("/", &wishes).await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_shipped_recipe_drops_a_clients_list_and_its_retry_headers() -> Result<()> {
    let (one, two, addresses) = backends()?;
    hits_of_a_bold_client(unfiltered(&addresses)?, &one, &two).await?;
    ensure!(two.hits() > 0, "the client's list was obeyed");
    assert_eq!(
        one.hits() + two.hits(),
        20,
        "the client's retries were obeyed"
    );
    Ok(())
}

#[tokio::test]
async fn without_the_early_mutation_a_bold_client_would_steer() -> Result<()> {
    let (one, two, addresses) = backends()?;
    let bootstrap = unfiltered(&addresses)?.allow_header(LIST)?;
    hits_of_a_bold_client(bootstrap, &one, &two).await?;
    assert_eq!((one.hits(), two.hits()), (20, 0));

    one.forget();
    let bootstrap = unfiltered(&addresses)?
        .allow_header("x-envoy-retry-on")?
        .allow_header("x-envoy-max-retries")?;
    hits_of_a_bold_client(bootstrap, &one, &two).await?;
    ensure!(
        one.hits() + two.hits() > 20,
        "no retry in {} + {}",
        one.hits(),
        two.hits()
    );
    Ok(())
}

#[tokio::test]
async fn two_workers_get_one_pinned_connection_each() -> Result<()> {
    let (_one, _two, addresses) = backends()?;
    let envoy = Envoy::start(unfiltered(&addresses)?.concurrency(2).exact_balance()?).await?;
    let mut clients = envoy.pinned_clients().await?;
    assert_eq!(clients.len(), 2);
    for client in &mut clients {
        assert_eq!(client.get("/").await?.status, 200);
    }
    let held = envoy.connections_by_worker().await?;
    assert_eq!(
        held.values().copied().collect::<Vec<_>>(),
        [1, 1],
        "{held:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_restarted_envoy_has_the_same_addresses() -> Result<()> {
    let (_one, _two, addresses) = backends()?;
    let mut envoy = Envoy::start(unfiltered(&addresses)?).await?;
    let (address, pid) = (envoy.address(), envoy.process().pid());
    let mut client = envoy.client();
    client.get("/").await?;
    envoy.restart().await?;
    ensure!(envoy.process().pid() != pid);
    assert_eq!(envoy.address(), address);
    assert_eq!(client.get("/").await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn websockets_and_grpc_pass() -> Result<()> {
    let (_one, _two, addresses) = backends()?;
    let h2 = |root: &mut serde_json::Value| {
        let mut cluster = root["static_resources"]["clusters"][0].clone();
        cluster["name"] = "grpc".into();
        let options = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
        cluster["typed_extension_protocol_options"] = json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": options,
            "explicit_http_config": {"http2_protocol_options": {}},
        }});
        if let Some(clusters) = root["static_resources"]["clusters"].as_array_mut() {
            clusters.push(cluster);
        }
    };
    let bootstrap = unfiltered(&addresses)?.edit(h2).route("/a.B/", "grpc")?;
    let envoy = Envoy::start(bootstrap).await?;
    let mut socket = WebSocket::open(envoy.address(), "/chat").await?;
    assert_eq!(socket.echo("hello").await?, "hello");
    let reply = grpc::call(envoy.address(), "/a.B/C", b"message").await?;
    assert_eq!(
        (reply.grpc_status, &*reply.message),
        (Some(0), &b"message"[..])
    );
    Ok(())
}

#[tokio::test]
async fn a_bootstrap_that_envoy_refuses_fails_with_its_words() -> Result<()> {
    let refused = unfiltered(&[])?.edit(|root| root["nonsense"] = true.into());
    let error = Envoy::start(refused).await.expect_err("Envoy exits");
    ensure!(format!("{error:#}").contains("nonsense"), "{error:#}");
    Ok(())
}

#[tokio::test]
async fn the_ads_bootstrap_starts_without_a_sidecar_and_answers_503() -> Result<()> {
    let nobody = harness::port::Port::reserve()?;
    let envoy = Envoy::start(Bootstrap::ads(nobody.address())?.without_filter()?).await?;
    assert_eq!(envoy.client().get("/").await?.status, 503);
    assert_eq!(
        envoy
            .hosts("pointsman_sidecar")
            .await?
            .map(|hosts| hosts.len()),
        Some(1)
    );
    Ok(())
}

#[tokio::test]
async fn a_dropped_envoy_is_gone() -> Result<()> {
    let (_one, _two, addresses) = backends()?;
    let envoy = Envoy::start(unfiltered(&addresses)?).await?;
    let pid = envoy.process().pid();
    drop(envoy);
    ensure!(
        !std::path::Path::new(&format!("/proc/{pid}")).exists(),
        "{pid} still runs"
    );
    Ok(())
}
