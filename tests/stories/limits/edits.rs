//! Limits and the registry: what an edit keeps, and what `/status` shows.

use anyhow::{Context, Result, ensure};
use harness::Client;
use serde_json::json;

use crate::fleet::scene::{CLUSTER, Scene, backends, orders};

/// How many of so many requests are served; the others must be 429.
async fn served(clients: &mut [Client], requests: usize) -> Result<usize> {
    let mut served = 0;
    for nth in 0..requests {
        let place = nth % clients.len();
        let response = clients[place].get("/").await?;
        let status = response.status.as_u16();
        ensure!(status == 200 || status == 429, "{status}");
        served += usize::from(status == 200);
    }
    Ok(served)
}

/// RL-8: on both workers the bucket stays empty over an edit of anything else, and is full after one of
/// its limit; a new backend's is full (AD-6).
#[tokio::test]
async fn rl_8_a_bucket_outlives_every_edit_but_one_of_its_limit() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    // So that no token comes while edits are made.
    let limit = |burst: u32| json!({"perSecond": 1, "burst": burst});
    let mut document = orders(&[&a], json!({}));
    document["backends"][0]["rateLimit"] = limit(1000);
    let mut scene = Scene::start(vec![document]).await?;
    let mut clients = scene.clients().await?;
    let before = served(&mut clients, 1300).await?;
    let took = scene
        .edit(|registry| {
            registry.edit(CLUSTER, |orders| {
                orders["retry"] = json!({"attempts": 2});
                orders["backends"][0]["weight"] = json!(7);
            })
        })
        .await?;
    let kept = served(&mut clients, 300).await?;
    scene
        .edit(|registry| registry.edit_backend(CLUSTER, "a", |a| a["rateLimit"] = limit(500)))
        .await?;
    let full = served(&mut clients, 700).await?;
    println!(
        "{before} of 1300; {kept} of 300 after an edit ({took:?}) of something else; {full} of 700 after one of the limit"
    );
    ensure!((990..1290).contains(&before), "{before}");
    ensure!(kept < 100 && full >= 500, "{kept}, {full}");

    scene
        .edit(|registry| {
            registry.edit(CLUSTER, |orders| {
                let mut entry = harness::registry::backend(&b);
                entry["rateLimit"] = limit(200);
                orders["backends"]
                    .as_array_mut()
                    .expect("a list")
                    .push(entry);
            })
        })
        .await?;
    let new = served(&mut clients, 300).await?;
    println!("{new} of 300 once there is a new backend");
    ensure!((200..290).contains(&new) && b.hits() >= 200, "{new}");
    Ok(())
}

/// RL-7: what the document says of limits stands in `/status`.
#[tokio::test]
async fn rl_7_status_shows_limits() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let mut document = orders(
        &[&a, &b],
        json!({"limits": {"maxRequests": 9}, "rateLimit": {"perSecond": 500}}),
    );
    document["backends"][1]["maxInFlight"] = json!(12);
    document["backends"][1]["rateLimit"] = json!({"perSecond": 7});
    let scene = Scene::start(vec![document]).await?;
    let status = scene.sidecar.status().await?;
    let cluster = status["clusters"].get(0).context("no cluster")?;
    ensure!(cluster["limits"]["maxRequests"] == 9, "{cluster}");
    ensure!(
        cluster["rateLimit"] == json!({"perSecond": 500, "burst": 1000}),
        "{cluster}"
    );
    let [a, b] = [0, 1].map(|place| &cluster["backends"][place]);
    ensure!(
        a["maxInFlight"].is_null() && a["rateLimit"].is_null(),
        "{a}"
    );
    ensure!(
        b["maxInFlight"] == 12 && b["rateLimit"]["burst"] == 14,
        "{b}"
    );
    Ok(())
}
