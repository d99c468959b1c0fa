//! Docker Compose over `envoy/docker-compose.yaml`, and what runs by it.

pub mod traffic;

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::artefacts;
use crate::client::{self, Client, Response};
use crate::process::Process;
use crate::wait::eventually;

/// The file that users start.
pub const FILE: &str = "envoy/docker-compose.yaml";
/// Its two Envoys.
pub const EDGES: [&str; 2] = ["edge-1", "edge-2"];
/// Its backends.
pub const BACKENDS: [&str; 3] = ["orders-1", "orders-2", "orders-3"];
/// The token of its admin API.
pub const ADMIN_TOKEN: &str = "demo-admin-token";
/// How long any single thing may take on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(60);
/// Building from source on two busy cores takes minutes.
const BUILD_DEADLINE: Duration = Duration::from_secs(20 * 60);
/// Words that call Compose: `docker compose`, or a path.
const VARIABLE: &str = "COMPOSE";

/// Runs a command of Docker to its end; what it printed.
pub async fn docker(arguments: &[&str]) -> Result<String> {
    run("docker", arguments, "").await
}

/// Runs any command, with a text as its input; what it printed.
pub async fn run(program: &str, arguments: &[&str], input: &str) -> Result<String> {
    let mut command = Command::new(program);
    command.args(arguments);
    ended(command, input, DEADLINE).await
}

async fn ended(mut command: Command, input: &str, deadline: Duration) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let [from, output, errors] = ["in", "out", "err"].map(|name| folder.path().join(name));
    fs::write(&from, input)?;
    command.current_dir(artefacts::root());
    let words = format!("{command:?}");
    let input = Stdio::from(File::open(&from)?);
    let process = Process::start_with(command, input, &output, &errors)?;
    let status = process.exit(deadline).await?;
    let said = fs::read_to_string(&output)?;
    let tail = || process.log_tail();
    ensure!(status.success(), "{status} of {words}\n{said}{}", tail());
    Ok(said.trim().to_owned())
}

/// Why there is no engine to talk to; `None` when there is one.
pub async fn missing() -> Option<String> {
    let asked = docker(&["version", "--format", "{{.Server.Version}}"]).await;
    let why = asked.err()?;
    let line = format!("{why:#}").replace('\n', " ");
    Some(format!("no Docker engine answers: {line:.200}"))
}

/// The versions of engine and Compose, as the summary of the tests names them.
pub async fn versions() -> Result<[String; 2]> {
    let engine = docker(&["version", "--format", "{{.Server.Version}}"]).await?;
    let engine = engine.split('+').next().unwrap_or_default();
    let mut command = command()?;
    command.args(["version", "--short"]);
    let compose = ended(command, "", DEADLINE).await?;
    let compose = compose.split('-').next().unwrap_or_default();
    Ok([
        format!("Docker Engine {engine}"),
        format!("Docker Compose {}", compose.trim_start_matches('v')),
    ])
}

fn command() -> Result<Command> {
    let named = env::var(VARIABLE).unwrap_or_default();
    let mut words = named.split_whitespace();
    let first = words.next();
    let mut command = Command::new(first.context("COMPOSE: unset; `make` sets it")?);
    command.args(words);
    Ok(command)
}

/// Builds one target of our Dockerfile: Compose has BuildKit also where `docker build` has not.
pub async fn build(image: &str, target: &str) -> Result<()> {
    let context = artefacts::root().display().to_string();
    let build = json!({"context": context, "dockerfile": "envoy/Dockerfile", "target": target});
    let service = json!({"image": image, "build": build});
    let file = json!({"name": image, "services": {target: service}});
    let mut command = command()?;
    command.args(["--file", "-", "build"]);
    ended(command, &file.to_string(), BUILD_DEADLINE).await?;
    Ok(())
}

/// The services of the file, under a name of their own.
#[derive(Debug)]
pub struct Project {
    name: String,
}

impl Project {
    /// Nothing is started yet.
    pub fn new(name: &str) -> Self {
        let name = name.to_owned();
        Project { name }
    }

    /// Runs a command of Compose to its end.
    pub async fn call(&self, arguments: &[&str]) -> Result<String> {
        let mut command = command()?;
        command.args(["--project-name", &self.name, "--file", FILE]);
        command.args(arguments);
        ended(command, "", BUILD_DEADLINE).await
    }

