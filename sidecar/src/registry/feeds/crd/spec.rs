//! What a user writes: the registry's document, field by field.

use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A cluster of backends, as the registry keeps it; every default is that of the registry.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug)]
#[kube(
    group = "pointsman.dev",
    version = "v1alpha1",
    kind = "BackendCluster",
    shortname = "bcl",
    category = "pointsman",
    namespaced,
    doc = "A cluster of backends that Envoy routes to by pointsman.wasm",
    status = "super::status::BackendClusterStatus",
    printcolumn = r#"{"name": "Accepted", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Accepted\")].status"}"#,
    printcolumn = r#"{"name": "Programmed", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Programmed\")].status"}"#,
    printcolumn = r#"{"name": "Backends", "type": "integer", "jsonPath": ".status.backends.total"}"#,
    printcolumn = r#"{"name": "Healthy", "type": "integer", "jsonPath": ".status.backends.healthy"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.name) || self.name != 'pointsman_sidecar'")
    .message("name must be another: this one is the way to the sidecar"))]
pub struct BackendClusterSpec {
    /// The Envoy cluster's name; absent: the object's.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[A-Za-z0-9._|/-]+$"))]
    pub name: Option<String>,
    /// Policy and metric.
    pub load_balancing: Option<LoadBalancing>,
    /// The cookie that pins a client to a backend; absent: none.
    pub sticky: Option<Sticky>,
    /// What the sidecar probes; absent: every backend counts as healthy.
    pub health_check: Option<HealthCheck>,
    /// Attempts and what is retried.
    pub retry: Option<Retry>,
    /// How long a backend that failed is left alone.
    pub backoff: Option<Backoff>,
    /// What happens when nothing is left for reasons of health; default FailOpen.
    #[serde(default)]
    #[schemars(schema_with = "when_all_unhealthy")]
    pub when_all_unhealthy: Option<String>,
    /// HTTP/2 to the backends and for probes; default false.
    pub http2: Option<bool>,
    /// TLS to the backends; absent: plain.
    pub tls: Option<Tls>,
    /// The 503's own words; absent: a JSON body.
    pub refusal: Option<Refusal>,
    /// Where requests go.
    #[schemars(length(max = 20_000))]
    pub backends: Option<Vec<Backend>>,
    /// Services whose endpoints are backends too.
    #[schemars(length(max = 16))]
    pub backends_from: Option<Vec<BackendsFrom>>,
}

/// How requests are spread.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug)]
pub struct LoadBalancing {
    /// Default PowerOfTwo.
    #[serde(default)]
    #[schemars(schema_with = "policy")]
    pub policy: Option<String>,
    /// What load means; default Requests.
    #[serde(default)]
    #[schemars(schema_with = "metric")]
    pub metric: Option<String>,
}

/// The cookie that pins a client to a backend.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "!has(self.sameSite) || self.sameSite != 'None' || (has(self.secure) && self.secure)"
).message("sameSite must not be None unless secure is true"))]
pub struct Sticky {
    /// Its name; default POINTSMAN- and six digits of a hash of the cluster's name.
    #[schemars(
        length(min = 1, max = 64),
        regex(pattern = r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")
    )]
    pub cookie: Option<String>,
    /// Hidden from scripts; default true.
    pub http_only: Option<bool>,
    /// Sent over TLS alone; default false.
    pub secure: Option<bool>,
    /// Sent across sites or not; default Lax.
    #[serde(default)]
    #[schemars(schema_with = "same_site")]
    pub same_site: Option<String>,
}

/// What the sidecar probes, and how.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.http) != has(self.tcp)")
    .message("must have exactly one of http and tcp"))]
#[x_kube(validation = Rule::new("!has(self.interval) || (duration(self.interval) >= \
    duration('10ms') && duration(self.interval) <= duration('1h'))")
    .message("interval must be 10ms to 1h"))]
#[x_kube(validation = Rule::new("!has(self.timeout) || (duration(self.timeout) >= \
    duration('10ms') && duration(self.timeout) <= duration('1h'))")
    .message("timeout must be 10ms to 1h"))]
