//! GETs to both Envoys, and what was counted of them.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Result, ensure};

use super::{DEADLINE, EDGES, Project};
use crate::load::{Load, Running, Tally};
use crate::wait::eventually;

/// To each Envoy.
const PER_SECOND: u32 = 100;

/// GETs to both Envoys for as long as it lives.
#[derive(Debug)]
pub struct Traffic([Running; 2]);

/// What came back through each Envoy.
#[derive(Debug)]
pub struct Counted([Tally; 2]);

impl Traffic {
    /// From this machine to the Envoys' own addresses: it ends when they leave that network.
    pub async fn to_containers(project: &Project) -> Result<Self> {
        let [one, two] = EDGES;
        let network = "traffic";
        Self::start([
            (project.address(one, network).await?, 10000).into(),
            (project.address(two, network).await?, 10000).into(),
        ])
        .await
    }

    /// From this machine through the published ports.
    pub async fn to_published() -> Result<Self> {
        Self::start([10000, 10001].map(|port| (Ipv4Addr::LOCALHOST, port).into())).await
    }

    async fn start(targets: [SocketAddr; 2]) -> Result<Self> {
        let load = |to| Load::new(to, u64::MAX).per_second(PER_SECOND).start();
        let traffic = Traffic(targets.map(load));
        traffic.more(20, &EDGES).await?;
        Ok(traffic)
    }

    fn of<'a>(&'a self, edges: &'a [&str]) -> impl Iterator<Item = &'a Running> {
        let named = EDGES.iter().zip(&self.0);
        named.filter_map(|(edge, load)| edges.contains(edge).then_some(load))
    }

    fn by(&self, backend: &str, edges: &[&str]) -> u64 {
        self.of(edges).map(|load| load.by(backend)).sum()
    }

    /// Waits until so many more GETs have ended, through each of these Envoys.
    pub async fn more(&self, count: u64, edges: &[&str]) -> Result<()> {
        for load in self.of(edges) {
            load.reach(load.done() + count, DEADLINE).await?;
        }
        Ok(())
    }

    /// Waits until a backend answers again.
    pub async fn serves(&self, backend: &str, edges: &[&str]) -> Result<()> {
        let before = self.by(backend, edges);
        eventually(DEADLINE, &format!("an answer of {backend}"), async || {
            ensure!(self.by(backend, edges) > before, "none through {edges:?}");
            Ok(())
        })
        .await
    }

    /// Waits until a backend gets nothing while many GETs go elsewhere.
    pub async fn spares(&self, backend: &str, edges: &[&str]) -> Result<()> {
        eventually(
            DEADLINE,
            &format!("{backend} to be left alone"),
            async || {
                let before = self.by(backend, edges);
                self.more(50, edges).await?;
                let more = self.by(backend, edges) - before;
                ensure!(more == 0, "it has answered {more} more");
                Ok(())
            },
        )
        .await
    }

    /// Ends it; what is under way is counted too.
    pub async fn stop(self) -> Result<Counted> {
        let [one, two] = self.0;
        Ok(Counted([one.stop().await?, two.stop().await?]))
    }
}

impl Counted {
    /// What came back through one Envoy.
    pub fn through(&self, edge: &str) -> &Tally {
        &self.0[usize::from(edge == EDGES[1])]
    }

    /// How many were sent.
    pub fn sent(&self) -> u64 {
        self.0.iter().map(Tally::sent).sum()
    }

    /// How many a backend has answered.
    pub fn by(&self, backend: &str) -> u64 {
        self.0.iter().map(|tally| tally.by(backend)).sum()
    }

    /// Fails when any failed; says how many there were.
    pub fn clean(&self) -> Result<String> {
        for tally in &self.0 {
            tally.ensure_clean()?;
        }
        Ok(format!("{} GETs, 0 errors", self.sent()))
    }
}
