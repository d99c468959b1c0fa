//! `drain --wait`: it returns when no worker picks the backend any more, and not before.

use std::time::Instant;

use harness::sidecar::operate;

use super::*;

/// How long one worker is kept busy: longer than a hasty drain waits, on a busy machine too.
const BUSY: Duration = Duration::from_secs(4);

/// Keeps the client's worker busy for [`BUSY`].
async fn keep_busy(client: &mut Client) -> Result<Response> {
    client.fault(&format!("busy-{}", BUSY.as_millis())).await
}

#[tokio::test]
async fn rg_20_a_drain_that_waits_returns_once_the_last_worker_obeys() -> Result<()> {
    let (one, two) = (Upstream::new("one")?, Upstream::new("two")?);
    let even = json!({"loadBalancing": {"policy": "RoundRobin"}});
    let document = registry::cluster("orders", &[&one, &two], even);
    let story = Scene::faulty(vec![document]).await?;
    let mut clients = story.clients().await?;

    let mut blocked = clients.remove(0);
    let begun = Instant::now();
    let busy = tokio::spawn(async move { (keep_busy(&mut blocked).await, blocked) });
    // The other worker obeys at once; that is not enough.
    let drain = ["drain", "orders", "one", "--wait", "-o", "json"];
    let hasty = [&drain[..], &["--timeout", "500ms"]].concat();
    let hasty = operate(&story.sidecar, &hasty, "").await?;
    ensure!(begun.elapsed() < BUSY, "the machine is too slow for this");
    assert_eq!(hasty.code, 3, "{hasty:?}");
    let answer: Value = serde_json::from_str(&hasty.out)?;
    assert_eq!(answer["reach"], "Behind", "{answer}");
    let behind = answer["behind"][0].as_str().context("nobody is behind")?;
    let why = format!("time is up after 500ms: not obeyed by all workers of {behind}");
    ensure!(hasty.errors.contains(&why), "{hasty:?}");

    let patient = operate(&story.sidecar, &drain, "").await?;
    let took = begun.elapsed();
    assert_eq!((patient.code, patient.errors.as_str()), (0, ""));
    let hits = one.hits();
    ensure!(
        took >= BUSY,
        "one worker was busy until {BUSY:?}, not {took:?}"
    );
    let answer: Value = serde_json::from_str(&patient.out)?;
    assert_eq!(
        (&answer["reach"], &answer["state"], &answer["behind"]),
        (&json!("Everywhere"), &json!("Draining"), &json!([]))
    );
    let (response, blocked) = busy.await?;
    assert_eq!(response?.status, 200);
    clients.push(blocked);
    let backends = answered_by(&mut clients, 50).await?;
    ensure!(backends.iter().all(|it| it == "two"), "{backends:?}");
    // The busy request itself may have been meant for it.
    ensure!(one.hits() <= hits + 1, "{} after {hits}", one.hits());
    println!("a worker was busy for {BUSY:?}; the drain waited until {took:?}");

    let again = operate(&story.sidecar, &["drain", "orders", "one", "--wait"], "").await?;
    let line = "backend orders/one Draining: out of the way on all proxies (1)\n";
    assert_eq!((again.code, again.out.as_str()), (0, line));
    Ok(())
}
