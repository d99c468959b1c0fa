//! The sidecar as a process, in demo mode or on a store. Whatever it says, in its log or on a page,
//! is searched for the secrets it was given: no story may see one.

mod command;
mod says;
mod secrets;

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hyper::Method;
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::artefacts;
use crate::client::{self, Client, Response};
use crate::home::Home;
use crate::port::Port;
use crate::process::Process;
use crate::wait::eventually;

pub use command::{Ended, operate, run};

const READY_DEADLINE: Duration = Duration::from_secs(20);
const STOP_DEADLINE: Duration = Duration::from_secs(40);

/// A running `pointsman serve` over a registry; dropping it kills it, and panics when it has
/// ended otherwise than it was asked to, or when its log tells of a panic or holds a secret.
#[derive(Debug)]
pub struct Sidecar {
    // Before the ports and the folder: dropped first.
    process: Process,
    setup: Setup,
    /// Whether a story was given it: until then its start says itself what is wrong.
    started: bool,
}

#[derive(Debug)]
struct Setup {
    xds: Port,
    admin: Port,
    environment: Vec<(String, String)>,
    secrets: Vec<String>,
    folder: TempDir,
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.process.kill();
        if std::thread::panicking() {
            return;
        }
        if let Err(leak) = secrets::ensure_none(&self.setup.secrets, &self.process.log()) {
            panic!("the sidecar's log: {leak:#}");
        }
        if let (Err(fault), true) = (self.ensure_sound(), self.started) {
            panic!("{fault:#}");
        }
    }
}

impl Sidecar {
    /// Starts it on this registry, with every other setting at its default, and waits for `/readyz`.
    pub async fn start(home: &impl Home) -> Result<Self> {
        Self::start_with(home, &[]).await
    }

