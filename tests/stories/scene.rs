//! The usual scene: a few backends, one cluster `orders`, and `static.yaml` in front of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
pub use harness::SOON;
use harness::client::Response;
pub use harness::scene::{CLUSTER, figure, figure_name, wait_for_figure};
use harness::upstream::Upstream;
use harness::{Bootstrap, Client, Envoy, eventually};
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// Backends with these ids.
pub fn backends<const N: usize>(ids: [&str; N]) -> Result<[Upstream; N]> {
    let backends: Result<Vec<Upstream>> = ids.into_iter().map(Upstream::new).collect();
    let backends: Result<[Upstream; N], _> = backends?.try_into();
    backends.ok().context("as many backends as ids")
}

/// A static bootstrap whose registry is this document alone; its addresses are the endpoints.
pub fn bootstrap(document: &Value) -> Result<Bootstrap> {
    Bootstrap::fixed(&json!({"schema": 1, "clusters": [document]}))?
        .endpoints(CLUSTER, &addresses(document)?)
}

/// An Envoy with one worker from [`bootstrap`].
pub async fn serve(document: &Value) -> Result<Envoy> {
    Envoy::start(bootstrap(document)?).await
}

fn addresses(document: &Value) -> Result<Vec<SocketAddr>> {
    let backends = document["backends"].as_array().context("no backends")?;
    let address = |backend: &Value| -> Result<SocketAddr> {
        let text = backend["address"].as_str().context("no address")?;
        Ok(text.parse()?)
    };
    let distinct: Result<BTreeSet<SocketAddr>> = backends.iter().map(address).collect();
    Ok(distinct?.into_iter().collect())
}

/// The ids of the backends that answer `count` GETs, one after the other; all must succeed.
pub async fn answered_by(client: &mut Client, count: usize) -> Result<Vec<String>> {
    let mut order = Vec::with_capacity(count);
    for nth in 0..count {
        let response = client.get("/").await?;
        let backend = response.backend().filter(|_| response.status == 200);
        let why = || format!("GET {nth}: {} {}", response.status, response.text());
        order.push(backend.with_context(why)?.to_owned());
    }
    Ok(order)
}

/// How often each name occurs.
pub fn shares(order: &[String]) -> BTreeMap<&str, usize> {
    let mut shares = BTreeMap::new();
    for backend in order {
        *shares.entry(backend.as_str()).or_default() += 1;
    }
    shares
}

/// Waits until Envoy has so many connections to backends: what is sent on one that ends meanwhile
/// is reset, not refused.
pub async fn wait_for_connections(envoy: &Envoy, count: u64) -> Result<()> {
    let connections = cluster_stat("upstream_cx_active");
    envoy.wait_for_stat(&connections, count).await
}

/// Waits until such a figure is this or more, and gives it.
pub async fn wait_for_figure_at_least(
    envoy: &Envoy,
    name: &str,
    reason: &str,
    least: u64,
) -> Result<u64> {
    let name = figure_name(name, reason);
    envoy.wait_for_stat_at_least(&name, least).await
}

/// The full name of Envoy's own counter or gauge of [`CLUSTER`].
pub fn cluster_stat(name: &str) -> String {
    format!("cluster.{CLUSTER}.{name}")
}

/// GETs that are sent at once, each on a connection of its own; dropping it aborts them.
pub struct Requests(JoinSet<Result<Response>>);

impl Requests {
    /// Sends `count` GETs.
    pub fn send(to: SocketAddr, count: usize) -> Self {
        let mut requests = JoinSet::new();
        for _ in 0..count {
            let mut client = Client::new(to);
            requests.spawn(async move { client.get("/").await });
        }
        Requests(requests)
    }

    /// Every answer.
    pub async fn answers(mut self) -> Result<Vec<Response>> {
        let mut answers = Vec::new();
        while let Some(answer) = self.0.join_next().await {
            answers.push(answer??);
        }
        Ok(answers)
    }

    /// The next answer.
    pub async fn next(&mut self) -> Result<Response> {
        let answer = self.0.join_next().await;
        answer.context("every request is answered already")??
    }
}

/// Waits until the backends have so many requests in flight, and says how many each has.
pub async fn in_flight(backends: &[&Upstream], total: usize) -> Result<Vec<usize>> {
    let what = format!("{total} requests in flight at the backends");
    eventually(SOON, &what, async || {
        let each: Vec<usize> = backends.iter().map(|backend| backend.in_flight()).collect();
        ensure!(each.iter().sum::<usize>() == total, "{each:?}");
        Ok(each)
    })
    .await
}

/// Waits until exactly these answer.
pub async fn only(client: &mut Client, ids: &[&str]) -> Result<()> {
    let ids: BTreeSet<String> = ids.iter().map(|id| (*id).to_owned()).collect();
    eventually(SOON, &format!("exactly {ids:?} to answer"), async || {
        let seen: BTreeSet<String> = answered_by(client, 40).await?.into_iter().collect();
        ensure!(seen == ids, "{seen:?}");
        Ok(())
    })
    .await
}

/// Waits until a backend has been probed this often in all.
pub async fn wait_for_probes(backend: &Upstream, count: usize) -> Result<()> {
    eventually(SOON, &format!("{count} probes"), async || {
        let seen = backend.probes().len();
        ensure!(seen >= count, "{seen}");
        Ok(())
    })
    .await
}
