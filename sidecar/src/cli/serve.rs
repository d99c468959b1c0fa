//! `pointsman serve`: every setting as a flag.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Args;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

use super::report::{Report, wrong_usage};
use crate::app;
use crate::settings::Settings;
use crate::telemetry::counts::EventCounts;
use crate::telemetry::lines;

/// The Kubernetes library reports each attempt to connect; we say once that the store is away.
const LOGGED: &str = "info,kube_client=off,kube_runtime=off";

/// Every setting as a flag; a flag wins over its variable, and an empty value counts as none.
#[derive(Args)]
pub struct ServeFlags {
    /// Check the settings and the registry, and end: 0 when all is well, else 1
    #[arg(long)]
    validate_config: bool,
    /// Keep the registry in memory, seeded from a file [env: DEMO_MODE=] [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    demo_mode: Option<OsString>,
    /// The registry file of demo mode: YAML, JSON or TOML [env: POINTSMAN_DEMO_FILE=]
    #[arg(long, value_name = "PATH")]
    demo_file: Option<OsString>,
    /// Where the registry is kept: redis or kubernetes [env: POINTSMAN_REGISTRY=]
    #[arg(long, value_name = "STORE")]
    registry: Option<OsString>,
    /// Where Redis is: redis://[user:password@]host:port[/database], rediss:// with TLS, also
    /// redis+sentinel://…/service and redis+cluster://…; the variable keeps a password out of the
    /// list of processes [env: REDIS_URL=]
    #[arg(long, value_name = "URL")]
    redis_url: Option<OsString>,
    /// Instead of a URL, with --redis-port [env: MX_REDIS_HOST=, REDIS_HOST=]
    #[arg(long, value_name = "HOST")]
    redis_host: Option<OsString>,
    /// Instead of a URL, with --redis-host [env: MX_REDIS_PORT=, REDIS_PORT=]
    #[arg(long, value_name = "PORT")]
    redis_port: Option<OsString>,
    /// The user that the Sentinels ask for [env: POINTSMAN_SENTINEL_USER=]
    #[arg(long, value_name = "USER")]
    sentinel_user: Option<OsString>,
    /// The password that the Sentinels ask for [env: POINTSMAN_SENTINEL_PASSWORD=]
    #[arg(long, value_name = "PASSWORD")]
    sentinel_password: Option<OsString>,
    /// What every key in Redis begins with [env: POINTSMAN_REDIS_ROOT=] [default: pointsman, in a
    /// cluster {pointsman}]
    #[arg(long, value_name = "TEXT")]
    redis_root: Option<OsString>,
    /// The namespace that holds the BackendClusters [env: MX_METADATA_NAMESPACE=, POD_NAMESPACE=]
    #[arg(long, value_name = "NAMESPACE")]
    namespace: Option<OsString>,
    /// Files that say where the API server is, separated by colons; none: the pod's service account
    /// [env: KUBECONFIG=]
    #[arg(long, value_name = "PATHS")]
    kubeconfig: Option<OsString>,
    /// How long a sidecar may be silent before another one writes the statuses, and goes on with its
    /// jobs in Redis [env: POINTSMAN_LEASE_DURATION=] [default: 15s]
    #[arg(long, value_name = "DURATION")]
    lease_duration: Option<OsString>,
    /// How often the whole registry is read again [env: POINTSMAN_RECONCILE_INTERVAL=] [default:
    /// 30s; 300s in Kubernetes]
    #[arg(long, value_name = "DURATION")]
    reconcile_interval: Option<OsString>,
    /// How long the loss of more than half of the backends waits for a second reading; 0s: not at
    /// all [env: POINTSMAN_GUARD_DELAY=] [default: 5s]
    #[arg(long, value_name = "DURATION")]
    guard_delay: Option<OsString>,
    /// A label for this installation [env: ENVIRONMENT=] [default: development]
    #[arg(long, value_name = "LABEL")]
    environment: Option<OsString>,
    /// Where proxies connect: ip:port or unix:/path [env: POINTSMAN_XDS_LISTEN=] [default:
    /// 127.0.0.1:18000]
    #[arg(long, value_name = "ADDRESS")]
    xds_listen: Option<OsString>,
    /// What proxies must show to be served [env: POINTSMAN_XDS_TOKEN=]
    #[arg(long, value_name = "TOKEN")]
    xds_token: Option<OsString>,
    /// Where operators ask: ip:port [env: POINTSMAN_ADMIN_LISTEN=] [default: 127.0.0.1:18080]
    #[arg(long, value_name = "ADDRESS")]
    admin_listen: Option<OsString>,
    /// What operators must show to write [env: POINTSMAN_ADMIN_TOKEN=]
    #[arg(long, value_name = "TOKEN")]
    admin_token: Option<OsString>,
    /// A listener of its own for /metrics, /livez and /readyz, where nobody needs a token: ip:port
    /// [env: POINTSMAN_METRICS_LISTEN=]
    #[arg(long, value_name = "ADDRESS")]
    metrics_listen: Option<OsString>,
    /// From which address POST /reload may come [env: RELOAD_ALLOWED_IP=] [default: 127.0.0.1]
    #[arg(long, value_name = "IP")]
    reload_allowed_ip: Option<OsString>,
    /// The filter module: a path as Envoy sees it, or inline:path to send the file itself [env:
    /// POINTSMAN_WASM=] [default: inline:pointsman.wasm beside this program]
    #[arg(long, value_name = "MODULE")]
    wasm: Option<OsString>,
    /// How long verdicts hold when the sidecar is silent [env: POINTSMAN_VERDICT_TTL=] [default:
    /// 30s]
    #[arg(long, value_name = "DURATION")]
    verdict_ttl: Option<OsString>,
    /// Least time between two changes that proxies are sent [env: POINTSMAN_CHANGE_INTERVAL=]
    /// [default: 500ms]
    #[arg(long, value_name = "DURATION")]
    change_interval: Option<OsString>,
    /// How long shutting down may take [env: POINTSMAN_SHUTDOWN_GRACE=] [default: 30s]
    #[arg(long, value_name = "DURATION")]
    shutdown_grace: Option<OsString>,
    /// Where to write the bound addresses as JSON [env: POINTSMAN_PORTS_FILE=]
    #[arg(long, value_name = "PATH")]
    ports_file: Option<OsString>,
}

