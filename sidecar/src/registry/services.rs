//! EndpointSlices → the backends of a Service.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointSlice};
use pointsman_filter::config::{BackendConfig, ConfigErrors, State, host_address};
use serde_json::{Map, Value};

use crate::model::errors::error;

/// The label that says whose endpoints a slice holds.
pub const SERVICE_LABEL: &str = "kubernetes.io/service-name";
/// What a backend weighs that says nothing itself: the schema's default.
const WEIGHT: u16 = 100;

/// Most entries of `backendsFrom`.
const REFS_MAX: usize = 16;
/// Longest name of a Service, bytes.
const SERVICE_NAME_MAX: usize = 253;

/// A Service whose endpoints are backends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceRef {
    /// Its name.
    pub name: String,
    /// Which of its ports; `None`: the only one.
    pub port: Option<Port>,
}

/// A port of a Service's endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Port {
    /// By name.
    Name(String),
    /// As the endpoints have it.
    Number(u16),
}

/// Every slice that was read.
#[derive(Debug, Clone, Default)]
pub struct Services {
    /// Whether they can be read.
    pub sight: Sight,
    /// By Service and name.
    slices: BTreeMap<String, Arc<BTreeMap<String, Slice>>>,
}

/// Whether the slices can be read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Sight {
    /// They are not read yet: a Service without endpoints cannot be told from one that has some.
    #[default]
    Unread,
    /// All were read, and are followed since.
    Clear,
    /// Why they cannot be read; what was read before serves.
    Blind(String),
}

/// A part of a Service's endpoints; all of them have the same ports.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Slice {
    ports: Vec<(String, u16)>,
    members: Vec<Member>,
}

/// An endpoint that may take requests.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Member {
    ip: IpAddr,
    /// The pod behind it.
    pod: Option<String>,
    state: State,
}

/// What became of the Services of one cluster.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Resolved {
    /// Their backends, each id once.
    pub backends: Vec<BackendConfig>,
    /// What could not be found.
    pub missing: Vec<String>,
}

impl Resolved {
    /// Of endpoints that are not read yet.
    pub fn unread() -> Self {
        Resolved {
            backends: Vec::new(),
            missing: vec!["EndpointSlices: not read yet".to_owned()],
        }
    }
}

impl Services {
    /// Takes over all slices.
    pub fn replace(&mut self, slices: Vec<EndpointSlice>) {
        *self = Services::default();
        for slice in slices {
            self.put(slice);
        }
        self.sight = Sight::Clear;
    }

    /// Takes over a slice; whether that is news.
    pub fn put(&mut self, slice: EndpointSlice) -> bool {
        let Some((service, name)) = place(&slice) else {
            return false;
        };
        if slice.metadata.deletion_timestamp.is_some() {
            // Held by a finalizer: another one says what it said, or nobody does.
            return self.remove(&slice);
        }
        let read = Slice::of(slice);
        let slices = self.slices.entry(service).or_default();
        let news = slices.get(&name) != Some(&read);
        if news {
            Arc::make_mut(slices).insert(name, read);
        }
        news
    }

    /// Forgets a slice; whether that is news.
    pub fn remove(&mut self, slice: &EndpointSlice) -> bool {
        let Some((service, name)) = place(slice) else {
            return false;
        };
        let Some(slices) = self.slices.get_mut(&service) else {
            return false;
        };
        let news = Arc::make_mut(slices).remove(&name).is_some();
        if slices.is_empty() {
            self.slices.remove(&service);
        }
        news
    }

    /// The backends of these Services; `None`: they are not read yet.
    pub fn resolve(&self, refs: &[ServiceRef]) -> Option<Resolved> {
        match &self.sight {
            Sight::Unread if !refs.is_empty() => None,
            Sight::Blind(why) if !refs.is_empty() => Some(Resolved {
                missing: vec![why.clone()],
                ..self.find(refs)
            }),
            _ => Some(self.find(refs)),
        }
    }

