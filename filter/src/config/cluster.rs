//! A cluster's document: what the registry keeps under one name.

use serde_json::{Map, Value};

use super::backend::BackendConfig;
use super::balancing::LoadBalancing;
use super::health::{HealthCheck, Tls};
use super::json_rpc::JsonRpc;
use super::limits::{Limits, RATE_LIMITS_MAX, RateLimit};
use super::passive::Passive;
use super::policy::{Refusal, Sticky, WHEN_ALL_UNHEALTHY, WhenAllUnhealthy, insert, name_of, part};
use super::reader::{ConfigErrors, Object, Path, Report, kind};
use super::retry::{Backoff, Retry};
use super::timeouts::Timeouts;
use crate::base::hash;
use crate::base::hash::KeyMap;

/// Longest name of a cluster, bytes.
pub const NAME_MAX: usize = 253;
/// Most backends in one cluster.
pub const BACKENDS_MAX: usize = 20_000;

/// A cluster as the registry describes it; parsed, so true to the schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterConfig {
    /// Also the name of the Envoy cluster.
    pub name: String,
    /// Policy and metric.
    pub load_balancing: LoadBalancing,
    /// Absent: no stickiness.
    pub sticky: Option<Sticky>,
    /// Absent: every backend counts as healthy.
    pub health_check: Option<HealthCheck>,
    /// Attempts and what is retried.
    pub retry: Retry,
    /// How long a failed backend is left alone.
    pub backoff: Backoff,
    /// What backends' answers hold against them.
    pub passive: Passive,
    /// Fail open or refuse.
    pub when_all_unhealthy: WhenAllUnhealthy,
    /// HTTP/2 upstream and for probes.
    pub http2: bool,
    /// Absent: plain.
    pub tls: Option<Tls>,
    /// How long Envoy waits for the backends.
    pub timeouts: Timeouts,
    /// What the cluster and each client are given at most.
    pub limits: Limits,
    /// That of every backend without one of its own; absent: none.
    pub rate_limit: Option<RateLimit>,
    /// Absent: no body is read.
    pub json_rpc: Option<JsonRpc>,
    /// Absent: the built-in answer.
    pub refusal: Option<Refusal>,
    /// In the registry's order.
    pub backends: Vec<BackendConfig>,
}

impl ClusterConfig {
    /// Parses one document, strictly. Errors carry the path below `clusters.<name>`.
    pub fn parse(document: &Value) -> Result<Self, ConfigErrors> {
        let report = Report::new(false);
        let place = place_of(document, None);
        let cluster = Self::read(document, &Path::Root(&place), &report);
        report.close(cluster)
    }

    /// The same document in its one canonical form: defaults left out, keys sorted.
    pub fn to_value(&self) -> Value {
        let mut map = self.for_filters();
        if let Some(health_check) = &self.health_check {
            insert(&mut map, "healthCheck", health_check.write());
        }
        Value::Object(map)
    }

    /// The lowest number of the schema that has all its fields.
    pub(super) fn schema(&self) -> u32 {
        let has_path = self.sticky.as_ref().is_some_and(Sticky::has_path);
        let has_timeouts = self.timeouts != Timeouts::default();
        let second = if has_path || has_timeouts { 2 } else { 1 };
        let fourth = if self.has_limits() { 4 } else { 1 };
        let passive = self.passive.schema(&self.retry);
        let bodies = if self.json_rpc.is_some() { 5 } else { 1 };
        second
            .max(fourth)
            .max(passive)
            .max(self.retry.schema())
            .max(self.backoff.schema())
            .max(bodies)
            .max(self.load_balancing.schema())
    }

    fn has_limits(&self) -> bool {
        let mut backends = self.backends.iter();
        self.limits != Limits::default()
            || self.rate_limit.is_some()
            || backends.any(|it| it.max_in_flight > 0 || it.rate_limit.is_some())
    }

    /// Most backends that it can have: each of a limited cluster has a bucket.
    pub fn backends_max(&self) -> usize {
        match self.rate_limit {
            Some(_) => RATE_LIMITS_MAX,
            None => BACKENDS_MAX,
        }
    }

    /// What filters need of it. Who probes is the sidecar, and what probes send along may be secret:
    /// every Envoy shows whoever can reach its admin interface what its filters were sent.
    pub(super) fn for_filters(&self) -> Map<String, Value> {
        let mut map = Map::new();
        insert(&mut map, "name", self.name.clone());
        if self.load_balancing != LoadBalancing::default() {
            insert(&mut map, "loadBalancing", self.load_balancing.write());
        }
        if let Some(sticky) = &self.sticky {
            insert(&mut map, "sticky", sticky.write());
        }
        if self.retry != Retry::default() {
            insert(&mut map, "retry", self.retry.write());
        }
        if self.backoff != Backoff::default() {
            insert(&mut map, "backoff", self.backoff.write());
        }
        if self.passive != Passive::default() {
            insert(&mut map, "passive", self.passive.write());
        }
        if self.when_all_unhealthy != WhenAllUnhealthy::default() {
            let name = name_of(WHEN_ALL_UNHEALTHY, self.when_all_unhealthy);
            insert(&mut map, "whenAllUnhealthy", name);
        }
        if self.http2 {
            insert(&mut map, "http2", true);
        }
        if let Some(tls) = &self.tls {
            insert(&mut map, "tls", tls.write());
        }
        if self.timeouts != Timeouts::default() {
            insert(&mut map, "timeouts", self.timeouts.write());
        }
        if self.limits != Limits::default() {
            insert(&mut map, "limits", self.limits.write());
        }
        if let Some(rate_limit) = self.rate_limit {
            insert(&mut map, "rateLimit", rate_limit.write());
        }
        if let Some(json_rpc) = &self.json_rpc {
            insert(&mut map, "jsonRpc", json_rpc.write());
        }
        if let Some(refusal) = &self.refusal {
            insert(&mut map, "refusal", refusal.write());
        }
        let backends: Vec<Value> = self.backends.iter().map(BackendConfig::write).collect();
        insert(&mut map, "backends", backends);
        map
    }