    /// The same with settings, as environment variables.
    pub async fn start_with(home: &impl Home, environment: &[(&str, &str)]) -> Result<Self> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let environment = environment.iter().map(owned);
        Self::start_on_store(home.settings().into_iter().chain(environment)).await
    }

    /// Starts it with these settings alone: they say which store it is on.
    pub async fn start_on_store(
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self> {
        let mut sidecar = Self::spawn_on_store(environment)?;
        sidecar.ready().await?;
        sidecar.started = true;
        Ok(sidecar)
    }

    /// The same without waiting for anything: the store may not even answer.
    pub fn spawn_on_store(environment: impl IntoIterator<Item = (String, String)>) -> Result<Self> {
        let environment: Vec<(String, String)> = environment.into_iter().collect();
        let setup = Setup {
            xds: Port::reserve()?,
            admin: Port::reserve()?,
            secrets: secrets::of(&environment),
            environment,
            folder: tempfile::tempdir()?,
        };
        Ok(Sidecar {
            process: setup.launch()?,
            setup,
            started: false,
        })
    }

    /// Fails when it has ended otherwise than it was asked to, or when its log tells of a panic.
    fn ensure_sound(&self) -> Result<()> {
        self.process.ensure_good_end()?;
        ensure_no_panic(&self.process)
    }

    /// Where Envoy finds xDS and the exchange; the same over restarts.
    pub fn xds_address(&self) -> SocketAddr {
        self.setup.xds.address()
    }

    /// The admin API's address; the same over restarts.
    pub fn admin_address(&self) -> SocketAddr {
        self.setup.admin.address()
    }

    /// From now on this is a secret too: in no page, error or log line.
    pub fn hide(&mut self, secret: &str) {
        self.setup.secrets.push(secret.to_owned());
    }

    /// SIGKILL.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// Starts again after [`Sidecar::kill`] (or instead of it), on the same addresses.
    pub async fn restart(&mut self) -> Result<()> {
        self.process.kill();
        self.ensure_sound()?;
        self.process = self.setup.launch()?;
        self.ready().await
    }

    /// Stops it in good order (SIGTERM) and waits for its end; fails unless the exit code is 0.
    pub async fn stop(&self) -> Result<()> {
        self.process.signal(Signal::SIGTERM)?;
        self.process.exit(STOP_DEADLINE).await?;
        self.process.ensure_good_end()
    }

    /// Hangs it: it keeps its connections and says nothing more.
    pub async fn hang(&self) -> Result<()> {
        self.process.freeze().await
    }

    /// Ends a [`Sidecar::hang`].
    pub fn resume(&self) -> Result<()> {
        self.process.signal(Signal::SIGCONT)
    }

    /// The process: its id, CPU time, signals, log.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// GET on the admin API, whatever the status; fails when the answer holds a secret.
    pub async fn get(&self, path: &str) -> Result<Response> {
        self.ask(Method::GET, path, &[], &Value::Null).await
    }

    /// Any request on the admin API, whatever the status; no body where it is `Null`.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(&'static str, &str)],
        body: &Value,
    ) -> Result<Response> {
        let body = match body {
            Value::Null => String::new(),
            body => body.to_string(),
        };
        let mut request = client::request(method, path, body.into());
        let host = ("host", "localhost");
        for (name, value) in [&[host], headers].concat() {
            request.headers_mut().insert(name, value.parse()?);
        }
        let response = Client::new(self.admin_address()).send(request).await?;
        secrets::ensure_none(&self.setup.secrets, &response.text())
            .with_context(|| path.to_owned())?;
        Ok(response)
    }

    /// Writes; fails unless the answer is a good one and the write is served.
    pub async fn write(&self, method: Method, path: &str, body: Value) -> Result<Value> {
        let response = self.ask(method, path, &[], &body).await?;
        let text = response.text();
        ensure!(
            response.status.is_success(),
            "{path}: {} {text}",
            response.status
        );
        let body = response.json()?;
        ensure!(body["served"] == true, "{path}: {text}");
        Ok(body)
    }

    /// `/status`; fails on anything but 200 with JSON.
    pub async fn status(&self) -> Result<Value> {
        let response = self.get("/status").await?;
        ensure!(
            response.status == 200,
            "/status: {} {}",
            response.status,
            response.text()
        );
        response.json()
    }

    /// `/metrics`, as text.
    pub async fn metrics(&self) -> Result<String> {
        let response = self.get("/metrics").await?;
        ensure!(
            response.status == 200,
            "/metrics: {} {}",
            response.status,
            response.text()
        );
        Ok(response.text())
    }

    async fn ready(&self) -> Result<()> {
        let ready = eventually(READY_DEADLINE, "the sidecar to be ready", async || {
            // Nobody waits for a dead process: this inner error is what ends the wait.
            if let Err(dead) = self.process.ensure_running() {
                return Ok(Err(dead));
            }
            let response = self.get("/readyz").await?;
            ensure!(
                response.status == 200,
                "/readyz: {} {}",
                response.status,
                response.text()
            );
            self.setup.ensure_ports()?;
            Ok(Ok(()))
        });
        ready
            .await
            .with_context(|| format!("log:\n{}", self.process.log_tail()))?
    }
}

impl Setup {
    fn launch(&self) -> Result<Process> {
        // A ports file of an earlier run must not pass for this one's.
        let ports = self.ports_file();
        if ports.exists() {
            fs::remove_file(&ports)?;
        }
        let mut command = Command::new(artefacts::sidecar()?);
        command.arg("serve").env_clear();
        command
            .env("POINTSMAN_XDS_LISTEN", self.xds.address().to_string())
            .env("POINTSMAN_ADMIN_LISTEN", self.admin.address().to_string())
            .env("POINTSMAN_PORTS_FILE", &ports)
            .env("POINTSMAN_WASM", artefacts::module()?)
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        Process::start(command, &self.folder.path().join("pointsman.log"))
    }

    fn ports_file(&self) -> PathBuf {
        self.folder.path().join("ports.json")
    }

    /// The ports file must tell the truth.
    fn ensure_ports(&self) -> Result<()> {
        let file = self.ports_file();
        let text = fs::read_to_string(&file).with_context(|| format!("{}", file.display()))?;
        let ports: Value = serde_json::from_str(&text)?;
        for (name, port) in [("xds", &self.xds), ("admin", &self.admin)] {
            let address = port.address().to_string();
            ensure!(
                ports[name] == *address,
                "{name} listens on {address}, the file says {ports}"
            );
        }
        Ok(())
    }
}

fn ensure_no_panic(process: &Process) -> Result<()> {
    let panics = process.panics();
    ensure!(panics.is_empty(), "the sidecar panicked: {panics:#?}");
    Ok(())
}