    /// A pod has one address and an address one pod. What is ready goes before what terminates, whatever
    /// slice it stands in; of what is left the lowest address does, so IPv4 before IPv6.
    fn find(&self, refs: &[ServiceRef]) -> Resolved {
        let mut resolved = Resolved::default();
        let mut ids = BTreeSet::new();
        for service in refs {
            let Some(slices) = self.slices.get(&service.name) else {
                let missing = format!("Service {} has no EndpointSlice", service.name);
                resolved.missing.push(missing);
                continue;
            };
            let mut portless = false;
            let mut found: Vec<(SocketAddr, &Member)> = Vec::new();
            for slice in slices.values() {
                let Some(port) = slice.port(service.port.as_ref()) else {
                    portless |= !slice.members.is_empty();
                    continue;
                };
                let addresses = slice.members.iter();
                found.extend(addresses.map(|it| (SocketAddr::new(it.ip, port), it)));
            }
            if portless {
                let missing = format!("Service {} has no such port", service.name);
                resolved.missing.push(missing);
            }
            for (address, member) in each_once(found) {
                let backend = member.backend(address, &service.name, &mut ids);
                resolved.backends.push(backend);
            }
        }
        resolved
    }
}

/// Of the endpoints of a Service one for each pod and for each address, sorted by address. An endpoint may
/// stand in two slices while it moves, and a new pod may have the address of one that terminates.
fn each_once(mut found: Vec<(SocketAddr, &Member)>) -> Vec<(SocketAddr, &Member)> {
    let leaves = |member: &Member| member.state != State::Normal;
    found.sort_by_key(|(at, it)| (leaves(it), *at, it.pod.is_none(), &it.pod));
    let (mut pods, mut addresses) = (BTreeSet::new(), BTreeSet::new());
    found.retain(|(address, member)| {
        let pod = member.pod.as_ref();
        let news = !addresses.contains(address) && pod.is_none_or(|pod| !pods.contains(pod));
        if news {
            addresses.insert(*address);
            pods.extend(pod);
        }
        news
    });
    found.sort_by_key(|(address, _)| *address);
    found
}

/// Reads `backendsFrom`.
pub fn read_refs(value: &Value, place: &str) -> Result<Vec<ServiceRef>, ConfigErrors> {
    let items = match value {
        Value::Null => return Ok(Vec::new()),
        Value::Array(items) if items.len() <= REFS_MAX => items,
        Value::Array(_) => return Err(error(place, format!("must have at most {REFS_MAX}"))),
        _ => return Err(error(place, "must be a list")),
    };
    let mut errors = Vec::new();
    let mut refs = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        match read_ref(item, &format!("{place}[{index}]")) {
            Ok(read) => refs.push(read),
            Err(wrong) => errors.extend(wrong.0),
        }
    }
    match errors.is_empty() {
        true => Ok(refs),
        false => Err(ConfigErrors(errors)),
    }
}

fn read_ref(item: &Value, place: &str) -> Result<ServiceRef, ConfigErrors> {
    let outer = fields(item, place, &["service"])?;
    let place = format!("{place}.service");
    let service = outer.get("service").unwrap_or(&Value::Null);
    if service.is_null() {
        return Err(error(&place, "is required"));
    }
    let service = fields(service, &place, &["name", "port"])?;
    let name = service.get("name").and_then(Value::as_str).unwrap_or("");
    if name.is_empty() || name.len() > SERVICE_NAME_MAX {
        let why = "is required: a Service of this namespace";
        return Err(error(&format!("{place}.name"), why));
    }
    let number = |port: &Value| port.as_u64().and_then(|it| u16::try_from(it).ok());
    let port = match service.get("port") {
        None | Some(Value::Null) => None,
        Some(Value::String(name)) if !name.is_empty() => Some(Port::Name(name.clone())),
        Some(port) => match number(port).filter(|port| *port > 0) {
            Some(port) => Some(Port::Number(port)),
            None => {
                let why = "must be a port's name or a number from 1 to 65535";
                return Err(error(&format!("{place}.port"), why));
            }
        },
    };
    Ok(ServiceRef {
        name: name.to_owned(),
        port,
    })
}

