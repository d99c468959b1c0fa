//! What the sidecar probes, how, and over which protocol Envoy and the prober speak upstream.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::duration;
use super::policy::{insert, is_token};
use super::reader::{Object, Path, Report, kind};

const PATH_MAX: usize = 2048;
const HOST_MAX: usize = 255;
const STATUSES_MAX: usize = 16;
const HEADERS_MAX: usize = 32;
/// Names and values of all probe headers together, 4 bytes more for each.
const HEADER_BYTES_MAX: usize = 8192;
const BODY_MAX: usize = 4096;
const METHODS: &[(&str, &str)] = &[
    ("GET", "GET"),
    ("HEAD", "HEAD"),
    ("OPTIONS", "OPTIONS"),
    ("POST", "POST"),
    ("PUT", "PUT"),
];

/// What a probe does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// Sends a request and judges the status.
    Http(HttpProbe),
    /// Opens a connection and closes it.
    Tcp,
}

/// The request of an HTTP probe and the statuses that pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpProbe {
    /// Starts with `/`.
    pub path: String,
    /// GET, HEAD, OPTIONS, POST or PUT.
    pub method: String,
    /// The `Host` header; empty: the backend's own `ip:port`.
    pub host: String,
    /// Inclusive ranges of statuses that pass.
    pub expected_statuses: Vec<(u16, u16)>,
    /// Further headers, in order.
    pub headers: Vec<(String, String)>,
    /// The request's body; empty: none.
    pub body: String,
}

/// A cluster's `healthCheck` (HC-1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// HTTP or TCP.
    pub probe: Probe,
    /// The port that is probed; 0: the backend's own.
    pub port: u16,
    /// From one probe's start to the next one's.
    pub interval: Duration,
    /// A probe that takes longer has failed.
    pub timeout: Duration,
    /// Passes in a row that make an unhealthy backend healthy.
    pub healthy_threshold: u32,
    /// Failures in a row that make a healthy backend unhealthy.
    pub unhealthy_threshold: u32,
}

impl HealthCheck {
    pub(super) fn read(value: &Value, path: &Path<'_>, report: &Report) -> Option<Self> {
        let object = Object::of(value, path, report)?;
        let probe = match (object.get("http"), object.get("tcp")) {
            (Some(http), None) => {
                HttpProbe::read(http, &object.at("http"), report).map(Probe::Http)
            }
            (None, Some(tcp)) => Object::of(tcp, &object.at("tcp"), report).map(|_| Probe::Tcp),
            _ => {
                report.unknown(path, "must have exactly one of http and tcp");
                None
            }
        };
        let (min, hour) = (Duration::from_millis(10), Duration::from_secs(3600));
        let port = object.number("port", 0, 0, u32::from(u16::MAX));
        Some(HealthCheck {
            port: u16::try_from(port).unwrap_or(0),
            interval: object.duration("interval", Duration::from_secs(10), (min, hour)),
            timeout: object.duration("timeout", Duration::from_secs(5), (min, hour)),
            healthy_threshold: object.number("healthyThreshold", 3, 1, 100),
            unhealthy_threshold: object.number("unhealthyThreshold", 3, 1, 100),
            // Last: a field that nobody asks for is not known.
            probe: probe?,
        })
    }

    pub(super) fn write(&self) -> Value {
        let mut map = Map::new();
        match &self.probe {
            Probe::Http(http) => insert(&mut map, "http", http.write()),
            Probe::Tcp => insert(&mut map, "tcp", json!({})),
        }
        if self.port != 0 {
            insert(&mut map, "port", self.port);
        }
        insert(&mut map, "interval", duration::print(self.interval));
        insert(&mut map, "timeout", duration::print(self.timeout));
        insert(&mut map, "healthyThreshold", self.healthy_threshold);
        insert(&mut map, "unhealthyThreshold", self.unhealthy_threshold);
        Value::Object(map)
    }
}

impl HttpProbe {
    fn read(value: &Value, path: &Path<'_>, report: &Report) -> Option<Self> {
        let object = Object::of(value, path, report)?;
        let target = object.text("path", PATH_MAX).unwrap_or("/healthz");
        if !target.starts_with('/') || target.bytes().any(|b| !matches!(b, b'!'..=b'~')) {
            report.error(
                &object.at("path"),
                "must start with / and be printable ASCII, no spaces",
            );
        }
        let host = object.text("host", HOST_MAX).unwrap_or("");
        if host.bytes().any(|b| !matches!(b, b'!'..=b'~')) {
            report.error(&object.at("host"), "must be printable ASCII without spaces");
        }
        Some(HttpProbe {
            path: target.to_owned(),
            method: object.choice("method", "GET", METHODS).to_owned(),
            host: host.to_owned(),
            expected_statuses: read_statuses(&object, report),
            headers: read_headers(&object, report),
            body: object.text("body", BODY_MAX).unwrap_or("").to_owned(),
        })
    }

