//! A shipped bootstrap, with the few places changed that a test must change.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result, bail};
use pointsman_filter::config::FilterConfig;
use serde_json::{Value, json};

use crate::artefacts;

/// Where the shipped files expect the module.
const MODULE: &str = "/etc/envoy/pointsman.wasm";
/// The filter's name in the shipped files.
const FILTER: &str = "pointsman";

/// A bootstrap under change; give it to [`super::Envoy::start`].
#[derive(Debug, Clone)]
pub struct Bootstrap {
    root: Value,
    concurrency: u32,
    /// Clusters that get no upstream filters, though the file has them.
    without_role: Vec<String>,
}

impl Bootstrap {
    /// `envoy/envoy.yaml` with `envoy/sidecar.yaml`, its sidecar being at `xds`.
    pub fn ads(xds: SocketAddr) -> Result<Self> {
        Self::shipped(&["sidecar.yaml", "envoy.yaml"], "")?.endpoints("pointsman_sidecar", &[xds])
    }

    /// `envoy/envoy.yaml` with `envoy/remote.yaml`, its sidecar being at `xds`.
    pub fn remote(xds: SocketAddr) -> Result<Self> {
        Self::shipped(&["remote.yaml", "envoy.yaml"], "")?.endpoints("pointsman_sidecar", &[xds])
    }

    /// `envoy/static.yaml`, the filter's inline configuration being `container`; those of its clusters that
    /// need the module upstream with the lines that say so.
    pub fn fixed(container: &Value) -> Result<Self> {
        let config = FilterConfig::parse(container.to_string().as_bytes());
        let clusters = config.map(|config| config.clusters).unwrap_or_default();
        let upstream = clusters.iter().any(|it| it.retry.needs_upstream());
        let mut bootstrap = Self::shipped(&["static.yaml"], if upstream { "#+ " } else { "" })?;
        let others = clusters.into_iter().filter(|it| !it.retry.needs_upstream());
        bootstrap.without_role = others.map(|it| it.name).collect();
        let filter = bootstrap.filter_mut(FILTER)?;
        let value = filter.pointer_mut("/typed_config/config/configuration/value");
        *value.context("the filter has no inline configuration")? = container.to_string().into();
        Ok(bootstrap)
    }

    /// These files, merged as Envoy merges them, and with the lines that stand behind `choice`. Without what stories have no use for: the listener of
    /// pages, whose port is fixed, and the access log, for their log is for events.
    fn shipped(names: &[&str], choice: &str) -> Result<Self> {
        let mut root = json!({});
        for name in names {
            let text = fs::read_to_string(artefacts::bootstrap(name)?)?;
            let file = serde_saphyr::from_str(&text.replace(choice, ""))
                .with_context(|| format!("envoy/{name}"))?;
            merge(&mut root, file);
        }
        let mut bootstrap = Bootstrap {
            root,
            concurrency: 1,
            without_role: Vec::new(),
        };
        let listeners = bootstrap.root.pointer_mut("/static_resources/listeners");
        listeners
            .and_then(Value::as_array_mut)
            .context("no listeners")?
            .retain(|listener| listener["name"] != "pages");
        bootstrap
            .manager_mut()?
            .as_object_mut()
            .map(|manager| manager.remove("access_log"));
        Ok(bootstrap)
    }

    /// A cluster is not to have the module upstream, whatever its document needs.
    pub fn without_role(mut self, cluster: &str) -> Self {
        self.without_role.push(cluster.to_owned());
        self
    }

    /// So many workers; 1 unless told.
    pub fn concurrency(mut self, workers: u32) -> Self {
        self.concurrency = workers;
        self
    }

    /// Deals connections out evenly: with N workers, N connections opened together hit each once.
    pub fn exact_balance(mut self) -> Result<Self> {
        self.listener_mut()?["connection_balance_config"] = json!({"exact_balance": {}});
        Ok(self)
    }

    /// Another module instead of `pointsman.wasm`, such as the stories' `faulty.wasm`.
    pub fn module(mut self, file: &Path) -> Result<Self> {
        let file = file.to_str().context("the module's path is not text")?;
        replace_text(&mut self.root, MODULE, file);
        Ok(self)
    }

    /// Takes the filter out: every request goes to the clusters' fallback policy.
    pub fn without_filter(mut self) -> Result<Self> {
        self.filters_mut()?
            .retain(|filter| filter["name"] != FILTER);
        Ok(self)
    }

    /// Lets clients send `header`, so that a story can write the list itself.
    pub fn allow_header(mut self, header: &str) -> Result<Self> {
        let path = "/early_header_mutation_extensions/0/typed_config/mutations";
        let mutations = self
            .manager_mut()?
            .pointer_mut(path)
            .and_then(Value::as_array_mut);
        mutations
            .context("no early header mutation")?
            .retain(|change| change["remove"] != header);
        Ok(self)
    }

    /// One more route, before the shipped one and otherwise like it.
    pub fn route(mut self, prefix: &str, cluster: &str) -> Result<Self> {
        let routes = self
            .manager_mut()?
            .pointer_mut("/route_config/virtual_hosts/0/routes");
        let routes = routes.and_then(Value::as_array_mut).context("no routes")?;
        let mut route = routes.last().context("no route to follow")?.clone();
        route["match"] = json!({"prefix": prefix});
        route["route"]["cluster"] = cluster.into();
        routes.insert(0, route);
        Ok(self)
    }