impl ServeFlags {
    fn get(&self, flag: &str) -> Option<OsString> {
        let value = match flag {
            "--demo-mode" => &self.demo_mode,
            "--demo-file" => &self.demo_file,
            "--registry" => &self.registry,
            "--redis-url" => &self.redis_url,
            "--redis-host" => &self.redis_host,
            "--redis-port" => &self.redis_port,
            "--sentinel-user" => &self.sentinel_user,
            "--sentinel-password" => &self.sentinel_password,
            "--redis-root" => &self.redis_root,
            "--namespace" => &self.namespace,
            "--kubeconfig" => &self.kubeconfig,
            "--lease-duration" => &self.lease_duration,
            "--reconcile-interval" => &self.reconcile_interval,
            "--guard-delay" => &self.guard_delay,
            "--environment" => &self.environment,
            "--xds-listen" => &self.xds_listen,
            "--xds-token" => &self.xds_token,
            "--admin-listen" => &self.admin_listen,
            "--admin-token" => &self.admin_token,
            "--metrics-listen" => &self.metrics_listen,
            "--reload-allowed-ip" => &self.reload_allowed_ip,
            "--wasm" => &self.wasm,
            "--verdict-ttl" => &self.verdict_ttl,
            "--change-interval" => &self.change_interval,
            "--shutdown-grace" => &self.shutdown_grace,
            "--ports-file" => &self.ports_file,
            _ => return None,
        };
        value.clone()
    }
}

/// Runs the sidecar, or only checks what it would start with.
pub fn run(flags: &ServeFlags) -> ExitCode {
    let beside = std::env::current_exe()
        .ok()
        .and_then(|program| Some(program.parent()?.join("pointsman.wasm")));
    let settings = match Settings::parse(
        |flag| flags.get(flag),
        |name| std::env::var_os(name),
        beside,
    ) {
        Ok(settings) => settings,
        Err(errors) if flags.validate_config => return Report::failed(errors).finish(),
        Err(errors) => return wrong_usage(&format!("{errors}\n")),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            return Report::failed(format!("cannot start the runtime: {error}")).finish();
        }
    };
    if flags.validate_config {
        return match runtime.block_on(app::validate(&settings)) {
            Ok(line) => Report::done(line).finish(),
            Err(error) => Report::failed(format!("{error:#}")).finish(),
        };
    }
    let counts = EventCounts::default();
    start_logging(counts.clone());
    let stop = CancellationToken::new();
    let outcome = runtime.block_on(app::serve(settings, counts, stop));
    // What a stage left behind on a blocking thread must not hold the exit up.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(event = "sidecar_failed", "{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Logs go to stderr: lines for people where it is a terminal, JSON elsewhere. What is not written
/// for its level is counted all the same.
fn start_logging(counts: EventCounts) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(LOGGED));
    // A closed stderr must not end the process, so the layer may not report its own trouble.
    let text = fmt::layer()
        .with_writer(std::io::stderr)
        .log_internal_errors(false);
    let text = match std::io::stderr().is_terminal() {
        true => text.boxed(),
        false => text.json().flatten_event(true).boxed(),
    };
    let subscriber = tracing_subscriber::registry()
        .with(text.with_filter(filter))
        .with(lines::counted(counts));
    subscriber.init();
}
