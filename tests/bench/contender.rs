//! What is compared: Envoys that differ only in who picks the backend.
//!
//! All of them start from `envoy/static.yaml` or, where the sidecar is needed, `envoy/envoy.yaml`.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::port::Port;
use harness::registry::Registry;
use harness::{Bootstrap, Envoy, Sidecar, artefacts, eventually};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::machine::{self, Cores};
use crate::picker::Picker;
use crate::responder::Responder;
use crate::variants::{
    fixed, native, prefixes, tree, with_lists, with_lua, with_one_list, with_picker, with_retries,
    with_routes,
};

/// The cluster that every route leads to.
pub const CLUSTER: &str = "orders";
/// The connections of a load at full speed, and most of a paced one.
pub const CONNECTIONS: usize = 16;
const STICKY: &str = "POINTSMAN";

/// Who picks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Envoy's own `least_request`, without any filter of ours.
    Native,
    /// The same with the retries that a user would give the cluster.
    NativeRetry,
    /// The same chain of filters as Pointsman's without any module: one native filter writes one list.
    Chain,
    /// The same chain around a module that does nothing, and is called as often.
    Noop,
    /// The same chain around a module that hands out ready-made lists: no rule, and no retries.
    Picker,
    /// The same chain with round robin in Lua.
    Lua,
    /// The same chain with an endpoint picker in another process.
    ExtProc,
    /// Pointsman with this policy.
    Pointsman(&'static str, Extra),
}

/// What makes a pick of Pointsman's more than the plainest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extra {
    /// Nothing.
    None,
    /// Every request has a sticky cookie.
    Sticky,
    /// One more backend, which is inside its back-off: the gates are not empty.
    Gated,
    /// A sidecar with a health check, and its exchange.
    Checked,
    /// Answers are retried, so that the module stands upstream as well.
    Upstream,
    /// A thousand routes stand before the one that leads here: Envoy looks for it twice.
    Routes,
    /// The same routes in a matcher's tree.
    Tree,
}

/// One case of the comparison.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// Who picks.
    pub kind: Kind,
    /// Among how many backends.
    pub backends: u32,
}

impl Case {
    /// Its key in the report.
    pub fn name(&self) -> String {
        let sized = |name: &str| match self.backends {
            3 => name.to_owned(),
            more => format!("{name}.{more}"),
        };
        match self.kind {
            Kind::Native => sized("native"),
            Kind::NativeRetry => sized("native.retry"),
            Kind::Chain => sized("chain"),
            Kind::Noop => sized("noop"),
            Kind::Picker => sized("picker"),
            Kind::Lua => sized("lua"),
            Kind::ExtProc => sized("extProc"),
            Kind::Pointsman(policy, extra) => {
                let extra = match extra {
                    Extra::None => "",
                    Extra::Sticky => ".sticky",
                    Extra::Gated => ".gated",
                    Extra::Checked => ".checked",
                    Extra::Upstream => ".upstream",
                    Extra::Routes => ".routes1000",
                    Extra::Tree => ".tree1000",
                };
                format!("pointsman.{policy}.{}{extra}", self.backends)
            }
        }
    }

    /// The document of its cluster, where Pointsman picks.
    pub fn document(&self, addresses: &[SocketAddr]) -> Value {
        let backend = |(i, address): (usize, &SocketAddr)| {
            let address = address.to_string();
            json!({"id": format!("{CLUSTER}-{i}"), "address": address})
        };
        let backends: Vec<Value> = addresses.iter().enumerate().map(backend).collect();
        let mut document = json!({"name": CLUSTER, "backends": backends});
        if let Kind::Pointsman(policy, extra) = self.kind {
            document["loadBalancing"] = json!({"policy": policy});
            match extra {
                Extra::None | Extra::Routes | Extra::Tree => {}
                Extra::Sticky => document["sticky"] = json!({"cookie": STICKY}),
                // Longer than the bench: the window stays open.
                Extra::Gated => document["backoff"] = json!({"base": "1h", "max": "1h"}),
                Extra::Upstream => {
                    document["retry"] = json!({"on": ["ConnectFailure", 429]});
                    document["passive"] = json!({"cooldown": {}});
                }
                Extra::Checked => {
                    document["healthCheck"] =
                        json!({"http": {"path": "/healthz"}, "interval": "1s", "timeout": "1s"});
                }
            }
        }
        document
    }
}

/// A case under way. Fields are dropped in this order.
pub struct Contender {
    /// What it is.
    pub case: Case,
    /// The Envoy, frozen but for its turns.
    pub envoy: Envoy,
    /// What its clients send besides, in turns.
    pub headers: Vec<String>,
    picker: Option<Picker>,
    _sidecar: Option<(Sidecar, Registry)>,
    _refusing: Port,
    _responder: Responder,
}

