//! What the process is told by flags and environment: one pure function from both to [`Settings`]
//! that reports every error at once and guesses nothing.

mod redis_url;
mod registry;
mod table;

use std::ffi::OsString;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use pointsman_filter::config::duration;

pub use redis_url::{Node, RedisUrl, Topology};
pub use registry::{KubernetesSettings, RedisSettings, RegistrySettings};
use table::{
    ADMIN_LISTEN, ADMIN_TOKEN, CHANGE_INTERVAL, ENVIRONMENT, LOG_FORMAT, METRICS_LISTEN, MODULE,
    PORTS_FILE, RELOAD_ALLOWED_IP, SHUTDOWN_GRACE, VERDICT_TTL, XDS_LISTEN, XDS_TOKEN,
};
pub use table::{BOOL, SETTINGS, Setting};

const TOKEN_MAX: usize = 256;
const LABEL_MAX: usize = 64;

/// A word that must not be seen: it has no `Debug` and no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A word to be kept.
    pub fn new(word: String) -> Self {
        Secret(word)
    }

    /// The word itself, for those who must send or compare it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// An address; port 0 lets the system choose.
    Tcp(SocketAddr),
    /// A socket in the file system.
    Unix(PathBuf),
}

/// Where Envoy gets the filter module from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Module {
    /// A path as Envoy sees it.
    Path(String),
    /// A file the sidecar reads and sends along.
    Inline(PathBuf),
}

/// Everything a serving process is told.
pub struct Settings {
    /// Where the registry is kept.
    pub registry: RegistrySettings,
    /// A label, nothing more.
    pub environment: String,
    /// Where proxies connect.
    pub xds_listen: Listen,
    /// What proxies must show.
    pub xds_token: Option<Secret>,
    /// Where operators ask.
    pub admin_listen: SocketAddr,
    /// What operators must show to write.
    pub admin_token: Option<Secret>,
    /// Where scrapers and probes ask, if they have a listener of their own.
    pub metrics_listen: Option<SocketAddr>,
    /// From where a reload may be asked for.
    pub reload_allowed_ip: IpAddr,
    /// The filter module.
    pub module: Module,
    /// How long verdicts hold when the sidecar is silent.
    pub verdict_ttl: Duration,
    /// Least time between two changes of what proxies are sent.
    pub change_interval: Duration,
    /// How long shutting down may take.
    pub shutdown_grace: Duration,
    /// Where to write the bound addresses.
    pub ports_file: Option<PathBuf>,
    /// How log lines are written; absent: as suits where they go.
    pub log_format: Option<LogFormat>,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// An object a line, for whoever collects them.
    Json,
}

/// Everything wrong with flags and environment, one line each.
#[derive(Debug, PartialEq, Eq)]
pub struct SettingsErrors(pub Vec<String>);

impl fmt::Display for SettingsErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for SettingsErrors {}

impl Settings {
    /// Reads every setting from its flag, else from its variable; an empty value counts as none.
    /// `beside` is where the module is looked for when no setting names one.
    pub fn parse(
        flag: impl Fn(&str) -> Option<OsString>,
        variable: impl Fn(&str) -> Option<OsString>,
        beside: Option<PathBuf>,
    ) -> Result<Self, SettingsErrors> {
        let mut reader = Reader {
            flag: &flag,
            variable: &variable,
            errors: Vec::new(),
        };
        let registry = reader.registry();
        let environment = reader.label();
        let xds_listen = reader.xds_listen();
        let xds_token = reader.secret(&XDS_TOKEN);
        let admin_listen = reader.address(&ADMIN_LISTEN);
        let admin_listen = admin_listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 18080)));
        let metrics_listen = reader.address(&METRICS_LISTEN);
        let admin_token = reader.secret(&ADMIN_TOKEN);
        if let Listen::Tcp(address) = xds_listen {
            reader.guard(&XDS_LISTEN, address, &XDS_TOKEN, xds_token.is_some());
        }
        reader.guard(
            &ADMIN_LISTEN,
            admin_listen,
            &ADMIN_TOKEN,
            admin_token.is_some(),
        );
        let reload_allowed_ip = reader.reload_allowed_ip();
        let module = reader.module(beside);
        let verdict_ttl = reader.duration(&VERDICT_TTL, Duration::from_secs(1));
        let change_interval = reader.duration(&CHANGE_INTERVAL, Duration::from_millis(10));
        let shutdown_grace = reader.duration(&SHUTDOWN_GRACE, Duration::ZERO);
        let log_format = reader.log_format();
        let ports_file = reader.text(&PORTS_FILE).map(|(_, path)| path.into());
        let (Some(registry), Some(module), []) = (registry, module, reader.errors.as_slice())
        else {
            return Err(SettingsErrors(reader.errors));
        };
        Ok(Settings {
            registry,
            environment,
            xds_listen,
            xds_token,
            admin_listen,
            admin_token,
            metrics_listen,
            reload_allowed_ip,
            module,
            verdict_ttl,
            change_interval,
            shutdown_grace,
            ports_file,
            log_format,
        })
    }
}

struct Reader<'a> {
    flag: &'a dyn Fn(&str) -> Option<OsString>,
    variable: &'a dyn Fn(&str) -> Option<OsString>,
    errors: Vec<String>,
}

