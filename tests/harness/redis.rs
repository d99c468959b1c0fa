//! A real redis-server: plain, with a login, or with TLS; deaths, hangs and empty returns on demand.

mod client;
mod cluster;
mod sentinel;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::clock::Clock;
use crate::port::Port;
use crate::process::Process;
use crate::wait::{SOON, eventually};
use crate::{artefacts, report};
pub use client::Reply;
pub use cluster::Cluster;
pub use sentinel::Sentinel;

const READY_DEADLINE: Duration = Duration::from_secs(20);

/// A running redis-server that keeps what is written over kills, until [`Redis::forget`]; dropping
/// it kills it.
#[derive(Debug)]
pub struct Redis {
    // Before the port and the folder: dropped first.
    process: Process,
    port: Port,
    arguments: Vec<String>,
    password: Option<String>,
    environment: Vec<(String, String)>,
    folder: TempDir,
}

const HOLD_WRITES: &[&str] = &["CLIENT", "PAUSE", "60000", "WRITE"];

impl Redis {
    /// Starts one that lets everybody in.
    pub async fn start() -> Result<Self> {
        Self::start_with(None, &[]).await
    }

    /// Starts one that lets everybody in and goes by this clock.
    pub async fn start_on(clock: &Clock) -> Result<Self> {
        let environment = clock.environment();
        let environment = environment.map(|(name, value)| (name.to_owned(), value));
        Self::launched(None, &[], environment.into()).await
    }

    /// Starts one with more arguments; `password` is that of the default user.
    pub async fn start_with(password: Option<&str>, arguments: &[&str]) -> Result<Self> {
        Self::launched(password, arguments, Vec::new()).await
    }

    async fn launched(
        password: Option<&str>,
        arguments: &[&str],
        environment: Vec<(String, String)>,
    ) -> Result<Self> {
        let (port, folder) = (Port::reserve()?, tempfile::tempdir()?);
        let mut arguments: Vec<String> = arguments.iter().map(|it| (*it).to_owned()).collect();
        if let Some(password) = password {
            for option in ["--requirepass", "--masterauth"] {
                arguments.extend([option.to_owned(), password.to_owned()]);
            }
        }
        let redis = Redis {
            process: launch(port.address(), folder.path(), &arguments, &environment)?,
            port,
            arguments,
            environment,
            password: password.map(str::to_owned),
            folder,
        };
        redis.ready(redis.address()).await?;
        redis.name_version().await?;
        Ok(redis)
    }

    /// Starts one that copies another, and waits until it has.
    pub async fn replica_of(master: &Redis) -> Result<Self> {
        let (host, port) = (master.address().ip(), master.address().port());
        let arguments = ["--replicaof", &host.to_string(), &port.to_string()];
        let replica = Self::start_with(master.password.as_deref(), &arguments).await?;
        eventually(READY_DEADLINE, "the replica to follow", async || {
            let Reply::Text(info) = replica.ask(&["INFO", "replication"]).await? else {
                bail!("INFO is no text");
            };
            ensure!(info.contains("master_link_status:up"), "{info}");
            Ok(())
        })
        .await?;
        Ok(replica)
    }

    /// Where it listens without TLS; the same over restarts.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// `redis://…`, with the default user's password.
    pub fn url(&self) -> String {
        match &self.password {
            Some(password) => format!("redis://:{password}@{}", self.address()),
            None => format!("redis://{}", self.address()),
        }
    }

    /// The settings of a sidecar on this store.
    pub fn settings(&self) -> [(String, String); 2] {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        [
            pair("POINTSMAN_REGISTRY", "redis"),
            pair("REDIS_URL", &self.url()),
        ]
    }

    /// Sends one command and returns the answer; an error answer is an error.
    pub async fn ask(&self, command: &[&str]) -> Result<Reply> {
        self.ask_at(self.address(), command).await
    }

    /// Has all writes wait until [`Redis::allow_writes`], or for a minute.
    pub async fn hold_writes(&self) -> Result<()> {
        self.ask(HOLD_WRITES).await.map(drop)
    }

    /// Ends a [`Redis::hold_writes`].
    pub async fn allow_writes(&self) -> Result<()> {
        self.ask(&["CLIENT", "UNPAUSE"]).await.map(drop)
    }