    pub(super) fn read(value: &Value, path: &Path<'_>, report: &Report) -> Option<Self> {
        let object = Object::of(value, path, report)?;
        let name = object.required_text("name", NAME_MAX);
        if name.is_some_and(|name| !is_cluster_name(name)) {
            let why = format!("must be 1 to {NAME_MAX} of letters, digits and . _ - | /");
            report.error(&object.at("name"), why);
        }
        let http2 = object.flag("http2", false);
        let when_all_unhealthy = object.choice(
            "whenAllUnhealthy",
            WhenAllUnhealthy::default(),
            WHEN_ALL_UNHEALTHY,
        );
        let cluster = ClusterConfig {
            name: name.unwrap_or("").to_owned(),
            load_balancing: part(&object, "loadBalancing", report, LoadBalancing::read)
                .unwrap_or_default(),
            sticky: part(&object, "sticky", report, |value, path, report| {
                Sticky::read(value, name.unwrap_or(""), path, report)
            }),
            health_check: part(&object, "healthCheck", report, HealthCheck::read),
            retry: part(&object, "retry", report, Retry::read).unwrap_or_default(),
            backoff: part(&object, "backoff", report, Backoff::read).unwrap_or_default(),
            passive: part(&object, "passive", report, Passive::read).unwrap_or_default(),
            when_all_unhealthy,
            http2,
            tls: part(&object, "tls", report, Tls::read),
            timeouts: part(&object, "timeouts", report, Timeouts::read).unwrap_or_default(),
            limits: part(&object, "limits", report, Limits::read).unwrap_or_default(),
            rate_limit: part(&object, "rateLimit", report, RateLimit::read),
            json_rpc: part(&object, "jsonRpc", report, JsonRpc::read),
            refusal: part(&object, "refusal", report, Refusal::read),
            backends: read_backends(&object, report),
        };
        cluster.check_rate_limits(&object, report);
        name.map(|_| cluster)
    }

    fn check_rate_limits(&self, object: &Object<'_>, report: &Report) {
        let own = self.backends.iter().filter(|it| it.rate_limit.is_some());
        let limited = match self.rate_limit {
            Some(_) => self.backends.len(),
            None => own.count(),
        };
        if limited > RATE_LIMITS_MAX {
            let why = format!("must be on at most {RATE_LIMITS_MAX} backends, not {limited}");
            report.error(&object.at("rateLimit"), why);
        }
    }
}

fn read_backends(object: &Object<'_>, report: &Report) -> Vec<BackendConfig> {
    let place = object.at("backends");
    let items = object.list("backends", BACKENDS_MAX);
    let mut backends: Vec<BackendConfig> = Vec::with_capacity(items.len());
    let mut ids: KeyMap<u32> = KeyMap::default();
    for (index, item) in items.iter().enumerate() {
        let path = Path::Item(&place, index);
        let Some(backend) = BackendConfig::read(item, &path, report) else {
            continue;
        };
        let count = u32::try_from(backends.len()).unwrap_or(u32::MAX);
        let alike = ids.insert(hash::text_key(backend.id.as_bytes()), count);
        // Alike by hash, and almost certainly the same.
        if alike.is_some() && backends.iter().any(|above| above.id == backend.id) {
            let id = kind(&Value::String(backend.id.clone()));
            report.error(
                &Path::Field(&path, "id"),
                format!("must be unique, but {id} stands above"),
            );
        }
        backends.push(backend);
    }
    backends
}

/// Where errors of a cluster are placed: by its name, or by its position while it has none.
pub(super) fn place_of(document: &Value, index: Option<usize>) -> String {
    let name = document.get("name").and_then(Value::as_str);
    match (name.filter(|name| is_cluster_name(name)), index) {
        (Some(name), _) => format!("clusters.{name}"),
        (None, Some(index)) => format!("clusters[{index}]"),
        (None, None) => "cluster".to_owned(),
    }
}

/// Whether a text can name a cluster.
pub fn is_cluster_name(text: &str) -> bool {
    let ok = |b: u8| b.is_ascii_alphanumeric() || b"._-|/".contains(&b);
    (1..=NAME_MAX).contains(&text.len()) && text.bytes().all(ok)
}
