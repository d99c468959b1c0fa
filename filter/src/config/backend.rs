//! One backend's record.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use serde_json::{Map, Value};

use super::limits::{COUNT_MAX, RateLimit};
use super::policy::{insert, is_cookie_value};
use super::reader::{Object, Path, Report, kind};
use crate::base::hash::{self, BackendKey};

/// Longest id of a backend, bytes.
pub const ID_MAX: usize = 253;
/// Longest sticky id, bytes.
pub const STICKY_ID_MAX: usize = 128;

const WEIGHT_DEFAULT: u32 = 100;

/// What the registry wants of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum State {
    /// Takes requests.
    #[default]
    Normal,
    /// Takes no new request; running ones finish.
    Draining,
    /// Taken out by an operator: treated like [`State::Draining`], and no automatism undoes it.
    Cordoned,
}

impl State {
    const CHOICES: &'static [(&'static str, State)] = &[
        ("Normal", State::Normal),
        ("Draining", State::Draining),
        ("Cordoned", State::Cordoned),
    ];

    /// Its name in the registry.
    pub fn name(self) -> &'static str {
        match self {
            State::Normal => "Normal",
            State::Draining => "Draining",
            State::Cordoned => "Cordoned",
        }
    }
}

/// A backend as the registry describes it; parsed, so true to the schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendConfig {
    /// Unique in its cluster; the address where the record gave none.
    pub id: String,
    /// Whether the record gave the id itself.
    pub id_given: bool,
    /// Where it listens, in the one spelling that Envoy uses too.
    pub address: SocketAddr,
    /// Its share of the traffic, 0 to 65535.
    pub weight: u16,
    /// Serves only when no primary can.
    pub backup: bool,
    /// What a sticky cookie says for it; absent: see [`BackendConfig::sticky_value`].
    pub sticky_id: Option<String>,
    /// Normal, draining or cordoned.
    pub state: State,
    /// Requests at a time, on all workers of an Envoy; 0: any number.
    pub max_in_flight: u32,
    /// Its own, in place of the cluster's.
    pub rate_limit: Option<RateLimit>,
}

impl BackendConfig {
    /// The hash of its identity; see [`hash::backend_key`].
    pub fn key(&self) -> BackendKey {
        hash::backend_key(&self.id, &self.address.to_string())
    }

    /// What a sticky cookie says for it: the sticky id, else the id, but never an address: where
    /// the id was defaulted, 8 hex digits of its hash. An id with characters a cookie cannot carry
    /// is hashed as well.
    pub fn sticky_value(&self) -> String {
        match &self.sticky_id {
            Some(sticky_id) => sticky_id.clone(),
            None if self.id_given && is_cookie_value(&self.id) => self.id.clone(),
            None => hash::hex(hash::text_key(self.id.as_bytes())).split_off(8),
        }
    }

    pub(super) fn read(value: &Value, path: &Path<'_>, report: &Report) -> Option<Self> {
        let object = Object::of(value, path, report)?;
        let address = read_address(&object, report);
        let id = object.text("id", ID_MAX);
        if let Some(id) = id
            && (id.is_empty() || id.bytes().any(|b| b.is_ascii_control()))
        {
            report.error(
                &object.at("id"),
                "must be at least one character, none of control",
            );
        }
        let sticky_id = object.text("stickyId", STICKY_ID_MAX);
        if sticky_id.is_some_and(|text| !is_cookie_value(text)) {
            let why = "must be made of characters a cookie can carry: no space, comma, semicolon, \
                       quote or backslash";
            report.error(&object.at("stickyId"), why);
        }
        let weight = object.number("weight", WEIGHT_DEFAULT, 0, u32::from(u16::MAX));
        let backup = object.flag("backup", false);
        let state = object.choice("state", State::Normal, State::CHOICES);
        let max_in_flight = object.number("maxInFlight", 0, 0, COUNT_MAX);
        let rate_limit = object
            .get("rateLimit")
            .and_then(|value| RateLimit::read(value, &object.at("rateLimit"), report));
        let address = address?;
        Some(BackendConfig {
            id: id.map_or_else(|| address.to_string(), str::to_owned),
            id_given: id.is_some(),
            address,
            weight: u16::try_from(weight).unwrap_or(u16::MAX),
            backup,
            sticky_id: sticky_id.map(str::to_owned),
            state,
            max_in_flight,
            rate_limit,
        })
    }

    pub(super) fn write(&self) -> Value {
        let mut map = Map::new();
        if self.id_given {
            map.insert("id".to_owned(), self.id.clone().into());
        }
        map.insert("address".to_owned(), self.address.to_string().into());
        if u32::from(self.weight) != WEIGHT_DEFAULT {
            map.insert("weight".to_owned(), self.weight.into());
        }
        if self.backup {
            map.insert("backup".to_owned(), true.into());
        }
        if let Some(sticky_id) = &self.sticky_id {
            map.insert("stickyId".to_owned(), sticky_id.clone().into());
        }
        if self.state != State::Normal {
            map.insert("state".to_owned(), self.state.name().into());
        }
        if self.max_in_flight > 0 {
            insert(&mut map, "maxInFlight", self.max_in_flight);
        }
        if let Some(rate_limit) = self.rate_limit {
            insert(&mut map, "rateLimit", rate_limit.write());
        }
        Value::Object(map)
    }
}

fn read_address(object: &Object<'_>, report: &Report) -> Option<SocketAddr> {
    let text = object.required_text("address", ID_MAX)?;
    let refused = |report: &Report, why: &str| {
        let shown = kind(&Value::String(text.to_owned()));
        report.error(&object.at("address"), format!("{why}, not {shown}"));
        None
    };
    let Ok(address) = text.parse::<SocketAddr>() else {
        let why = "must be ip:port or [ipv6]:port (host names and URLs are not supported yet)";
        return refused(report, why);
    };
    if address.port() == 0 {
        return refused(report, "must have a port from 1 to 65535");
    }
    if let SocketAddr::V6(v6) = address
        && (v6.scope_id() != 0 || v6.flowinfo() != 0)
    {
        return refused(report, "must not have a zone");
    }
    match host_address(address.ip()) {
        Ok(ip) => Some(SocketAddr::new(ip, address.port())),
        Err(why) => refused(report, why),
    }
}

/// A host's address as Envoy has it: IPv4 in the clothes of IPv6 (`::ffff:10.0.0.1`) is IPv4. What
/// names no one host is refused, with the reason, and so is the one kind that Envoy, which asks the
/// C library, spells in another way than this crate: requests would never find it.
pub fn host_address(ip: IpAddr) -> Result<IpAddr, &'static str> {
    let ip = ip.to_canonical();
    if ip.is_unspecified() || ip.is_multicast() {
        return Err("must be an address of one host");
    }
    match ip {
        IpAddr::V6(v6) if is_ipv4_compatible(v6) => {
            Err("must not be of the kind ::10.0.0.1, which no host has any more (RFC 4291)")
        }
        ip => Ok(ip),
    }
}

/// Whether the C library writes its last half as IPv4.
fn is_ipv4_compatible(ip: Ipv6Addr) -> bool {
    matches!(ip.segments(), [0, 0, 0, 0, 0, 0, high, _] if high != 0)
}
