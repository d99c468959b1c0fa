//! HTTP/2 and TLS between Envoy and the backends, requests and probes alike (HC-4, 18, RG-23).

use std::fs;

use anyhow::{Context, Result, ensure};
use harness::{Behaviour, Registry, Sidecar, TlsFront, Upstream, eventually};
use serde_json::{Value, json};

use super::scene::{
    SOON, Scene, answered_by, backends, check, orders, wait_for_servers, wait_for_verdict,
};
use crate::scene::wait_for_probes;

/// HTTP/2 has no `host` field; HTTP/1.1 requires one.
fn by_http2(backend: &Upstream) -> (usize, usize) {
    let records = [backend.requests(), backend.probes()];
    let http2 = records.map(|all| all.iter().filter(|it| it.header("host").is_none()).count());
    http2.into()
}

#[tokio::test]
async fn rg_23_hc_4_http2_reaches_requests_and_probes_and_can_be_switched_while_serving()
-> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let checked = json!({"healthCheck": check(50, 2)});
    let mut http2 = checked.clone();
    http2["http2"] = true.into();
    let mut scene = Scene::start(vec![orders(&[&a, &b], http2)]).await?;
    let mut clients = scene.clients().await?;
    answered_by(&mut clients, 40).await?;
    a.set_health(Behaviour::status(500));
    wait_for_servers(&mut clients, &["b"]).await?;
    a.set_health(Behaviour::Ok);
    wait_for_servers(&mut clients, &["a", "b"]).await?;
    let seen = by_http2(&a);
    println!(
        "HTTP/2: {seen:?} of {:?} requests and probes",
        (a.hits(), a.probes().len())
    );
    ensure!(seen == (a.hits(), a.probes().len()) && seen.0 > 0 && seen.1 > 0);
    // HC-4: a connection that the backend retires under the probe is a failure.
    a.set_health(Behaviour::RefuseStream);
    wait_for_servers(&mut clients, &["b"]).await?;
    a.set_health(Behaviour::Ok);
    wait_for_servers(&mut clients, &["a", "b"]).await?;

    scene
        .edit(|registry| registry.put(orders(&[&a, &b], checked)))
        .await?;
    answered_by(&mut clients, 40).await?;
    a.forget();
    answered_by(&mut clients, 40).await?;
    wait_for_probes(&a, 3).await?;
    println!(
        "switched to HTTP/1.1: {:?} of {} by HTTP/2",
        by_http2(&a),
        a.hits()
    );
    ensure!(by_http2(&a) == (0, 0) && a.hits() > 0);
    scene.ensure_sane().await
}

/// A cluster of these fronts' backends, with the first front's authority as the trusted one.
fn secured(fronts: &[(&Upstream, &TlsFront)], http2: bool) -> Result<Value> {
    let backends: Vec<&Upstream> = fronts.iter().map(|(backend, _)| *backend).collect();
    let ca_file = fronts.first().context("a front")?.1.ca_file();
    let extra = json!({
        "healthCheck": check(50, 2),
        "http2": http2,
        "tls": {"sni": "orders.test", "caFile": ca_file},
    });
    let mut document = orders(&backends, extra);
    let entries = document["backends"].as_array_mut().context("backends")?;
    for (entry, (_, front)) in entries.iter_mut().zip(fronts) {
        entry["address"] = front.address().to_string().into();
    }
    Ok(document)
}

async fn served_over_tls(http2: bool) -> Result<()> {
    let [a] = backends(["a"])?;
    let front = TlsFront::before(&a, "orders.test")?;
    let document = secured(&[(&a, &front)], http2)?;
    let scene = Scene::start(vec![document]).await?;
    let mut clients = scene.clients().await?;
    answered_by(&mut clients, 20).await?;
    wait_for_probes(&a, a.probes().len() + 3).await?;
    let sessions = front.sessions();
    let named = |name: &Option<String>| name.as_deref() == Some("orders.test");
    ensure!(
        sessions.iter().all(|session| named(&session.server_name)),
        "{sessions:?}"
    );
    // Over HTTP/1.1 nobody needs ALPN; over HTTP/2 everybody does.
    let h2 = sessions
        .iter()
        .filter(|s| s.protocol.as_deref() == Some("h2"))
        .count();
    println!(
        "TLS, http2={http2}: {} requests, {} probes over {} sessions, {h2} of them h2",
        a.hits(),
        a.probes().len(),
        sessions.len()
    );
    ensure!(h2 == if http2 { sessions.len() } else { 0 });
    ensure!(
        by_http2(&a)
            == if http2 {
                (a.hits(), a.probes().len())
            } else {
                (0, 0)
            }
    );
    scene.wait_for_figure("available_backends", "", 1).await?;
    scene.ensure_sane().await
}