impl Contender {
    /// Starts everything and pins it.
    pub async fn start(case: Case, cores: Cores) -> Result<Self> {
        let responder = Responder::start(cores.others).await?;
        let mut addresses = responder.addresses(case.backends);
        // Nobody listens there: a refused connection opens the back-off.
        let refusing = Port::reserve()?;
        if matches!(case.kind, Kind::Pointsman(_, Extra::Gated)) {
            addresses.push(refusing.address());
        }
        let document = case.document(&addresses);
        let (mut picker, mut sidecar) = (None, None);
        let bootstrap = match case.kind {
            Kind::Pointsman(_, Extra::Checked) => {
                let registry = Registry::new(vec![document])?;
                let started = Sidecar::start(&registry).await?;
                machine::pin(started.process().pid(), cores.others)?;
                let bootstrap = Bootstrap::ads(started.xds_address())?;
                sidecar = Some((started, registry));
                bootstrap
            }
            Kind::ExtProc => {
                let started =
                    Picker::start(&addresses, cores.picker.unwrap_or(cores.others)).await?;
                let bootstrap = with_picker(fixed(&document, &addresses)?, started.address())?;
                picker = Some(started);
                bootstrap
            }
            Kind::Pointsman(_, Extra::Routes) => {
                with_routes(fixed(&document, &addresses)?, prefixes)?
            }
            Kind::Pointsman(_, Extra::Tree) => with_routes(fixed(&document, &addresses)?, tree)?,
            Kind::Pointsman(..) => fixed(&document, &addresses)?,
            Kind::Noop => fixed(&document, &addresses)?.module(&artefacts::built("noop.wasm")?)?,
            Kind::Picker => with_lists(fixed(&document, &addresses)?, &addresses)?,
            Kind::Chain => with_one_list(fixed(&document, &addresses)?, &addresses)?,
            Kind::Lua => with_lua(fixed(&document, &addresses)?, &addresses)?,
            Kind::Native => native(fixed(&document, &addresses)?)?,
            Kind::NativeRetry => with_retries(native(fixed(&document, &addresses)?)?),
        };
        let envoy = Envoy::start(bootstrap.concurrency(1)).await?;
        machine::pin(envoy.process().pid(), cores.envoy)?;
        let contender = Contender {
            headers: headers(&case),
            case,
            envoy,
            picker,
            _sidecar: sidecar,
            _refusing: refusing,
            _responder: responder,
        };
        contender.settle().await?;
        contender.sleep().await?;
        Ok(contender)
    }

    /// Waits until the filter has what it needs to take part.
    async fn settle(&self) -> Result<()> {
        let mut client = self.envoy.client();
        let backing_off = format!("wasmcustom.pointsman_events_total;c={CLUSTER};r=backoff_opened");
        eventually(
            Duration::from_secs(20),
            "the case to be ready",
            async || {
                let answer = client.get("/").await?;
                ensure!(answer.status == 200, "{} {}", answer.status, answer.text());
                if let Kind::Pointsman(_, extra) = self.case.kind {
                    let name = "wasmcustom.pointsman_configs_total;r=applied";
                    ensure!(self.envoy.stat(name).await? > 0, "no configuration yet");
                    if extra == Extra::Gated {
                        ensure!(self.envoy.stat(&backing_off).await? > 0, "no back-off yet");
                    }
                }
                Ok(())
            },
        )
        .await
        .with_context(|| self.case.name())
    }

    /// Lets it run for its turn.
    pub fn wake(&self) -> Result<()> {
        self.envoy.process().signal(Signal::SIGCONT)
    }

    /// Stops it, so that its ticks and timers cost the others nothing. One that talks with a
    /// sidecar goes on: it would have to connect again, and its verdicts would have expired.
    pub async fn sleep(&self) -> Result<()> {
        match self.case.kind {
            Kind::Pointsman(_, Extra::Checked) => Ok(()),
            _ => self.envoy.process().freeze().await,
        }
    }

    /// CPU time of Envoy alone, and of everything that takes part in picking.
    pub fn cpu(&self) -> Result<(Duration, Duration)> {
        let envoy = machine::cpu_of(self.envoy.process().pid())?;
        let picker = match &self.picker {
            Some(picker) => machine::cpu_of(picker.pid())?,
            None => Duration::ZERO,
        };
        Ok((envoy, envoy + picker))
    }
}

fn headers(case: &Case) -> Vec<String> {
    match case.kind {
        Kind::Pointsman(_, Extra::Sticky) => (0..case.backends)
            .map(|i| format!("cookie: {STICKY}={CLUSTER}-{i}"))
            .collect(),
        _ => Vec::new(),
    }
}