pub struct HealthCheck {
    /// Sends a request and judges the status.
    pub http: Option<HttpProbe>,
    /// Opens a connection and closes it.
    pub tcp: Option<TcpProbe>,
    /// The port that is probed; 0, the default: the backend's own.
    #[schemars(range(min = 0, max = 65_535))]
    pub port: Option<i32>,
    /// From one probe's start to the next one's; default 10s.
    #[serde(default)]
    #[schemars(schema_with = "duration")]
    pub interval: Option<String>,
    /// A probe that takes longer has failed; default 5s.
    #[serde(default)]
    #[schemars(schema_with = "duration")]
    pub timeout: Option<String>,
    /// Passes in a row that make a backend healthy; default 3.
    #[schemars(range(min = 1, max = 100))]
    pub healthy_threshold: Option<i32>,
    /// Failures in a row that make a backend unhealthy; default 3.
    #[schemars(range(min = 1, max = 100))]
    pub unhealthy_threshold: Option<i32>,
}

/// The request of an HTTP probe.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug)]
#[serde(rename_all = "camelCase")]
pub struct HttpProbe {
    /// Default /healthz.
    #[schemars(length(max = 2048), regex(pattern = "^/[!-~]*$"))]
    pub path: Option<String>,
    /// Default GET.
    #[serde(default)]
    #[schemars(schema_with = "method")]
    pub method: Option<String>,
    /// The Host header; absent: the backend's own ip:port.
    #[schemars(length(max = 255), regex(pattern = "^[!-~]*$"))]
    pub host: Option<String>,
    /// Statuses and ranges of them that pass; default 200-299.
    #[serde(default)]
    #[schemars(schema_with = "statuses")]
    pub expected_statuses: Option<Vec<Value>>,
    /// Further headers.
    #[schemars(length(max = 32))]
    pub headers: Option<Vec<ProbeHeader>>,
    /// The request's body; absent: none.
    #[schemars(length(max = 4096))]
    pub body: Option<String>,
}

/// One header of a probe.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug)]
#[x_kube(validation = Rule::new("!(self.name.lowerAscii() in ['host', 'connection', \
    'content-length', 'transfer-encoding', 'upgrade', 'te', 'trailer'])")
    .message("name must not be one that HTTP itself sets"))]
pub struct ProbeHeader {
    /// Its name.
    #[schemars(
        length(min = 1, max = 256),
        regex(pattern = r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")
    )]
    pub name: String,
    /// Its value; default empty.
    #[schemars(length(max = 8192), regex(pattern = r"^[ -~\t]*$"))]
    pub value: Option<String>,
}

/// A probe that only connects.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug)]
pub struct TcpProbe {}

/// Attempts and what is retried.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.perTryTimeout) || duration(self.perTryTimeout) <= \
    duration('24h')").message("perTryTimeout must be at most 24h"))]
#[x_kube(validation = Rule::new("!has(self.perTryTimeout) || duration(self.perTryTimeout) == \
    duration('0s') || (has(self.on) && self.on.exists(it, it == 'Reset' || it == 'GatewayError'))")
    .message("perTryTimeout needs Reset or GatewayError in on: Envoy retries it under no other"))]
pub struct Retry {
    /// Tries per request, the first included; default 3.
    #[schemars(range(min = 1, max = 10))]
    pub attempts: Option<i32>,
    /// What is retried; default ConnectFailure, RefusedStream, ResetBeforeRequest.
    #[serde(default)]
    #[schemars(schema_with = "retry_on")]
    pub on: Option<Vec<Value>>,
    /// Longest time of one try; default none.
    #[serde(default)]
    #[schemars(schema_with = "duration")]
    pub per_try_timeout: Option<String>,
}

/// How long a backend that failed is left alone: base × (1 … 2ⁿ − 1), at most max.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.base) || (duration(self.base) >= duration('10ms') && \
    duration(self.base) <= duration('1h'))").message("base must be 10ms to 1h"))]
#[x_kube(validation = Rule::new("!has(self.max) || (duration(self.max) >= duration('10ms') && \
    duration(self.max) <= duration('24h'))").message("max must be 10ms to 24h"))]
#[x_kube(validation = Rule::new("!has(self.max) || duration(self.max) >= \
    duration(has(self.base) ? self.base : '1s')").message("max must not be shorter than base"))]
pub struct Backoff {
    /// Default 1s.
    #[serde(default)]
    #[schemars(schema_with = "duration")]
    pub base: Option<String>,
    /// Default 63s.
    #[serde(default)]
    #[schemars(schema_with = "duration")]
    pub max: Option<String>,
    /// Failures after which waits grow no more; default 6.
    #[schemars(range(min = 1, max = 16))]
    pub max_tries: Option<i32>,
}

