//! The sidecar as a process: addresses that last, deaths and hangs on demand.

use std::time::Duration;

use anyhow::{Result, ensure};
use harness::{Behaviour, Registry, SOON, Sidecar, Upstream, eventually, registry, sidecar};
use serde_json::json;
use tokio::time::timeout;

/// Long for an answer over loopback, short for a test.
const PATIENCE: Duration = Duration::from_millis(500);

async fn started() -> Result<(Upstream, Registry, Sidecar)> {
    let one = Upstream::new("one")?;
    let registry = Registry::new(vec![registry::cluster("orders", &[&one], json!({}))])?;
    let sidecar = Sidecar::start(&registry).await?;
    Ok((one, registry, sidecar))
}

#[tokio::test]
async fn a_sidecar_comes_back_on_its_addresses() -> Result<()> {
    let (_one, _registry, mut sidecar) = started().await?;
    let addresses = (sidecar.xds_address(), sidecar.admin_address());
    ensure!(sidecar.status().await?.is_object());
    ensure!(sidecar.metrics().await?.contains("# TYPE"));
    sidecar.kill();
    ensure!(sidecar.get("/livez").await.is_err());
    sidecar.restart().await?;
    assert_eq!((sidecar.xds_address(), sidecar.admin_address()), addresses);
    assert_eq!(sidecar.get("/livez").await?.status, 200);
    sidecar.stop().await
}

#[tokio::test]
async fn a_hung_sidecar_says_nothing_until_it_goes_on() -> Result<()> {
    let (_one, _registry, sidecar) = started().await?;
    sidecar.hang().await?;
    ensure!(
        timeout(PATIENCE, sidecar.get("/livez")).await.is_err(),
        "it answered"
    );
    sidecar.resume()?;
    assert_eq!(sidecar.get("/livez").await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn probes_reach_the_health_path_and_are_kept_apart() -> Result<()> {
    let one = Upstream::new("one")?;
    one.set_health(Behaviour::status(503));
    let check = json!({"http": {"path": "/healthz"}, "interval": "100ms", "timeout": "100ms"});
    let document = registry::cluster("orders", &[&one], json!({"healthCheck": check}));
    let _sidecar = Sidecar::start(&Registry::new(vec![document])?).await?;
    eventually(SOON, "three probes", async || {
        ensure!(one.probes().len() >= 3, "{} probes", one.probes().len());
        Ok(())
    })
    .await?;
    assert_eq!(one.hits(), 0);
    Ok(())
}

#[tokio::test]
async fn a_sidecar_that_cannot_start_says_why() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let settings = [("DEMO_MODE", "true"), ("POINTSMAN_ADMIN_LISTEN", "nowhere")];
    let (code, output) = sidecar::run(&["serve"], &settings, folder.path()).await?;
    ensure!(code != 0, "exit code 0");
    ensure!(output.contains("POINTSMAN_ADMIN_LISTEN"), "{output}");
    Ok(())
}