impl Reader<'_> {
    /// The value and the name it was given by.
    fn text(&mut self, setting: &Setting) -> Option<(&'static str, String)> {
        let (flag, variable) = (self.flag, self.variable);
        let variables = setting.variables.iter().map(|name| (*name, variable(name)));
        let mut given = [(setting.flag, flag(setting.flag))]
            .into_iter()
            .chain(variables);
        let (place, value) = given.find_map(|(place, value)| {
            let value = value.filter(|value| !value.is_empty())?;
            Some((place, value))
        })?;
        match value.into_string() {
            Ok(text) => Some((place, text)),
            Err(_) => {
                self.errors.push(format!("{place}: must be UTF-8"));
                None
            }
        }
    }

    fn refuse(&mut self, place: &str, must: &str, value: &str) {
        self.errors.push(format!("{place}: {must}, not {value:?}"));
    }

    fn label(&mut self) -> String {
        let Some((place, label)) = self.text(&ENVIRONMENT) else {
            return "development".to_owned();
        };
        if label.len() > LABEL_MAX || label.chars().any(char::is_control) {
            let must = format!("must be at most {LABEL_MAX} bytes without control characters");
            self.refuse(place, &must, &label);
        }
        label
    }

    fn xds_listen(&mut self) -> Listen {
        let default = Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], 18000)));
        let Some((place, text)) = self.text(&XDS_LISTEN) else {
            return default;
        };
        if let Some(path) = text
            .strip_prefix("unix:")
            .filter(|path| path.starts_with('/'))
        {
            return Listen::Unix(path.into());
        }
        match text.parse() {
            Ok(address) => Listen::Tcp(address),
            Err(_) => {
                self.refuse(place, "must be ip:port or unix:/path", &text);
                default
            }
        }
    }

    fn address(&mut self, setting: &Setting) -> Option<SocketAddr> {
        let (place, text) = self.text(setting)?;
        let address = text.parse();
        if address.is_err() {
            self.refuse(place, "must be ip:port", &text);
        }
        address.ok()
    }

    fn reload_allowed_ip(&mut self) -> IpAddr {
        let default = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let Some((place, text)) = self.text(&RELOAD_ALLOWED_IP) else {
            return default;
        };
        match text.parse::<IpAddr>() {
            Ok(address) => address.to_canonical(),
            Err(_) => {
                self.refuse(place, "must be an IP address", &text);
                default
            }
        }
    }

    /// Whoever can reach the listener must be asked for a token, unless only this host can.
    fn guard(&mut self, listen: &Setting, address: SocketAddr, token: &Setting, has_token: bool) {
        if address.ip().is_loopback() || has_token {
            return;
        }
        let variable = listen.variable();
        let token = token.variable();
        let place = self.text(listen).map_or(variable, |(place, _)| place);
        let must = format!("must be a loopback address unless {token} is set");
        self.refuse(place, &must, &address.to_string());
    }

    /// An error says what is wrong with a secret, never the secret.
    fn secret(&mut self, setting: &Setting) -> Option<Secret> {
        let (place, text) = self.text(setting)?;
        if text.len() > TOKEN_MAX || text.bytes().any(|b| !matches!(b, b'!'..=b'~')) {
            let must = "must be printable ASCII without spaces";
            self.errors
                .push(format!("{place}: {must}, at most {TOKEN_MAX} bytes"));
        }
        Some(Secret::new(text))
    }

    fn module(&mut self, beside: Option<PathBuf>) -> Option<Module> {
        let Some((place, text)) = self.text(&MODULE) else {
            if let Some(file) = beside {
                return Some(Module::Inline(file));
            }
            self.require(&MODULE, "a path as Envoy sees it, or inline:path");
            return None;
        };
        match text.strip_prefix("inline:") {
            Some("") => {
                self.refuse(place, "must name a file after inline:", &text);
                None
            }
            Some(path) => Some(Module::Inline(path.into())),
            None => Some(Module::Path(text)),
        }
    }

    /// A duration of at least `min`, by default what the table says.
    fn duration(&mut self, setting: &Setting, min: Duration) -> Duration {
        let default = duration::parse(setting.default).unwrap_or_default();
        self.duration_or(setting, default, min)
    }

    fn duration_or(&mut self, setting: &Setting, default: Duration, min: Duration) -> Duration {
        const MAX: Duration = Duration::from_secs(86_400);
        let Some((place, text)) = self.text(setting) else {
            return default;
        };
        match duration::parse(&text).filter(|read| (min..=MAX).contains(read)) {
            Some(read) => read,
            None => {
                let (min, max) = (duration::print(min), duration::print(MAX));
                let must = format!("must be a duration such as 500ms or 30s, {min} to {max}");
                self.refuse(place, &must, &text);
                default
            }
        }
    }

    fn log_format(&mut self) -> Option<LogFormat> {
        let (place, text) = self.text(&LOG_FORMAT)?;
        match text.as_str() {
            "text" => Some(LogFormat::Text),
            "json" => Some(LogFormat::Json),
            _ => {
                self.refuse(place, "must be text or json", &text);
                None
            }
        }
    }

    /// Says that something must be set, and what.
    fn require(&mut self, setting: &Setting, what: &str) {
        let (variable, flag) = (setting.variable(), setting.flag);
        self.errors
            .push(format!("{variable} or {flag}: is required: {what}"));
    }
}

#[cfg(test)]
mod tests;
