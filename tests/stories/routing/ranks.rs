//! Tiered: by rank, in turns among equals, and by cost.

use std::time::Duration;

use anyhow::{Result, ensure};
use harness::registry::{backend, cluster};
use harness::{Behaviour, Upstream};
use serde_json::{Value, json};

use crate::scene::{CLUSTER, answered_by, backends, serve, shares, wait_for_figure_at_least};

/// A backend with a rank.
fn ranked(upstream: &Upstream, weight: u16) -> Value {
    let mut ranked = backend(upstream);
    ranked["weight"] = weight.into();
    ranked
}

#[tokio::test]
async fn lb_13_lb_14_lb_22_equals_take_turns_and_the_next_tier_waits_for_failures() -> Result<()> {
    let [a, b, second, third] = backends(["a", "b", "second", "third"])?;
    let settings = json!({
        "loadBalancing": {"policy": "Tiered"},
        "backoff": {"base": "30s", "max": "30s"},
    });
    let mut document = cluster(CLUSTER, &[], settings);
    document["backends"] = json!([
        ranked(&third, 20),
        ranked(&second, 60),
        ranked(&a, 100),
        ranked(&b, 100),
    ]);
    let envoy = serve(&document).await?;
    let mut client = envoy.client();
    let order = answered_by(&mut client, 100).await?;
    ensure!(order.windows(2).all(|pair| pair[0] != pair[1]), "{order:?}");
    let all_up = shares(&order);
    println!("LB-14: {all_up:?}, strictly in turns");
    assert_eq!(all_up, [("a", 50), ("b", 50)].into());
    a.stop().await;
    assert_eq!(
        shares(&answered_by(&mut client, 20).await?),
        [("b", 20)].into()
    );
    b.stop().await;
    assert_eq!(
        shares(&answered_by(&mut client, 20).await?),
        [("second", 20)].into()
    );
    second.stop().await;
    assert_eq!(
        shares(&answered_by(&mut client, 20).await?),
        [("third", 20)].into()
    );
    // One pick of each finds its backend gone, and the list goes on.
    for (tier, picks) in [("tier_1", 121), ("tier_2", 20), ("tier_3", 19)] {
        let counted = wait_for_figure_at_least(&envoy, "picks_total", tier, picks).await?;
        assert_eq!(counted, picks, "LB-22: {tier}");
    }
    Ok(())
}

#[tokio::test]
async fn lb_14_lb_15_in_the_middle_tier_costs_decide_among_equals() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let settings = json!({
        "loadBalancing": {"policy": "Tiered", "smoothing": 1, "initialLatency": "0s"},
    });
    let mut document = cluster(CLUSTER, &[], settings);
    document["backends"] = json!([ranked(&a, 60), ranked(&b, 60)]);
    let envoy = serve(&document).await?;
    let mut client = envoy.client();
    a.set(Behaviour::Slow(Duration::from_millis(2500)));
    let slow = answered_by(&mut client, 20).await?;
    println!("LB-14: a answers after 2.5 s: {:?}", shares(&slow));
    assert_eq!(shares(&slow), [("a", 1), ("b", 19)].into());
    // One failure counts as 12 s: more than a's 2.5.
    a.set(Behaviour::Ok);
    b.set(Behaviour::status(503));
    let failed = client.get("/").await?;
    ensure!(failed.status == 503, "{failed:?}");
    let order = answered_by(&mut client, 20).await?;
    println!("LB-15: b has answered 503 once: {:?}", shares(&order));
    assert_eq!(shares(&order), [("a", 20)].into());
    Ok(())
}

/// RT-15, invariant 5: what a client asks for that is not there tells nothing of its backend.
#[tokio::test]
async fn rt_15_a_client_moves_nobody_by_bad_requests() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let settings = json!({"loadBalancing": {"policy": "Tiered", "initialLatency": "0s"}});
    let mut document = cluster(CLUSTER, &[], settings);
    document["backends"] = json!([ranked(&a, 60), ranked(&b, 60)]);
    let envoy = serve(&document).await?;
    let mut client = envoy.client();
    a.set(Behaviour::status(404));
    for _ in 0..20 {
        client.get("/").await?;
    }
    let hits = [a.hits(), b.hits()];
    println!("RT-15: a answers 404: {hits:?}");
    ensure!(hits == [10, 10], "{hits:?}");
    Ok(())
}