    /// Builds and starts everything, and waits until it is well.
    pub async fn up(&self) -> Result<()> {
        self.call(&["up", "--detach", "--build"]).await?;
        for service in EDGES.iter().chain(&BACKENDS) {
            let what = format!("{service} to be healthy");
            eventually(DEADLINE, &what, async || {
                let health = self.shown(service, "{{.State.Health.Status}}").await?;
                ensure!(health == "healthy", "it is {health}");
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// Takes everything away that `up` made, but for the images.
    pub async fn down(&self) -> Result<()> {
        self.call(&["down", "--volumes", "--remove-orphans"])
            .await?;
        Ok(())
    }

    /// The last words of every service.
    pub async fn logs(&self) -> String {
        let logs = self.call(&["logs", "--tail", "8"]).await;
        logs.unwrap_or_else(|error| format!("no logs: {error:#}"))
    }

    /// What `docker inspect` shows of a service's container, by a template of Go.
    pub async fn shown(&self, service: &str, form: &str) -> Result<String> {
        docker(&["inspect", "--format", form, &self.container(service)]).await
    }

    /// The name of a service's container, as Compose makes it.
    pub fn container(&self, service: &str) -> String {
        format!("{}-{service}-1", self.name)
    }

    /// A network's full name.
    pub fn network(&self, name: &str) -> String {
        format!("{}_{name}", self.name)
    }

    /// Does something to a service's container: `stop`, `kill`, `start`.
    pub async fn container_is(&self, verb: &str, service: &str) -> Result<()> {
        docker(&[verb, &self.container(service)]).await?;
        Ok(())
    }

    /// Takes a service off a network.
    pub async fn cut(&self, service: &str, network: &str) -> Result<()> {
        let (network, container) = (self.network(network), self.container(service));
        docker(&["network", "disconnect", &network, &container]).await?;
        Ok(())
    }

    /// Puts it back, at the address that it had where that may be chosen.
    pub async fn join(
        &self,
        service: &str,
        network: &str,
        address: Option<Ipv4Addr>,
    ) -> Result<()> {
        let (network, container) = (self.network(network), self.container(service));
        let mut words = vec!["network", "connect", "--alias", service];
        let address = address.map(|address| address.to_string());
        if let Some(address) = &address {
            words.extend(["--ip", address]);
        }
        words.extend([network.as_str(), &container]);
        docker(&words).await?;
        Ok(())
    }

    /// A service's address in a network.
    pub async fn address(&self, service: &str, network: &str) -> Result<Ipv4Addr> {
        let network = self.network(network);
        let form = format!("{{{{(index .NetworkSettings.Networks {network:?}).IPAddress}}}}");
        let shown = self.shown(service, &form).await?;
        shown.parse().with_context(|| format!("{service}: {shown}"))
    }

    /// Asks Redis.
    pub async fn redis(&self, words: &[&str]) -> Result<String> {
        let container = self.container("redis");
        docker(&[&["exec", &container, "redis-cli"], words].concat()).await
    }
}

/// GET on the sidecar's admin API where it is published.
pub async fn admin(path: &str, token: Option<&str>) -> Result<Response> {
    let mut request = client::get(path);
    if let Some(token) = token {
        let value = format!("Bearer {token}").parse()?;
        request.headers_mut().insert("authorization", value);
    }
    published(18080).send(request).await
}

/// A client of a port that the file publishes on this machine.
pub fn published(port: u16) -> Client {
    Client::new(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

/// `/status` of the sidecar.
pub async fn status() -> Result<Value> {
    let answer = admin("/status", Some(ADMIN_TOKEN)).await?;
    ensure!(answer.status == 200, "{}", answer.text());
    answer.json()
}

/// Fails unless the admin API answers with this status.
pub async fn answers(path: &str, status: u16) -> Result<()> {
    let answer = admin(path, Some(ADMIN_TOKEN)).await?;
    ensure!(answer.status == status, "{path}: {}", answer.status);
    Ok(())
}

/// Waits until `/health` says this.
pub async fn health(status: u16) -> Result<()> {
    eventually(DEADLINE, &format!("/health to say {status}"), async || {
        answers("/health", status).await
    })
    .await
}

/// Waits until both Envoys are connected and run the newest revision on every worker that serves.
pub async fn served() -> Result<()> {
    eventually(DEADLINE, "the newest revision on both Envoys", async || {
        let now = status().await?;
        let newest = &now["registry"]["revision"];
        let proxies = now["proxies"].as_array().context("no proxies")?;
        let named = proxies.iter().map(|it| (it["node"].as_str(), it));
        let proxies: BTreeMap<_, _> = named.collect();
        for edge in EDGES {
            let Some(proxy) = proxies.get(&Some(edge)) else {
                bail!("no {edge} in {now}");
            };
            // None at all before the first request: only workers that serve report.
            let revisions = proxy["revisions"].as_array().into_iter().flatten();
            ensure!(
                revisions.clone().all(|it| it == newest),
                "{proxy}, not {newest}"
            );
            ensure!(
                proxy["streams"] != json!([]) && !proxy["streams"].is_null(),
                "{proxy}"
            );
        }
        Ok(())
    })
    .await
}
