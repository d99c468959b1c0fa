//! How long a change takes from the write to the first request that obeys it.

use std::time::Instant;

use super::*;

/// Changes that are timed.
const ISOLATED: usize = 20;
/// No pace: every change is delivered as one after a quiet time is.
const UNPACED: (&str, &str) = ("POINTSMAN_CHANGE_INTERVAL", "10ms");
/// Far above what is aimed at (100 ms), for a machine that does much else: the numbers are printed.
const DELIVERY_P50_MAX: Duration = Duration::from_secs(1);
const BACKENDS: usize = 1000;

/// Two backends that answer, one of them draining, among a thousand.
fn orders(serves: &Upstream, drains: &Upstream) -> Value {
    let mut document = registry::cluster("orders", &[serves, drains], json!({}));
    document["backends"][1]["state"] = json!("Draining");
    let others = (0..BACKENDS - 2).map(|i| {
        let address = format!("10.9.{}.{}:80", i / 250, i % 250 + 1);
        json!({"id": format!("other-{i}"), "address": address, "backup": true})
    });
    if let Some(backends) = document["backends"].as_array_mut() {
        backends.extend(others);
    }
    document
}

#[tokio::test]
async fn an_isolated_change_is_obeyed_soon() -> Result<()> {
    let (one, two) = (Upstream::new("one")?, Upstream::new("two")?);
    let Some(story) = serve("an_isolated_change", &[&one, &two], &[UNPACED]).await? else {
        return Ok(());
    };
    story.store.put(&orders(&one, &two)).await?;
    let mut client = story.envoy.client();
    only(&mut client, &["one"]).await?;
    let (mut took, mut written) = (Vec::new(), Vec::new());
    for round in 0..ISOLATED {
        let (serves, drains) = if round % 2 == 0 {
            (&two, &one)
        } else {
            (&one, &two)
        };
        let document = orders(serves, drains);
        let start = Instant::now();
        story.store.put(&document).await?;
        written.push(start.elapsed());
        eventually(SOON, "the change to be obeyed", async || {
            let response = client.get("/").await?;
            let by = response.backend();
            ensure!(by == Some(serves.id()), "{by:?}");
            Ok(())
        })
        .await?;
        took.push(start.elapsed());
    }
    for (what, times) in [
        ("the write", &mut written),
        ("to a request obeying it", &mut took),
    ] {
        times.sort();
        let (p50, max) = (times[times.len() / 2], times[times.len() - 1]);
        println!("{what}, {ISOLATED} changes: p50 {p50:?}, max {max:?}");
        ensure!(p50 < DELIVERY_P50_MAX, "{what}: {p50:?}");
    }
    end_well(story).await
}
