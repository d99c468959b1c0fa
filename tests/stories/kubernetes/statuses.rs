//! What an object says of itself: written when it is news, not too often, and again when it is lost.

use std::collections::BTreeSet;
use std::time::Instant;

use harness::websocket::WebSocket;
use harness::{Load, artefacts};
use hyper::Method;

use super::*;

/// Statuses that are seen written, one after the other.
const WRITTEN: usize = 4;

#[tokio::test]
async fn what_flaps_is_written_once_a_second() -> Result<()> {
    let one = Upstream::new("one")?;
    let Some(story) = serve("what_flaps", &[&one], &[]).await? else {
        return Ok(());
    };
    condition(&story.store, "orders", "Programmed", "Programmed").await?;
    let (mut edits, mut said) = (0_usize, BTreeSet::new());
    let begun = Instant::now();
    eventually(
        SOON,
        "several statuses, by one edit after the other",
        async || {
            edits += 1;
            let mut document = registry::cluster("orders", &[&one], json!({}));
            document["backends"][0]["weight"] = json!(1 + edits % 2);
            story.store.put(&document).await?;
            let object = story.store.get("orders").await?;
            said.insert(object["status"]["observedGeneration"].as_i64());
            ensure!(said.len() >= WRITTEN, "{said:?}");
            Ok(())
        },
    )
    .await?;
    // One a second, but for the one before and one that was just due.
    let took = begun.elapsed();
    let least = Duration::from_secs(u64::try_from(said.len())? - 2);
    ensure!(took >= least, "{edits} edits: {said:?} within {took:?}");
    ensure!(edits > 2 * said.len(), "{edits} edits say nothing");
    // The last word stands in the end.
    condition(&story.store, "orders", "Programmed", "Programmed").await?;
    end_well(story).await
}

/// Proxies are not told of it, and run it all the same.
#[tokio::test]
async fn another_probe_is_programmed_too() -> Result<()> {
    let one = Upstream::new("one")?;
    let Some(story) = serve("another_probe", &[&one], &[]).await? else {
        return Ok(());
    };
    condition(&story.store, "orders", "Programmed", "Programmed").await?;
    let check = json!({"healthCheck": {"http": {}, "interval": "50ms"}});
    let document = registry::cluster("orders", &[&one], check);
    story.store.put(&document).await?;
    condition(&story.store, "orders", "Programmed", "Programmed").await?;
    eventually(SOON, "a probe", async || {
        ensure!(!one.probes().is_empty());
        Ok(())
    })
    .await?;
    end_well(story).await
}

#[tokio::test]
async fn what_somebody_wiped_is_written_with_the_next_full_reading() -> Result<()> {
    let one = Upstream::new("one")?;
    let settings = [("POINTSMAN_RECONCILE_INTERVAL", "1s")];
    let Some(story) = serve("what_somebody_wiped", &[&one], &settings).await? else {
        return Ok(());
    };
    condition(&story.store, "orders", "Programmed", "Programmed").await?;
    let path = format!("{}/orders/status", story.store.clusters());
    let wiped = json!({"status": null});
    let wiped = Some(("application/merge-patch+json", &wiped));
    let answer = story.store.ask(Method::PATCH, &path, wiped).await?;
    let object = answer.ok()?;
    ensure!(object.get("status").is_none(), "{object}");
    condition(&story.store, "orders", "Programmed", "Programmed").await?;
    end_well(story).await
}

/// A live upgrade: the VMs of the module before are held by streams, and nobody waits for them.
#[tokio::test]
async fn an_edit_after_a_new_module_is_programmed() -> Result<()> {
    let one = Upstream::new("one")?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("pointsman.wasm");
    artefacts::write_build(1, &file)?;
    let module = format!("inline:{}", file.display());
    let settings = [
        ("POINTSMAN_WASM", module.as_str()),
        ("POINTSMAN_LEASE_DURATION", "3s"),
    ];
    let Some(mut story) = serve("a_new_module", &[&one], &settings).await? else {
        return Ok(());
    };
    let load = Load::new(story.envoy.address(), u64::MAX);
    let load = load.connections(4).per_second(100).start();
    let mut held = WebSocket::open(story.envoy.address(), "/held").await?;
    let vms = "wasm.envoy.wasm.runtime.v8.created";
    let before = story.envoy.stat(vms).await?;
    artefacts::write_build(2, &file)?;
    story.sidecar.restart().await?;
    // The main thread's and each worker's.
    story.envoy.wait_for_stat_at_least(vms, before + 3).await?;
    let mut document = registry::cluster("orders", &[&one], json!({}));
    document["backends"][0]["weight"] = json!(7);
    story.store.put(&document).await?;
    let edited = Instant::now();
    let said = condition(&story.store, "orders", "Programmed", "Programmed").await?;
    println!("programmed {:?} after the edit: {said}", edited.elapsed());
    ensure!(said["status"] == "True", "{said}");
    ensure!(held.echo("still here").await? == "still here");
    load.stop().await?.ensure_clean()?;
    end_well(story).await
}