    /// The endpoints of a static cluster. An unknown cluster is added, otherwise like the first.
    pub fn endpoints(mut self, cluster: &str, endpoints: &[SocketAddr]) -> Result<Self> {
        let clusters = self.root.pointer_mut("/static_resources/clusters");
        let clusters = clusters
            .and_then(Value::as_array_mut)
            .context("no static clusters")?;
        if !clusters.iter().any(|known| known["name"] == cluster) {
            let mut added = clusters
                .first()
                .context("no static cluster to follow")?
                .clone();
            added["name"] = cluster.into();
            clusters.push(added);
        }
        for known in clusters.iter_mut().filter(|known| known["name"] == cluster) {
            let endpoints: Vec<Value> = endpoints.iter().map(endpoint).collect();
            known["load_assignment"] = json!({
                "cluster_name": cluster,
                "endpoints": [{"lb_endpoints": endpoints}],
            });
        }
        Ok(self)
    }

    /// Envoy's node id, by which the sidecar tells its proxies apart.
    pub fn node(mut self, id: &str) -> Self {
        self.root["node"]["id"] = id.into();
        self
    }

    /// Any other change.
    pub fn edit(mut self, change: impl FnOnce(&mut Value)) -> Self {
        change(&mut self.root);
        self
    }

    /// The HTTP connection manager's configuration, for [`Bootstrap::edit`]-like changes.
    pub fn manager_mut(&mut self) -> Result<&mut Value> {
        let manager = self
            .listener_mut()?
            .pointer_mut("/filter_chains/0/filters/0/typed_config");
        manager.context("no HTTP connection manager")
    }

    /// One HTTP filter's entry.
    pub fn filter_mut(&mut self, name: &str) -> Result<&mut Value> {
        let mut filters = self.filters_mut()?.iter_mut();
        filters
            .find(|filter| filter["name"] == name)
            .with_context(|| format!("no filter {name}"))
    }

    fn filters_mut(&mut self) -> Result<&mut Vec<Value>> {
        let filters = self
            .manager_mut()?
            .get_mut("http_filters")
            .and_then(Value::as_array_mut);
        filters.context("no HTTP filters")
    }

    fn listener_mut(&mut self) -> Result<&mut Value> {
        self.root
            .pointer_mut("/static_resources/listeners/0")
            .context("no listener")
    }

    pub(super) fn workers(&self) -> u32 {
        self.concurrency
    }

    fn take_roles_away(&mut self) {
        let clusters = self.root.pointer_mut("/static_resources/clusters");
        let clusters = clusters.and_then(Value::as_array_mut).into_iter().flatten();
        for cluster in clusters {
            let name = cluster["name"].as_str().unwrap_or_default();
            if self.without_role.iter().any(|without| without == name) {
                let protocol = cluster.pointer_mut(PROTOCOL);
                protocol
                    .and_then(Value::as_object_mut)
                    .map(|protocol| protocol.remove("http_filters"));
            }
        }
    }

    /// The bootstrap as JSON, ready to start: its own two addresses and the module's file filled in.
    pub(super) fn finish(mut self, listener: SocketAddr, admin: SocketAddr) -> Result<String> {
        if contains_text(&self.root, MODULE) {
            self = self.module(&artefacts::module()?)?;
        }
        self.take_roles_away();
        self.listener_mut()?["address"] = socket_address(&listener);
        if self.root.get("admin").is_none() {
            bail!("the bootstrap has no admin address");
        }
        self.root["admin"]["address"] = socket_address(&admin);
        Ok(serde_json::to_string_pretty(&self.root)?)
    }
}

/// Where a cluster has its upstream filters.
const PROTOCOL: &str =
    "/typed_extension_protocol_options/envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

fn endpoint(address: &SocketAddr) -> Value {
    json!({"endpoint": {"address": socket_address(address)}})
}

fn socket_address(address: &SocketAddr) -> Value {
    let (ip, port) = (address.ip().to_string(), address.port());
    json!({"socket_address": {"address": ip, "port_value": port}})
}

/// As Envoy does with `--config-yaml`: lists grow, single values are replaced.
fn merge(into: &mut Value, more: Value) {
    match (into, more) {
        (Value::Object(fields), Value::Object(more)) => {
            for (name, value) in more {
                merge(fields.entry(name).or_insert(Value::Null), value);
            }
        }
        (Value::Array(items), Value::Array(more)) => items.extend(more),
        (into, more) => *into = more,
    }
}

fn replace_text(value: &mut Value, old: &str, new: &str) {
    match value {
        Value::String(text) if text == old => new.clone_into(text),
        Value::Array(items) => items
            .iter_mut()
            .for_each(|item| replace_text(item, old, new)),
        Value::Object(fields) => {
            fields
                .values_mut()
                .for_each(|field| replace_text(field, old, new));
        }
        _ => {}
    }
}

fn contains_text(value: &Value, wanted: &str) -> bool {
    match value {
        Value::String(text) => text == wanted,
        Value::Array(items) => items.iter().any(|item| contains_text(item, wanted)),
        Value::Object(fields) => fields.values().any(|field| contains_text(field, wanted)),
        _ => false,
    }
}