/// How Envoy and the prober speak TLS to the backends.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// The server name that is asked for and must be certified; absent: none.
    #[schemars(length(max = 255), regex(pattern = "^[A-Za-z0-9.-]*$"))]
    pub sni: Option<String>,
    /// The trusted authorities, a PEM file as Envoy and the sidecar see it; absent: the certificate
    /// is not checked.
    #[schemars(length(max = 1024))]
    pub ca_file: Option<String>,
}

/// The 503's own words.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Refusal {
    /// Its body.
    #[schemars(length(max = 4096))]
    pub body: String,
    /// Its content type; default text/plain.
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[ -~]*$"))]
    pub content_type: Option<String>,
}

/// A backend.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Backend {
    /// Unique in the cluster; absent: the address.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[^\x00-\x1f\x7f]+$"))]
    pub id: Option<String>,
    /// ip:port or [ipv6]:port.
    #[schemars(schema_with = "address")]
    pub address: String,
    /// Its share of the traffic; default 100.
    #[schemars(range(min = 0, max = 65_535))]
    pub weight: Option<i32>,
    /// Serves only when no primary can; default false.
    pub backup: Option<bool>,
    /// What a sticky cookie says for it; absent: the id.
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[!#-+.-:<-\[\]-~-]+$"))]
    pub sticky_id: Option<String>,
    /// Default Normal.
    #[serde(default)]
    #[schemars(schema_with = "state")]
    pub state: Option<String>,
}

/// Backends that somebody else counts.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug)]
pub struct BackendsFrom {
    /// A Service of the same namespace.
    pub service: ServiceRef,
}

/// A Service's endpoints, from its EndpointSlices.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug)]
pub struct ServiceRef {
    /// Its name.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = "^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")
    )]
    pub name: String,
    /// The name of its port, or the number of the pods' port; absent: its only one.
    #[serde(default)]
    #[schemars(schema_with = "service_port")]
    pub port: Option<Value>,
}

/// A field that holds one of these words.
macro_rules! choice {
    ($($name:ident: $($word:literal)|+;)+) => {
        $(fn $name(_: &mut SchemaGenerator) -> Schema {
            json_schema!({"type": "string", "enum": [$($word),+]})
        })+
    };
}

choice! {
    policy: "RoundRobin" | "Random" | "LeastLoaded" | "PowerOfTwo";
    metric: "Requests" | "Connections" | "ConnectionTime" | "Latency";
    same_site: "Strict" | "Lax" | "None";
    when_all_unhealthy: "FailOpen" | "Refuse";
    method: "GET" | "HEAD" | "OPTIONS" | "POST" | "PUT";
    state: "Normal" | "Draining" | "Cordoned";
}

fn duration(_: &mut SchemaGenerator) -> Schema {
    let pattern = r"^[0-9]{1,15}(\.[0-9]{1,3})?(ms|s|m|h)$";
    json_schema!({"type": "string", "maxLength": 24, "pattern": pattern})
}

fn address(_: &mut SchemaGenerator) -> Schema {
    let octet = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";
    let port =
        "([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])";
    let pattern = format!(r"^({octet}(\.{octet}){{3}}|\[[0-9a-fA-F:.]+\]):{port}$");
    json_schema!({"type": "string", "maxLength": 64, "pattern": pattern})
}

fn statuses(_: &mut SchemaGenerator) -> Schema {
    let pattern = "^[1-5][0-9]{2}(-[1-5][0-9]{2})?$";
    let rule = "self.all(it, type(it) == int || !it.contains('-') || it.substring(0, 3) <= \
                it.substring(4))";
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "items": {
            "x-kubernetes-int-or-string": true,
            "minimum": 100, "maximum": 599, "maxLength": 7, "pattern": pattern,
        },
        "x-kubernetes-validations": [
            {"rule": rule, "message": "a range must not end before it begins"},
        ],
    })
}

fn retry_on(_: &mut SchemaGenerator) -> Schema {
    let pattern =
        "^(ConnectFailure|RefusedStream|ResetBeforeRequest|Reset|GatewayError|ServerError)$";
    json_schema!({
        "type": "array",
        "maxItems": 32,
        "items": {
            "x-kubernetes-int-or-string": true,
            "minimum": 400, "maximum": 599, "maxLength": 18, "pattern": pattern,
        },
    })
}

fn service_port(_: &mut SchemaGenerator) -> Schema {
    let pattern = "^[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?$";
    json_schema!({
        "x-kubernetes-int-or-string": true,
        "minimum": 1, "maximum": 65_535, "maxLength": 15, "pattern": pattern,
    })
}
