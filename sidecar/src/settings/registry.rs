//! Where the registry is kept: the choice and what each choice needs.

use std::path::PathBuf;
use std::time::Duration;

use super::Reader;
use super::redis_url::{RedisUrl, Topology};
use super::table::{
    DEMO_FILE, DEMO_MODE, GUARD_DELAY, KUBECONFIG, LEASE_DURATION, NAMESPACE, RECONCILE_INTERVAL,
    REDIS_HOST, REDIS_PORT, REDIS_ROOT, REDIS_URL, REGISTRY, SENTINEL_PASSWORD, SENTINEL_USER,
};

const ROOT_DEFAULT: &str = "pointsman";
const CLUSTER_ROOT_DEFAULT: &str = "{pointsman}";
const ROOT_MAX: usize = 64;
const RECONCILE_DEFAULT: Duration = Duration::from_secs(30);
/// A watch tells of every change by itself; this only makes up for a server that forgot one.
const KUBERNETES_RECONCILE_DEFAULT: Duration = Duration::from_secs(300);
/// Longest name of a namespace, bytes.
const NAMESPACE_MAX: usize = 63;

/// Where the registry is kept.
#[derive(Debug, Clone)]
pub enum RegistrySettings {
    /// In memory, seeded from this file: demo mode.
    Demo(PathBuf),
    /// In Redis.
    Redis(RedisSettings),
    /// In custom resources.
    Kubernetes(KubernetesSettings),
}

/// What the Redis registry needs.
#[derive(Debug, Clone)]
pub struct RedisSettings {
    /// Where Redis is.
    pub url: RedisUrl,
    /// What every key begins with, without the colon.
    pub root: String,
    /// How often everything is read again.
    pub reconcile_interval: Duration,
    /// How long a loss of more than half of the backends waits for its confirmation; zero: no wait.
    pub guard_delay: Duration,
    /// How long a sidecar may be silent before others take over what it had begun.
    pub lease_duration: Duration,
}

/// What the Kubernetes registry needs.
#[derive(Debug, Clone)]
pub struct KubernetesSettings {
    /// Whose objects are read.
    pub namespace: String,
    /// Files that say where the API server is; none: the pod's own service account does.
    pub kubeconfig: Vec<PathBuf>,
    /// How often everything is read again.
    pub reconcile_interval: Duration,
    /// How long a loss of more than half of the backends waits for its confirmation; zero: no wait.
    pub guard_delay: Duration,
    /// How long the one who writes statuses may be silent before another one does.
    pub lease_duration: Duration,
}