    /// Interrupts a [`Redis::hold_writes`] for a millisecond, which the server measures: however slow
    /// this process is, no more is written.
    pub async fn let_a_write_through(&self) -> Result<()> {
        let pause: &[&str] = &["BLPOP", "nothing", "0.001"];
        let commands: [&[&str]; 3] = [&["CLIENT", "UNPAUSE"], pause, HOLD_WRITES];
        let password = self.password.as_deref();
        client::ask_all(self.address(), password, &commands)
            .await
            .map(drop)
    }

    /// Writes a cluster's document under its key.
    pub async fn put(&self, document: &Value) -> Result<()> {
        let name = document["name"]
            .as_str()
            .context("a document without a name")?;
        let key = format!("pointsman:cluster:{name}");
        self.ask(&["SET", &key, &document.to_string()]).await?;
        Ok(())
    }

    /// Waits for a field of what a sidecar wrote about a cluster.
    pub async fn says(&self, cluster: &str, field: &str, part: &str) -> Result<()> {
        let key = format!("pointsman:status:{cluster}");
        eventually(SOON, &format!("{key} to say {part:?}"), async || {
            let status = self.ask(&["HGETALL", &key]).await?;
            let value = status.field(field).with_context(|| format!("{status:?}"))?;
            ensure!(value.contains(part), "{value}");
            Ok(())
        })
        .await
    }

    /// SIGKILL.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// Starts again, on the same address and with what was written.
    pub async fn restart(&mut self) -> Result<()> {
        self.process.kill();
        self.process = launch(
            self.address(),
            self.folder.path(),
            &self.arguments,
            &self.environment,
        )?;
        self.ready(self.address()).await
    }

    /// While it is dead: forgets everything.
    pub fn forget(&self) -> Result<()> {
        let data = self.folder.path().join("appendonlydir");
        std::fs::remove_dir_all(&data).with_context(|| format!("{}", data.display()))
    }

    /// While it is dead: sends a command to the same data at another address.
    pub async fn ask_elsewhere(&self, command: &[&str]) -> Result<Reply> {
        let port = Port::reserve()?;
        let other = launch(
            port.address(),
            self.folder.path(),
            &self.arguments,
            &self.environment,
        )?;
        self.ready_on(&other, port.address()).await?;
        let reply = self.ask_at(port.address(), command).await?;
        other.signal(Signal::SIGTERM)?;
        other.exit(READY_DEADLINE).await?;
        other.ensure_good_end()?;
        Ok(reply)
    }

    /// Hangs it: it keeps its connections and says nothing more.
    pub async fn hang(&self) -> Result<()> {
        self.process.freeze().await
    }

    /// Ends a [`Redis::hang`].
    pub fn resume(&self) -> Result<()> {
        self.process.signal(Signal::SIGCONT)
    }

    async fn ask_at(&self, address: SocketAddr, command: &[&str]) -> Result<Reply> {
        match client::ask(address, self.password.as_deref(), command).await? {
            Reply::Error(error) => bail!("{command:?}: {error}"),
            reply => Ok(reply),
        }
    }

    async fn ready(&self, address: SocketAddr) -> Result<()> {
        self.ready_on(&self.process, address).await
    }

    async fn ready_on(&self, process: &Process, address: SocketAddr) -> Result<()> {
        eventually(READY_DEADLINE, "redis-server to answer", async || {
            if let Err(dead) = process.ensure_running() {
                return Ok(Err(dead));
            }
            self.ask_at(address, &["PING"]).await?;
            Ok(Ok(()))
        })
        .await?
    }

    async fn name_version(&self) -> Result<()> {
        let Reply::Text(info) = self.ask(&["INFO", "server"]).await? else {
            bail!("INFO is no text");
        };
        let version = info
            .lines()
            .find_map(|line| line.strip_prefix("redis_version:"));
        report::component(&format!("Redis {}", version.context("no version in INFO")?));
        Ok(())
    }
}

fn launch(
    address: SocketAddr,
    folder: &Path,
    arguments: &[String],
    environment: &[(String, String)],
) -> Result<Process> {
    ensure!(
        address.ip().is_loopback(),
        "{address} is not on this machine alone"
    );
    let mut command = Command::new(artefacts::redis()?);
    command
        .args([
            "--port",
            &address.port().to_string(),
            "--bind",
            &address.ip().to_string(),
        ])
        .args([
            "--save",
            "",
            "--appendonly",
            "yes",
            "--appendfsync",
            "always",
            "--dir",
        ])
        .arg(folder)
        .args(arguments)
        .envs(environment.iter().map(|(name, value)| (name, value)));
    Process::start(command, &folder.join("redis.log"))
}
