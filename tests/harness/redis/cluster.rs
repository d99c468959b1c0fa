//! A real Redis Cluster of three masters.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::{READY_DEADLINE, Redis, Reply, client};
use crate::port::Port;
use crate::wait::eventually;

const NODES: usize = 3;
const SLOTS: usize = 16384;
/// What the keys of the registry have in common.
const ROOT: &str = "{pointsman}";

/// Three nodes that share the slots; dropping it kills them.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Redis>,
    _buses: Vec<Port>,
}

impl Cluster {
    /// Starts the nodes, makes them acquainted and waits until each knows of every slot.
    pub async fn start(password: &str) -> Result<Self> {
        let (mut nodes, mut buses) = (Vec::new(), Vec::new());
        for _ in 0..NODES {
            let bus = Port::reserve()?;
            let port = bus.address().port().to_string();
            let arguments = [
                "--cluster-enabled",
                "yes",
                "--cluster-port",
                &port,
                "--cluster-node-timeout",
                "2000",
            ];
            nodes.push(Redis::start_with(Some(password), &arguments).await?);
            buses.push(bus);
        }
        for (index, node) in nodes.iter().enumerate() {
            let first = (index * SLOTS / NODES).to_string();
            let last = ((index + 1) * SLOTS / NODES - 1).to_string();
            node.ask(&["CLUSTER", "ADDSLOTSRANGE", &first, &last])
                .await?;
        }
        for (node, bus) in nodes.iter().zip(&buses).skip(1) {
            let (host, port) = (node.address().ip(), node.address().port());
            let bus = bus.address().port().to_string();
            let meet = [
                "CLUSTER",
                "MEET",
                &host.to_string(),
                &port.to_string(),
                &bus,
            ];
            nodes[0].ask(&meet).await?;
        }
        let cluster = Cluster {
            nodes,
            _buses: buses,
        };
        cluster.agreed().await?;
        Ok(cluster)
    }

    /// The settings of a sidecar on this cluster.
    pub fn settings(&self) -> [(String, String); 2] {
        settings(&self.nodes)
    }

    /// The same where one node only is named, and another one holds the registry.
    pub async fn settings_of_a_bystander(&self) -> Result<[(String, String); 2]> {
        let bystander = (self.owner().await? + 2) % NODES;
        Ok(settings(&self.nodes[bystander..=bystander]))
    }

    /// Writes a cluster's document under its key.
    pub async fn put(&self, document: &Value) -> Result<()> {
        let name = document["name"]
            .as_str()
            .context("a document without a name")?;
        let key = format!("{ROOT}:cluster:{name}");
        let owner = &self.nodes[self.owner().await?];
        owner.ask(&["SET", &key, &document.to_string()]).await?;
        Ok(())
    }

    /// The node that holds the registry.
    pub async fn owner(&self) -> Result<usize> {
        for (index, node) in self.nodes.iter().enumerate() {
            if node.process.ended().is_none() && node.ask(&["EXISTS", ROOT]).await.is_ok() {
                return Ok(index);
            }
        }
        bail!("no node has the slot of {ROOT}")
    }

    /// A node, to be killed or restarted.
    pub fn node(&mut self, index: usize) -> &mut Redis {
        &mut self.nodes[index]
    }

    /// Moves the registry to the next node, key by key, as `redis-cli --cluster reshard` does.
    pub async fn move_registry(&self) -> Result<()> {
        let old = self.owner().await?;
        let (from, to) = (&self.nodes[old], &self.nodes[(old + 1) % NODES]);
        let (from_id, to_id) = (id(from).await?, id(to).await?);
        let Reply::Number(slot) = from.ask(&["CLUSTER", "KEYSLOT", ROOT]).await? else {
            bail!("the slot is no number");
        };
        let slot = slot.to_string();
        let set = ["CLUSTER", "SETSLOT", &slot];
        to.ask(&[&set[..], &["IMPORTING", &from_id]].concat())
            .await?;
        from.ask(&[&set[..], &["MIGRATING", &to_id]].concat())
            .await?;
        let (host, port) = (
            to.address().ip().to_string(),
            to.address().port().to_string(),
        );
        let password = to.password.clone().unwrap_or_default();
        loop {
            let some = ["CLUSTER", "GETKEYSINSLOT", &slot, "2"];
            let Reply::List(keys) = from.ask(&some).await? else {
                bail!("the keys are no list");
            };
            if keys.is_empty() {
                break;
            }
            let migrate = [
                "MIGRATE", &host, &port, "", "0", "5000", "AUTH", &password, "KEYS",
            ];
            let mut migrate = migrate.to_vec();
            migrate.extend(keys.iter().filter_map(|key| match key {
                Reply::Text(key) => Some(key.as_str()),
                _ => None,
            }));
            from.ask(&migrate).await?;
        }
        for node in [to, from] {
            node.ask(&[&set[..], &["NODE", &to_id]].concat()).await?;
        }
        Ok(())
    }

    /// Waits until all nodes know all slots.
    pub async fn agreed(&self) -> Result<()> {
        eventually(READY_DEADLINE, "the nodes to agree", async || {
            for node in &self.nodes {
                let Reply::Text(info) = node.ask(&["CLUSTER", "INFO"]).await? else {
                    bail!("CLUSTER INFO is no text");
                };
                for part in ["cluster_state:ok", "cluster_slots_ok:16384"] {
                    ensure!(info.contains(part), "{info}");
                }
            }
            Ok(())
        })
        .await
    }
}

async fn id(node: &Redis) -> Result<String> {
    match client::ask(
        node.address(),
        node.password.as_deref(),
        &["CLUSTER", "MYID"],
    )
    .await?
    {
        Reply::Text(id) => Ok(id),
        other => bail!("CLUSTER MYID: {other:?}"),
    }
}

/// The settings of a sidecar that is told of these nodes.
fn settings(nodes: &[Redis]) -> [(String, String); 2] {
    let password = nodes.iter().find_map(|it| it.password.as_deref());
    let places: Vec<String> = nodes.iter().map(|it| it.address().to_string()).collect();
    let (password, places) = (password.unwrap_or(""), places.join(","));
    let url = format!("redis+cluster://:{password}@{places}");
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    [pair("POINTSMAN_REGISTRY", "redis"), pair("REDIS_URL", &url)]
}