impl Reader<'_> {
    /// The choice and its settings; `None` only beside an error.
    pub(super) fn registry(&mut self) -> Option<RegistrySettings> {
        if self.demo_mode() {
            // A store's settings are not even looked at: demo mode never contacts one.
            return self.demo_file().map(RegistrySettings::Demo);
        }
        match self.choice()? {
            Choice::Redis => self.redis().map(RegistrySettings::Redis),
            Choice::Kubernetes => self.kubernetes().map(RegistrySettings::Kubernetes),
            Choice::Nothing => {
                // Who starts with an empty environment is told everything that is missing.
                drop(self.redis_url());
                None
            }
        }
    }

    fn demo_mode(&mut self) -> bool {
        match self.text(&DEMO_MODE) {
            None => false,
            Some((_, text)) if text.eq_ignore_ascii_case("true") => true,
            Some((_, text)) if text.eq_ignore_ascii_case("false") => false,
            Some((place, text)) => {
                self.refuse(place, "must be true or false", &text);
                // What else would be missing depends on what was meant.
                true
            }
        }
    }

    fn demo_file(&mut self) -> Option<PathBuf> {
        let file = self.text(&DEMO_FILE).map(|(_, path)| PathBuf::from(path));
        if file.is_none() {
            self.require(
                &DEMO_FILE,
                "a registry file (YAML, JSON or TOML), in demo mode",
            );
        }
        file
    }

    fn choice(&mut self) -> Option<Choice> {
        const MUST: &str = "must be redis or kubernetes (also k8s, crd)";
        let Some((place, text)) = self.text(&REGISTRY) else {
            let place = REGISTRY.variable();
            self.errors.push(format!(
                "{place}: {MUST}, not ''; or DEMO_MODE=true keeps the registry in memory"
            ));
            return Some(Choice::Nothing);
        };
        match text.to_ascii_lowercase().as_str() {
            "redis" => Some(Choice::Redis),
            "kubernetes" | "k8s" | "crd" => Some(Choice::Kubernetes),
            _ => {
                let shown = text.escape_debug();
                self.errors.push(format!("{place}: {MUST}, not '{shown}'"));
                None
            }
        }
    }

    fn redis(&mut self) -> Option<RedisSettings> {
        let url = self.redis_url();
        let url = self.sentinel_login(url);
        let root = self.root(url.as_ref().map(RedisUrl::topology));
        let second = Duration::from_secs(1);
        let reconcile_interval = self.duration_or(&RECONCILE_INTERVAL, RECONCILE_DEFAULT, second);
        let guard_delay = self.duration(&GUARD_DELAY, Duration::ZERO);
        let lease_duration = self.duration(&LEASE_DURATION, second);
        Some(RedisSettings {
            url: url?,
            root,
            reconcile_interval,
            guard_delay,
            lease_duration,
        })
    }

    fn kubernetes(&mut self) -> Option<KubernetesSettings> {
        let namespace = self.namespace();
        let kubeconfig = self.text(&KUBECONFIG).map(|(_, paths)| paths);
        let second = Duration::from_secs(1);
        let reconcile_interval =
            self.duration_or(&RECONCILE_INTERVAL, KUBERNETES_RECONCILE_DEFAULT, second);
        let guard_delay = self.duration(&GUARD_DELAY, Duration::ZERO);
        let lease_duration = self.duration(&LEASE_DURATION, second);
        Some(KubernetesSettings {
            namespace: namespace?,
            kubeconfig: kubeconfig
                .iter()
                .flat_map(|paths| paths.split(':'))
                .filter(|path| !path.is_empty())
                .map(PathBuf::from)
                .collect(),
            reconcile_interval,
            guard_delay,
            lease_duration,
        })
    }

    /// There is no default: somebody else's namespace is worse than none.
    fn namespace(&mut self) -> Option<String> {
        let Some((place, text)) = self.text(&NAMESPACE) else {
            let why = "one is required: the namespace that holds the BackendClusters";
            let variables = NAMESPACE.variables.join(" or ");
            self.errors.push(format!("{variables}: {why}"));
            return None;
        };
        let good = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-');
        let edge = |b: Option<u8>| b.is_some_and(|b| b != b'-');
        if text.len() > NAMESPACE_MAX
            || !text.bytes().all(good)
            || !(edge(text.bytes().next()) && edge(text.bytes().last()))
        {
            let must = format!(
                "must be a namespace: at most {NAMESPACE_MAX} of a-z, 0-9 and -, with no - at \
                 either end"
            );
            self.refuse(place, &must, &text);
        }
        Some(text)
    }

    /// The URL, else host and port, each from whichever of its names is set.
    fn redis_url(&mut self) -> Option<RedisUrl> {
        if let Some((place, text)) = self.text(&REDIS_URL) {
            let url = RedisUrl::parse(&text);
            // The value may hold a password: it is never repeated.
            return url
                .map_err(|must| self.errors.push(format!("{place}: {must}")))
                .ok();
        }
        let host = self.text(&REDIS_HOST);
        let port = self.text(&REDIS_PORT);
        match (host, port) {
            (None, None) => {
                self.errors.push(
                    "Redis validation failed: REDIS_URL environment variable is required; or \
                     MX_REDIS_HOST (REDIS_HOST) together with MX_REDIS_PORT (REDIS_PORT)"
                        .to_owned(),
                );
                None
            }
            (None, Some((place, _))) => {
                self.errors.push(format!(
                    "REDIS_URL, MX_REDIS_HOST or REDIS_HOST: one is required beside {place}"
                ));
                None
            }
            (Some((place, _)), None) => {
                self.errors.push(format!(
                    "REDIS_URL, MX_REDIS_PORT or REDIS_PORT: one is required beside {place}"
                ));
                None
            }
            (Some((host_place, host)), Some((port_place, port))) => {
                let number = port.parse::<u16>().ok().filter(|port| *port > 0);
                if number.is_none() {
                    self.refuse(port_place, "must be a port from 1 to 65535", &port);
                }
                RedisUrl::of(&host, number.unwrap_or(1))
                    .map_err(|must| self.errors.push(format!("{host_place}: {must}")))
                    .ok()
                    .filter(|_| number.is_some())
            }
        }
    }

    fn sentinel_login(&mut self, url: Option<RedisUrl>) -> Option<RedisUrl> {
        let user = self.text(&SENTINEL_USER);
        let password = self.secret(&SENTINEL_PASSWORD);
        let url = url?;
        let given = user.as_ref().map(|(place, _)| *place);
        let given = given.or(password.as_ref().map(|_| SENTINEL_PASSWORD.variable()));
        if let Some(place) = given
            && !matches!(url.topology(), Topology::Sentinel { .. })
        {
            let why = "is for Sentinels, but REDIS_URL names none: it must be redis+sentinel://…";
            self.errors.push(format!("{place}: {why}"));
        }
        let user = user.map(|(_, user)| user);
        Some(url.with_sentinel_login(user.as_deref(), password.as_ref()))
    }

    fn root(&mut self, topology: Option<&Topology>) -> String {
        let in_cluster = topology == Some(&Topology::Cluster);
        let Some((place, text)) = self.text(&REDIS_ROOT) else {
            let default = match in_cluster {
                true => CLUSTER_ROOT_DEFAULT,
                false => ROOT_DEFAULT,
            };
            return default.to_owned();
        };
        // What has a meaning in a SCAN pattern would make it match the keys of others.
        let good = |b: u8| matches!(b, b'!'..=b'~') && !b"*?[]\\^".contains(&b);
        if text.len() > ROOT_MAX || !text.bytes().all(good) || text.ends_with(':') {
            let must = format!(
                "must be at most {ROOT_MAX} printable characters without spaces, none of *?[]\\^, \
                 and must not end with a colon"
            );
            self.refuse(place, &must, &text);
        }
        if in_cluster && !has_hash_tag(&text) {
            let must = "must hold a hash tag such as {pointsman}, which keeps all keys on one node \
                        of the cluster";
            self.refuse(place, must, &text);
        }
        text
    }
}

/// Whether Redis would hash only a part of the key that lies within this root.
fn has_hash_tag(root: &str) -> bool {
    let tag = root
        .split_once('{')
        .and_then(|(_, rest)| rest.split_once('}'));
    tag.is_some_and(|(tag, _)| !tag.is_empty())
}

enum Choice {
    Redis,
    Kubernetes,
    Nothing,
}
