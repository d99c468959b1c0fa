//! What a sidecar says of its registry and of what happened, waited for.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Sidecar;
use crate::wait::{SOON, eventually, throughout};

const SAID_DEADLINE: Duration = Duration::from_secs(20);

impl Sidecar {
    /// The names of the clusters that it serves.
    pub async fn clusters(&self) -> Result<Vec<String>> {
        let status = self.status().await?;
        let clusters = status["clusters"].as_array().context("clusters")?.iter();
        let names = clusters.filter_map(|it| it["name"].as_str().map(str::to_owned));
        Ok(names.collect())
    }

    /// Waits until it serves exactly these.
    pub async fn serves(&self, names: &[&str]) -> Result<()> {
        let what = format!("exactly {names:?} to be served");
        eventually(SOON, &what, async || {
            let seen = self.clusters().await?;
            ensure!(seen == names, "{seen:?}");
            Ok(())
        })
        .await
    }

    /// Waits until it serves the cluster with these backends, and gives them.
    pub async fn backends(&self, cluster: &str, ids: &[&str]) -> Result<Vec<Value>> {
        eventually(SOON, &format!("{cluster} to have {ids:?}"), async || {
            let status = self.status().await?;
            let all = status["clusters"].as_array().context("clusters")?;
            let found = all.iter().find(|it| it["name"] == cluster);
            let backends = found.context("no such cluster")?["backends"].as_array();
            let backends = backends.context("backends")?.clone();
            let seen: Vec<&str> = backends.iter().filter_map(|it| it["id"].as_str()).collect();
            ensure!(seen == ids, "{seen:?}");
            Ok(backends)
        })
        .await
    }

    /// How often it has read all of its store.
    pub async fn listings(&self) -> Result<u64> {
        let status = self.status().await?;
        let listings = status["registry"]["store"]["listings"].as_u64();
        listings.with_context(|| status["registry"].to_string())
    }

    /// Fails when this does not hold while the store is read three more times.
    pub async fn throughout_readings(&self, holds: impl AsyncFnMut() -> Result<()>) -> Result<()> {
        let enough = self.listings().await? + 3;
        let read = async || {
            let listings = self.listings().await?;
            ensure!(listings >= enough, "{listings} of {enough}");
            Ok(())
        };
        throughout(SOON, "three more readings", read, holds).await
    }

    /// Waits for `/health` to say this, and gives what it says.
    pub async fn health(&self, status: u16) -> Result<Value> {
        let what = format!("/health to say {status}");
        eventually(SAID_DEADLINE, &what, async || {
            let response = self.get("/health").await?;
            let (said, text) = (response.status, response.text());
            ensure!(said == status, "{said} {text}");
            response.json()
        })
        .await
    }

    /// Waits until an event was counted so often, for whatever reasons.
    pub async fn event(&self, name: &str, count: u64) -> Result<()> {
        let series = format!("pointsman_events_total{{event=\"{name}\"");
        eventually(
            SAID_DEADLINE,
            &format!("{name} {count} times"),
            async || {
                let metrics = self.metrics().await?;
                let lines = metrics.lines().filter(|it| it.starts_with(&series));
                let counted = lines.map(|it| it.rsplit(' ').next().unwrap_or("").parse::<u64>());
                let counted: Vec<u64> = counted.collect::<Result<_, _>>()?;
                ensure!(!counted.is_empty(), "{name} has no series");
                ensure!(counted.iter().sum::<u64>() == count, "{counted:?}");
                Ok(())
            },
        )
        .await
    }

    /// The events of this name in its log so far, over restarts: JSON, as it is not on a terminal.
    pub fn events(&self, name: &str) -> Vec<Value> {
        let log = self.process.log();
        let lines = log.lines().filter_map(|line| {
            let value: Value = serde_json::from_str(line).ok()?;
            (value["event"] == name).then_some(value)
        });
        lines.collect()
    }

    /// Waits until so many events of this name are in its log and no more, and gives them.
    pub async fn wait_for_events(&self, name: &str, count: usize) -> Result<Vec<Value>> {
        let what = format!("{count} events {name} in the sidecar's log");
        eventually(SAID_DEADLINE, &what, async || {
            let events = self.events(name);
            ensure!(events.len() == count, "{events:?}");
            Ok(events)
        })
        .await
    }
}
