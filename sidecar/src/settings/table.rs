//! Every setting of `serve`, once: the flags, the reader and the documentation's test come from here.

/// A setting: a flag and the variables that stand for it.
#[derive(Debug)]
pub struct Setting {
    /// The flag.
    pub flag: &'static str,
    /// The variables, ours first; the first that is set counts, and an empty one counts as none.
    pub variables: &'static [&'static str],
    /// What its value is, for people.
    pub value: &'static str,
    /// What counts when nothing is set, for people and, where it is one value, for the reader; empty:
    /// nothing does.
    pub default: &'static str,
    /// What it says.
    pub help: &'static str,
}

impl Setting {
    /// The variable by which it is known.
    pub fn variable(&self) -> &'static str {
        self.variables.first().copied().unwrap_or_default()
    }
}

/// The value of a setting that is said by its flag alone as well.
pub const BOOL: &str = "BOOL";

macro_rules! settings {
    ($($name:ident: $flag:literal, [$($variable:literal),+], $value:expr, $default:literal, $help:literal;)+) => {
        $(#[doc = $help]
        pub static $name: Setting = Setting {
            flag: $flag,
            variables: &[$($variable),+],
            value: $value,
            default: $default,
            help: $help,
        };)+

        /// All of them, in the order in which people read them.
        pub static SETTINGS: &[&Setting] = &[$(&$name),+];
    };
}

settings! {
    DEMO_MODE: "--demo-mode", ["DEMO_MODE"], BOOL, "false",
        "Keep the registry in memory, seeded from a file";
    DEMO_FILE: "--demo-file", ["POINTSMAN_DEMO_FILE"], "PATH", "",
        "The registry file of demo mode: YAML, JSON or TOML";
    REGISTRY: "--registry", ["POINTSMAN_REGISTRY", "MX_METADATA_BACKEND"], "STORE", "",
        "Where the registry is kept: redis or kubernetes";
    REDIS_URL: "--redis-url", ["REDIS_URL"], "URL", "",
        "Where Redis is: redis://[user:password@]host:port[/database], rediss:// with TLS, also \
         redis+sentinel://…/service and redis+cluster://…; the variable keeps a password out of the \
         list of processes";
    REDIS_HOST: "--redis-host", ["MX_REDIS_HOST", "REDIS_HOST"], "HOST", "",
        "Instead of a URL, with --redis-port";
    REDIS_PORT: "--redis-port", ["MX_REDIS_PORT", "REDIS_PORT"], "PORT", "",
        "Instead of a URL, with --redis-host";
    SENTINEL_USER: "--sentinel-user", ["POINTSMAN_SENTINEL_USER"], "USER", "",
        "The user that the Sentinels ask for";
    SENTINEL_PASSWORD: "--sentinel-password", ["POINTSMAN_SENTINEL_PASSWORD"], "PASSWORD", "",
        "The password that the Sentinels ask for";
    REDIS_ROOT: "--redis-root", ["POINTSMAN_REDIS_ROOT"], "TEXT",
        "pointsman, in a cluster {pointsman}",
        "What every key in Redis begins with";
    NAMESPACE: "--namespace", ["MX_METADATA_NAMESPACE", "POD_NAMESPACE"], "NAMESPACE", "",
        "The namespace that holds the BackendClusters";
    KUBECONFIG: "--kubeconfig", ["KUBECONFIG"], "PATHS", "",
        "Files that say where the API server is, separated by colons; none: the pod's service account";
    LEASE_DURATION: "--lease-duration", ["POINTSMAN_LEASE_DURATION"], "DURATION", "15s",
        "How long a sidecar may be silent before another one goes on with its jobs, or writes the \
         statuses in Kubernetes";
    RECONCILE_INTERVAL: "--reconcile-interval", ["POINTSMAN_RECONCILE_INTERVAL"], "DURATION",
        "30s, in Kubernetes 300s",
        "How often the whole registry is read again";
    GUARD_DELAY: "--guard-delay", ["POINTSMAN_GUARD_DELAY"], "DURATION", "5s",
        "How long the loss of more than half of the backends waits for a second reading; 0s: not at all";
    ENVIRONMENT: "--environment", ["ENVIRONMENT"], "LABEL", "development",
        "A label for this installation";
    XDS_LISTEN: "--xds-listen", ["POINTSMAN_XDS_LISTEN"], "ADDRESS", "127.0.0.1:18000",
        "Where proxies connect: ip:port or unix:/path";
    XDS_TOKEN: "--xds-token", ["POINTSMAN_XDS_TOKEN"], "TOKEN", "",
        "What proxies must show to be served";
    ADMIN_LISTEN: "--admin-listen", ["POINTSMAN_ADMIN_LISTEN"], "ADDRESS", "127.0.0.1:18080",
        "Where operators ask: ip:port";
    ADMIN_TOKEN: "--admin-token", ["POINTSMAN_ADMIN_TOKEN"], "TOKEN", "",
        "What operators must show to write";
    METRICS_LISTEN: "--metrics-listen", ["POINTSMAN_METRICS_LISTEN"], "ADDRESS", "",
        "A listener of its own for /metrics, /livez and /readyz, where nobody needs a token: ip:port";
    RELOAD_ALLOWED_IP: "--reload-allowed-ip", ["RELOAD_ALLOWED_IP"], "IP", "127.0.0.1",
        "From which address POST /reload may come";
    MODULE: "--wasm", ["POINTSMAN_WASM"], "MODULE", "inline:pointsman.wasm beside the program",
        "The filter module: a path as Envoy sees it, or inline:path to send the file itself";
    VERDICT_TTL: "--verdict-ttl", ["POINTSMAN_VERDICT_TTL"], "DURATION", "30s",
        "How long verdicts hold when the sidecar is silent";
    CHANGE_INTERVAL: "--change-interval", ["POINTSMAN_CHANGE_INTERVAL"], "DURATION", "500ms",
        "Least time between two changes that proxies are sent";
    SHUTDOWN_GRACE: "--shutdown-grace", ["POINTSMAN_SHUTDOWN_GRACE"], "DURATION", "30s",
        "How long shutting down may take";
    PORTS_FILE: "--ports-file", ["POINTSMAN_PORTS_FILE"], "PATH", "",
        "Where to write the bound addresses as JSON";
    LOG_FORMAT: "--log-format", ["POINTSMAN_LOG_FORMAT"], "FORMAT", "text on a terminal, else json",
        "How log lines are written: text or json";
}