fn fields<'a>(
    value: &'a Value,
    place: &str,
    known: &[&str],
) -> Result<&'a Map<String, Value>, ConfigErrors> {
    let Value::Object(map) = value else {
        return Err(error(place, "must be an object"));
    };
    match map.keys().find(|name| !known.contains(&name.as_str())) {
        Some(name) => Err(error(&format!("{place}.{name}"), "is not a known field")),
        None => Ok(map),
    }
}

fn place(slice: &EndpointSlice) -> Option<(String, String)> {
    let labels = slice.metadata.labels.as_ref()?;
    let service = labels.get(SERVICE_LABEL)?.clone();
    Some((service, slice.metadata.name.clone()?))
}

impl Slice {
    fn of(slice: EndpointSlice) -> Self {
        let ports = slice.ports.into_iter().flatten();
        let ports = ports.filter(|port| port.protocol.as_deref().is_none_or(|it| it == "TCP"));
        Slice {
            ports: ports
                .filter_map(|port| {
                    let number = u16::try_from(port.port?).ok().filter(|it| *it > 0)?;
                    Some((port.name.unwrap_or_default(), number))
                })
                .collect(),
            members: slice.endpoints.iter().filter_map(Member::of).collect(),
        }
    }

    fn port(&self, wanted: Option<&Port>) -> Option<u16> {
        match wanted {
            None => match self.ports.as_slice() {
                [(_, only)] => Some(*only),
                _ => None,
            },
            Some(Port::Number(wanted)) => {
                let mut numbers = self.ports.iter().map(|(_, number)| *number);
                numbers.find(|number| number == wanted)
            }
            Some(Port::Name(wanted)) => {
                let named = self.ports.iter().find(|(name, _)| name == wanted);
                named.map(|(_, number)| *number)
            }
        }
    }
}

impl Member {
    /// `None`: it takes nothing, or its address is none (a host name).
    fn of(endpoint: &Endpoint) -> Option<Self> {
        let ip = host_address(endpoint.addresses.first()?.parse().ok()?).ok()?;
        let pod = endpoint.target_ref.as_ref();
        let pod = pod.filter(|it| it.kind.as_deref() == Some("Pod"));
        Some(Member {
            ip,
            pod: pod.and_then(|it| it.name.clone()),
            state: state(endpoint.conditions.as_ref())?,
        })
    }

    fn backend(
        &self,
        address: SocketAddr,
        service: &str,
        ids: &mut BTreeSet<String>,
    ) -> BackendConfig {
        let text = address.to_string();
        // The pod's name survives a change of the service; two services may count one pod.
        let named = self.pod.iter();
        let candidates = named.flat_map(|pod| [pod.clone(), format!("{service}/{pod}")]);
        let free = candidates.into_iter().find(|id| !ids.contains(id));
        let id_given = free.is_some();
        let id = free.unwrap_or(text);
        ids.insert(id.clone());
        BackendConfig {
            id,
            id_given,
            address,
            weight: WEIGHT,
            backup: false,
            sticky_id: None,
            state: self.state,
            max_in_flight: 0,
            rate_limit: None,
        }
    }
}

/// Ready: Normal. On its way out but still serving: Draining. Else nothing. Absent conditions mean
/// what Kubernetes says they mean: ready, and serving as ready says.
fn state(conditions: Option<&EndpointConditions>) -> Option<State> {
    let ready = conditions.and_then(|it| it.ready).unwrap_or(true);
    let serving = conditions.and_then(|it| it.serving).unwrap_or(ready);
    let terminating = conditions.and_then(|it| it.terminating).unwrap_or(false);
    match (terminating, ready, serving) {
        (false, true, _) => Some(State::Normal),
        (true, _, true) => Some(State::Draining),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
