//! A sidecar on another host, and what containers run beside Envoy and sidecar.

use std::process::Command;

use anyhow::{Result, ensure};
use harness::process::Process;
use harness::sidecar::run;
use harness::{
    Behaviour, Bootstrap, Envoy, Registry, SOON, Sidecar, Upstream, artefacts, eventually,
    registry, throughout,
};
use serde_json::json;

/// The bootstrap for a sidecar elsewhere, with this token.
fn remote(sidecar: &Sidecar, token: &str) -> Result<Bootstrap> {
    let bootstrap = Bootstrap::remote(sidecar.xds_address())?;
    Ok(bootstrap.edit(|root| {
        let secret = json!({"inline_string": token});
        root["static_resources"]["secrets"][0]["generic_secret"]["secret"] = secret;
    }))
}

#[tokio::test]
async fn the_remote_bootstrap_shows_its_token_and_the_exchange_its_own() -> Result<()> {
    let one = Upstream::new("one")?;
    let check = json!({"healthCheck": {"http": {"path": "/healthz"}, "interval": "200ms"}});
    let registry = Registry::new(vec![registry::cluster("orders", &[&one], check)])?;
    let settings = [("POINTSMAN_XDS_TOKEN", "s3cret")];
    let sidecar = Sidecar::start_with(&registry, &settings).await?;
    let envoy = Envoy::start(remote(&sidecar, "s3cret")?).await?;
    let mut client = envoy.client();
    eventually(SOON, "the first answer", async || {
        let response = client.get("/").await?;
        ensure!(response.backend() == Some("one"), "{}", response.status);
        Ok(())
    })
    .await?;
    eventually(SOON, "the filter to report", async || {
        let status = sidecar.status().await?;
        let proxy = &status["proxies"][0];
        ensure!(
            proxy["node"] == "edge-1" && proxy["workers"] == 1,
            "{proxy}"
        );
        Ok(())
    })
    .await?;

    let stranger = Envoy::start(remote(&sidecar, "wrong")?).await?;
    // Turned away twice.
    let asked = "cluster.pointsman_sidecar.upstream_rq_total";
    stranger.wait_for_stat_at_least(asked, 3).await?;
    assert_eq!(stranger.hosts("orders").await?, None);
    Ok(())
}

#[tokio::test]
async fn health_answers_by_its_exit_code() -> Result<()> {
    let registry = Registry::new(vec![registry::cluster("orders", &[], json!({}))])?;
    let sidecar = Sidecar::start(&registry).await?;
    let address = sidecar.admin_address().to_string();
    let listen = [("POINTSMAN_ADMIN_LISTEN", address.as_str())];
    for arguments in [&["health"][..], &["health", "--live"]] {
        let folder = tempfile::tempdir()?;
        let (code, words) = run(arguments, &listen, folder.path()).await?;
        assert_eq!((code, words.as_str()), (0, "ok\n"), "{arguments:?}");
    }
    sidecar.kill();
    let folder = tempfile::tempdir()?;
    let (code, words) = run(&["health"], &listen, folder.path()).await?;
    ensure!(code == 1 && words.contains(&address), "{code} {words}");
    Ok(())
}

/// Requests to Envoy's admin interface.
const LOOKS: &str = "http.admin.downstream_rq_total";

/// What a pod's Envoy does before it is stopped.
#[tokio::test]
async fn the_drain_hook_waits_for_the_requests_that_run() -> Result<()> {
    let one = Upstream::new("one")?;
    let container =
        Registry::new(vec![registry::cluster("orders", &[&one], json!({}))])?.container();
    let bootstrap = Bootstrap::fixed(&container)?.endpoints("orders", &[one.address()])?;
    let envoy = Envoy::start(bootstrap).await?;
    one.set(Behaviour::Hold);
    let mut client = envoy.client();
    let held = tokio::spawn(async move { client.get("/").await });
    eventually(SOON, "the request to arrive", async || {
        ensure!(one.in_flight() == 1);
        Ok(())
    })
    .await?;

    let folder = tempfile::tempdir()?;
    let mut command = Command::new("bash");
    command
        .arg(artefacts::root().join("envoy/kubernetes/drain.sh"))
        .env("ENVOY_ADMIN_PORT", envoy.admin_address().port().to_string())
        .env("DRAIN_SETTLE_SECONDS", "0");
    let hook = Process::start(command, &folder.path().join("drain.log"))?;
    eventually(SOON, "/ready to say 503", async || {
        ensure!(envoy.admin_get("/ready").await.is_err());
        Ok(())
    })
    .await?;
    // Each look at the statistics is a request of its own: the hook's, or one of these.
    let mut own_looks = 0;
    let before = envoy.stat(LOOKS).await?;
    let looks = async || {
        own_looks += 1;
        let looks = envoy.stat(LOOKS).await? - before - own_looks;
        ensure!(looks >= 3, "{looks} looks");
        Ok(())
    };
    throughout(SOON, "three looks of the hook", looks, async || {
        hook.ensure_running()
    })
    .await?;
    one.set(Behaviour::Ok);
    ensure!(held.await??.backend() == Some("one"));
    let ended = hook.exit(SOON).await?;
    ensure!(ended.success(), "{ended}: {}", hook.log());
    Ok(())
}
