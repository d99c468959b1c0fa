//! What must not grow with time in a sidecar: its memory, its series, what it writes into the store.

use std::collections::BTreeSet;

use anyhow::bail;
use harness::Proxy;

use super::*;

/// Each brings new clusters in place of the last ones, and new proxies that leave again.
const GENERATIONS: usize = 20;
/// The memory is looked at after so many.
const HALF: usize = GENERATIONS / 2;
const CLUSTERS: usize = 100;
const PROXIES: usize = 10;
const BACKENDS: usize = 5;
/// What the second half of them may add, bytes: a quarter of what a thousand clusters need. The first half
/// made the room; seen over six rounds of the same: nothing, and on a busy machine 1.4 MB.
const GROWTH_MAX: u64 = 4 << 20;
/// What a proxy may still route to is kept until it has been silent for 30 seconds.
const FORGOTTEN: Duration = Duration::from_secs(60);
/// Not paced, and nothing is held back: all clusters go at once here. In one arena memory that was given
/// back is found again; in one per thread it depends on who allocates next.
const SETTINGS: [(&str, &str); 3] = [
    ("MALLOC_ARENA_MAX", "1"),
    ("POINTSMAN_CHANGE_INTERVAL", "10ms"),
    ("POINTSMAN_GUARD_DELAY", "0s"),
];

fn names(generation: usize) -> BTreeSet<String> {
    let name = |cluster| format!("g{generation}-c{cluster}");
    (0..CLUSTERS).map(name).collect()
}

/// A cluster whose backends are probed, and are not there.
fn document(name: &str, generation: usize) -> Value {
    let address = |i| format!("127.{}.0.{}:1", generation + 1, i + 1);
    let backends: Vec<Value> = (0..BACKENDS)
        .map(|i| json!({"id": format!("b{i}"), "address": address(i)}))
        .collect();
    let check = json!({"http": {"path": "/"}, "interval": "1s"});
    json!({"name": name, "backends": backends, "healthCheck": check})
}

/// Puts the clusters of a generation in the place of those before it, in one go.
async fn replace(redis: &Redis, generation: usize) -> Result<()> {
    let key = |name: &String| format!("pointsman:cluster:{name}");
    let mut write = vec!["MSET".to_owned()];
    for name in names(generation) {
        write.push(key(&name));
        write.push(document(&name, generation).to_string());
    }
    ask(redis, write).await?;
    if let Some(before) = generation.checked_sub(1) {
        let gone = names(before);
        ask(
            redis,
            ["DEL".to_owned()].into_iter().chain(gone.iter().map(key)),
        )
        .await?;
    }
    Ok(())
}

async fn ask(redis: &Redis, command: impl IntoIterator<Item = String>) -> Result<Reply> {
    let command: Vec<String> = command.into_iter().collect();
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    redis.ask(&command).await
}

/// New proxies take the clusters of their generation, and are gone.
async fn visit(sidecar: &Sidecar, generation: usize) -> Result<()> {
    let mut proxies = Vec::new();
    for nth in 0..PROXIES {
        let node = format!("g{generation}-p{nth}");
        let mut proxy = Proxy::connect(sidecar.xds_address(), &node).await?;
        proxy.take(&names(generation)).await?;
        proxies.push(proxy);
    }
    Ok(())
}

/// Waits until only the proxy that stays and the clusters of this generation are left; gives the number
/// of series and the resident memory.
async fn settled(
    sidecar: &Sidecar,
    redis: &Redis,
    stays: &mut Proxy,
    generation: usize,
) -> Result<(usize, u64)> {
    stays.settle_on(&names(generation), FORGOTTEN).await?;
    eventually(FORGOTTEN, "what is gone to be forgotten", async || {
        let status = sidecar.status().await?;
        let proxies = status["proxies"].as_array().context("proxies")?.len();
        let statuses = match redis.ask(&["KEYS", "pointsman:status:*"]).await? {
            Reply::List(keys) => keys.len(),
            other => bail!("KEYS: {other:?}"),
        };
        ensure!(
            (proxies, statuses) == (1, CLUSTERS),
            "{proxies} proxies, {statuses} statuses"
        );
        let metrics = sidecar.metrics().await?;
        let series = metrics.lines().filter(|line| !line.starts_with('#'));
        Ok((series.count(), sidecar.process().resident()?))
    })
    .await
}

/// Invariant 7: two thousand clusters and two hundred proxies come and go, and leave nothing.
#[tokio::test]
async fn clusters_and_proxies_that_are_gone_leave_nothing_in_the_sidecar() -> Result<()> {
    let redis = Redis::start().await?;
    replace(&redis, 0).await?;
    let settings = SETTINGS.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let settings = redis.settings().into_iter().chain(settings);
    let sidecar = Sidecar::start_on_store(settings).await?;
    let status = sidecar.status().await?;
    assert_eq!(status["registry"]["rejected"], json!([]));
    let mut stays = Proxy::connect(sidecar.xds_address(), "stays").await?;
    let mut sizes = vec![settled(&sidecar, &redis, &mut stays, 0).await?];
    for generation in 1..=GENERATIONS {
        replace(&redis, generation).await?;
        visit(&sidecar, generation).await?;
        if generation % HALF == 0 {
            sizes.push(settled(&sidecar, &redis, &mut stays, generation).await?);
        }
    }
    println!(
        "series, resident bytes at the start and after each {} clusters and {} proxies: {sizes:?}",
        CLUSTERS * HALF,
        PROXIES * HALF,
    );
    assert_eq!(sizes[1].0, sizes[2].0, "{sizes:?}");
    let growth = sizes[2].1.saturating_sub(sizes[1].1);
    ensure!(growth <= GROWTH_MAX, "{growth} bytes more: {sizes:?}");
    sidecar.stop().await
}