/// 17.3: a file that comes late, is renamed over, is swapped under a link: neither its time nor its
/// inode says so, and nobody is told.
#[tokio::test]
async fn envoy_and_the_probes_trust_what_the_file_holds_and_change_together() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let fronts = [&a, &b].map(|it| TlsFront::before(it, "orders.test"));
    let [front_a, front_b] = fronts;
    let (front_a, front_b) = (front_a?, front_b?);
    let folder = tempfile::tempdir()?;
    let (file, beside) = (folder.path().join("ca.pem"), folder.path().join("beside"));
    let mut document = secured(&[(&a, &front_a), (&b, &front_b)], false)?;
    document["tls"]["caFile"] = json!(file);
    let scene = Scene::start(vec![document]).await?;
    let mut clients = scene.clients().await?;
    let refused = clients[0].send(harness::client::get("/")).await?;
    ensure!(
        refused.status == 503,
        "nobody is trusted yet: {}",
        refused.status
    );
    let why = scene.sidecar.status().await?["clusters"][0]["caFileError"].clone();
    ensure!(
        why.as_str().is_some_and(|why| why.contains("No such file")),
        "{why}"
    );

    fs::copy(front_a.ca_file(), &file)?;
    wait_for_servers(&mut clients, &["a"]).await?;
    wait_for_verdict(&scene.sidecar, "b", false).await?;
    let time = fs::metadata(&file)?.modified()?;
    let both = [fs::read(front_a.ca_file())?, fs::read(front_b.ca_file())?].concat();
    fs::write(folder.path().join("both.pem"), both)?;
    let held = fs::File::options()
        .write(true)
        .open(folder.path().join("both.pem"))?;
    held.set_modified(time)?;
    std::os::unix::fs::symlink("both.pem", &beside)?;
    fs::rename(&beside, &file)?;
    wait_for_servers(&mut clients, &["a", "b"]).await?;

    fs::copy(front_b.ca_file(), &beside)?;
    fs::rename(&beside, &file)?;
    wait_for_verdict(&scene.sidecar, "a", false).await?;
    wait_for_servers(&mut clients, &["b"]).await?;
    fs::remove_file(&file)?;
    eventually(SOON, "the loss to be told", async || {
        let status = scene.sidecar.status().await?;
        ensure!(status["clusters"][0]["caFileError"].is_string(), "{status}");
        Ok(())
    })
    .await?;
    answered_by(&mut clients, 20).await?;
    scene.ensure_sane().await
}

#[tokio::test]
async fn requests_and_probes_go_over_tls_with_the_name_that_the_registry_says() -> Result<()> {
    served_over_tls(false).await
}

#[tokio::test]
async fn requests_and_probes_go_over_tls_and_http2() -> Result<()> {
    served_over_tls(true).await
}

#[tokio::test]
async fn a_backend_whose_certificate_nobody_vouches_for_is_out_and_never_asked() -> Result<()> {
    let [good, bad] = backends(["good", "bad"])?;
    let trusted = TlsFront::before(&good, "orders.test")?;
    let stranger = TlsFront::before(&bad, "orders.test")?;
    let document = secured(&[(&good, &trusted), (&bad, &stranger)], false)?;
    let scene = Scene::start(vec![document]).await?;
    wait_for_verdict(&scene.sidecar, "bad", false).await?;
    let mut clients = scene.clients().await?;
    let order = answered_by(&mut clients, 40).await?;
    let status = scene.sidecar.status().await?;
    let reason = &status["clusters"][0]["backends"][1]["lastFailureReason"];
    println!("unhealthy by {reason}; {} requests reached it", bad.hits());
    ensure!(reason == "tls" && bad.hits() == 0);
    ensure!(order.iter().all(|backend| backend == "good"));
    scene.ensure_sane().await
}

#[tokio::test]
async fn hc_18_a_tcp_check_only_connects_and_another_port_can_be_asked() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let checks = json!({
        "tcp": {}, "port": b.address().port(), "interval": "50ms", "timeout": "20s",
        "healthyThreshold": 2, "unhealthyThreshold": 2,
    });
    let document = orders(&[&a], json!({"healthCheck": checks}));
    let registry = Registry::new(vec![document])?;
    let sidecar = Sidecar::start(&registry).await?;
    eventually(SOON, "connections to the other port", async || {
        ensure!(b.accepted().len() >= 3, "{}", b.accepted().len());
        Ok(())
    })
    .await?;
    ensure!(a.accepted().is_empty() && b.probes().is_empty() && b.hits() == 0);
    b.stop().await;
    let out = wait_for_verdict(&sidecar, "a", false).await?;
    b.start()?;
    let back = wait_for_verdict(&sidecar, "a", true).await?;
    println!("the other port closed: unhealthy after {out:?}; open: healthy after {back:?}");
    Ok(())
}