    fn write(&self) -> Value {
        let statuses: Vec<String> = self
            .expected_statuses
            .iter()
            .map(|(low, high)| format!("{low}-{high}"))
            .collect();
        let mut map = Map::new();
        insert(&mut map, "path", self.path.clone());
        insert(&mut map, "method", self.method.clone());
        insert(&mut map, "expectedStatuses", statuses);
        if !self.host.is_empty() {
            insert(&mut map, "host", self.host.clone());
        }
        if !self.headers.is_empty() {
            let headers: Vec<Value> = self
                .headers
                .iter()
                .map(|(n, v)| json!({"name": n, "value": v}))
                .collect();
            insert(&mut map, "headers", headers);
        }
        if !self.body.is_empty() {
            insert(&mut map, "body", self.body.clone());
        }
        Value::Object(map)
    }

    /// Whether a status passes (HC-5).
    pub fn expects(&self, status: u16) -> bool {
        self.expected_statuses
            .iter()
            .any(|(low, high)| (*low..=*high).contains(&status))
    }
}

fn read_statuses(object: &Object<'_>, report: &Report) -> Vec<(u16, u16)> {
    let place = object.at("expectedStatuses");
    let items = object.list("expectedStatuses", STATUSES_MAX);
    let mut ranges = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let range = match item {
            Value::String(text) => {
                let (low, high) = text.split_once('-').unwrap_or((text, text));
                low.parse().ok().zip(high.parse().ok())
            }
            other => other
                .as_u64()
                .and_then(|n| u16::try_from(n).ok())
                .map(|n| (n, n)),
        };
        match range.filter(|(low, high)| *low >= 100 && low <= high && *high <= 599) {
            Some(range) => ranges.push(range),
            None => {
                let why = "must be a status or a range such as \"200-299\", from 100 to 599";
                let why = format!("{why}, not {}", kind(item));
                report.unknown(&Path::Item(&place, index), why);
            }
        }
    }
    if ranges.is_empty() {
        ranges.push((200, 299));
    }
    ranges
}

fn read_headers(object: &Object<'_>, report: &Report) -> Vec<(String, String)> {
    const REFUSED: &[&str] = &[
        "host",
        "connection",
        "content-length",
        "transfer-encoding",
        "upgrade",
        "te",
        "trailer",
    ];
    let place = object.at("headers");
    let mut headers = Vec::new();
    let mut bytes: usize = 0;
    for (index, item) in object.list("headers", HEADERS_MAX).iter().enumerate() {
        let path = Path::Item(&place, index);
        let Some(header) = Object::of(item, &path, report) else {
            continue;
        };
        let name = header
            .required_text("name", 256)
            .unwrap_or("x")
            .to_ascii_lowercase();
        let value = header.text("value", HEADER_BYTES_MAX).unwrap_or("");
        if !is_token(&name) || REFUSED.contains(&name.as_str()) {
            report.error(
                &header.at("name"),
                "must be a header's name, and not one HTTP itself sets",
            );
        }
        if value.bytes().any(|b| !matches!(b, b' '..=b'~' | b'\t')) {
            report.error(&header.at("value"), "must be printable ASCII");
        }
        bytes = bytes
            .saturating_add(name.len())
            .saturating_add(value.len())
            .saturating_add(4);
        headers.push((name, value.to_owned()));
    }
    if bytes > HEADER_BYTES_MAX {
        report.error(
            &place,
            format!("must be at most {HEADER_BYTES_MAX} bytes together"),
        );
    }
    headers
}

/// A cluster's `tls`: how Envoy and the prober speak to its backends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The server name that is asked for and must be certified; empty: none.
    pub sni: String,
    /// The authorities that are trusted, a PEM file as Envoy and the sidecar see it; empty: the
    /// certificate is not checked.
    pub ca_file: String,
}

impl Tls {
    pub(super) fn read(value: &Value, path: &Path<'_>, report: &Report) -> Option<Self> {
        let object = Object::of(value, path, report)?;
        let sni = object.text("sni", HOST_MAX).unwrap_or("");
        if sni
            .bytes()
            .any(|b| !(b.is_ascii_alphanumeric() || b == b'-' || b == b'.'))
        {
            report.error(&object.at("sni"), "must be a host name");
        }
        let ca_file = object.text("caFile", 1024).unwrap_or("");
        Some(Tls {
            sni: sni.to_owned(),
            ca_file: ca_file.to_owned(),
        })
    }

    pub(super) fn write(&self) -> Value {
        json!({"sni": self.sni, "caFile": self.ca_file})
    }
}
