//! Envoy's circuit breakers, by way of the document's `limits`.

use anyhow::{Result, ensure};
use harness::Behaviour;
use serde_json::json;

use crate::fleet::scene::{CLUSTER, Scene, backends, orders};
use crate::scene::{Requests, in_flight};

/// RL-7: two at a time, the third is refused by Envoy, and nobody is blamed for that.
#[tokio::test]
async fn rl_7_the_third_of_two_requests_at_a_time_is_refused_and_proves_nothing() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let document = orders(&[&a, &b], json!({"limits": {"maxRequests": 2}}));
    let mut scene = Scene::start(vec![document]).await?;
    let mut clients = scene.clients().await?;
    a.set(Behaviour::Hold);
    b.set(Behaviour::Hold);
    let slow = Requests::send(scene.envoy.address(), 2);
    in_flight(&[&a, &b], 2).await?;
    for client in &mut clients {
        let third = client.get("/").await?;
        println!("the third: {} {}", third.status, third.text());
        ensure!(
            third.status == 503 && third.text().contains("overflow"),
            "{third:?}"
        );
    }
    for (name, reason) in [
        ("events_total", "backoff_opened"),
        ("failed_attempts_total", "unknown"),
        ("failed_attempts_total", "connect"),
        ("refusals_total", "all_limited"),
    ] {
        let count = scene.figure(name, reason).await?;
        ensure!(count == 0, "{name} {reason}: {count}");
    }
    a.set(Behaviour::Ok);
    b.set(Behaviour::Ok);
    let answers = slow.answers().await?;
    ensure!(answers.iter().all(|answer| answer.status == 200));
    // An edit reaches the breakers.
    scene
        .edit(|registry| {
            registry.edit(CLUSTER, |orders| {
                orders["limits"] = json!({"maxRequests": 4})
            })
        })
        .await?;
    a.set(Behaviour::Hold);
    b.set(Behaviour::Hold);
    let slow = Requests::send(scene.envoy.address(), 4);
    in_flight(&[&a, &b], 4).await?;
    let fifth = scene.envoy.client().get("/").await?;
    ensure!(fifth.status == 503, "{}", fifth.status);
    a.set(Behaviour::Ok);
    b.set(Behaviour::Ok);
    slow.answers().await?;
    Ok(())
}
