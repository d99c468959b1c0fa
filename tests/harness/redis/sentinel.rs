//! A real Sentinel: watches a master and makes its replica the next one.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use super::{READY_DEADLINE, Redis, Reply, client};
use crate::artefacts;
use crate::port::Port;
use crate::process::Process;
use crate::wait::eventually;

/// A running Sentinel with a password of its own; dropping it kills it.
#[derive(Debug)]
pub struct Sentinel {
    // Before the port and the folder: dropped first.
    process: Process,
    port: Port,
    _folder: TempDir,
    service: String,
    password: String,
}

impl Sentinel {
    /// Starts one that decides alone, and waits until it knows the master's replica.
    pub async fn watch(service: &str, master: &Redis, password: &str) -> Result<Self> {
        let (port, folder) = (Port::reserve()?, tempfile::tempdir()?);
        let at = port.address();
        let mut lines = vec![
            format!("port {}", at.port()),
            format!("bind {}", at.ip()),
            format!("dir {}", folder.path().display()),
            format!("requirepass {password}"),
            format!(
                "sentinel monitor {service} {} {} 1",
                master.address().ip(),
                master.address().port()
            ),
            format!("sentinel down-after-milliseconds {service} 1000"),
            format!("sentinel failover-timeout {service} 5000"),
        ];
        if let Some(password) = &master.password {
            lines.push(format!("sentinel auth-pass {service} {password}"));
        }
        // Sentinel writes what it learns into this file.
        let file = folder.path().join("sentinel.conf");
        fs::write(&file, lines.join("\n") + "\n")?;
        let mut command = Command::new(artefacts::redis()?);
        command.arg(&file).arg("--sentinel");
        let sentinel = Sentinel {
            process: Process::start(command, &folder.path().join("sentinel.log"))?,
            port,
            _folder: folder,
            service: service.to_owned(),
            password: password.to_owned(),
        };
        eventually(
            READY_DEADLINE,
            "the Sentinel to see a replica",
            async || {
                if let Err(dead) = sentinel.process.ensure_running() {
                    return Ok(Err(dead));
                }
                let replicas = sentinel.ask("REPLICAS").await?;
                let found = matches!(&replicas, Reply::List(replicas) if replicas.len() == 1);
                ensure!(found, "{replicas:?}");
                Ok(Ok(()))
            },
        )
        .await??;
        Ok(sentinel)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Whom it takes for the master.
    pub async fn master(&self) -> Result<SocketAddr> {
        match self.ask("GET-MASTER-ADDR-BY-NAME").await? {
            Reply::List(parts) => match parts.as_slice() {
                [Reply::Text(host), Reply::Text(port)] => Ok(format!("{host}:{port}").parse()?),
                other => bail!("no address: {other:?}"),
            },
            other => bail!("no address: {other:?}"),
        }
    }

    /// Changes the roles while everybody is well, as an operator does before an upgrade.
    pub async fn fail_over(&self) -> Result<()> {
        let answer = self.ask("FAILOVER").await?;
        ensure!(answer == Reply::Text("OK".to_owned()), "{answer:?}");
        Ok(())
    }

    /// Takes another one for the master from now on, which nobody is told; it must be one.
    pub async fn appoint(&self, master: &Redis) -> Result<()> {
        self.ask("REMOVE").await?;
        let address = master.address();
        let (host, port) = (address.ip().to_string(), address.port().to_string());
        self.say(&["MONITOR", &self.service, &host, &port, "1"])
            .await?;
        if let Some(password) = &master.password {
            let set = ["SET", &self.service, "auth-pass", password];
            self.say(&set).await?;
        }
        Ok(())
    }

    async fn ask(&self, word: &str) -> Result<Reply> {
        self.say(&[word, &self.service]).await
    }

    async fn say(&self, words: &[&str]) -> Result<Reply> {
        let command = [&["SENTINEL"], words].concat();
        let reply = client::ask(self.address(), Some(&self.password), &command).await;
        match reply.with_context(|| self.process.log_tail())? {
            Reply::Error(error) => bail!("{command:?}: {error}"),
            reply => Ok(reply),
        }
    }
}
