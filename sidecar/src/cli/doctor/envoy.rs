//! What an Envoy's own pages say: its configuration as it runs, and its stats.

mod bodies;
mod clusters;
mod listeners;

use std::collections::BTreeMap;

use serde_json::Value;

use super::finding::Finding;

/// The names by which the parts know each other (DESIGN §2).
const FILTER: &str = "pointsman";
const SIDECAR_CLUSTER: &str = "pointsman_sidecar";
const LIST_HEADER: &str = "x-gateway-destination-endpoint";

/// What was read of an Envoy.
pub struct Envoy<'a> {
    bootstrap: &'a Value,
    /// The HTTP connection managers that have the filter.
    managers: Vec<&'a Value>,
    /// The listeners of these.
    listeners: Vec<&'a Value>,
    /// Whether there is any other.
    has_listeners: bool,
    hosts: Vec<&'a Value>,
    /// The module's configs as the control plane sent them.
    fed_modules: Vec<&'a Value>,
    static_clusters: Vec<&'a Value>,
    clusters: BTreeMap<&'a str, &'a Value>,
    stats: BTreeMap<&'a str, u64>,
}

/// The items of a list; none where there is no list.
fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// The clusters that a route leads to: one, or several by their weights.
fn targets(route: &Value) -> impl Iterator<Item = &str> {
    let action = &route["route"];
    let weighted = items(&action["weighted_clusters"]["clusters"]).map(|it| &it["name"]);
    let all = [&action["cluster"]].into_iter().chain(weighted);
    all.filter_map(Value::as_str)
}

/// The HTTP connection managers of a listener that have the filter.
fn managers(listener: &Value) -> impl Iterator<Item = &Value> {
    let chains = items(&listener["filter_chains"]).chain([&listener["default_filter_chain"]]);
    chains
        .flat_map(|chain| items(&chain["filters"]))
        .map(|filter| &filter["typed_config"])
        .filter(|it| it["http_filters"].is_array())
        .filter(|it| items(&it["http_filters"]).any(listeners::is_ours))
}

impl<'a> Envoy<'a> {
    /// Reads `/config_dump?include_eds` and `/stats?format=json`.
    pub fn new(dump: &'a Value, stats: &'a Value) -> Self {
        let section = move |name: &'static str| {
            let all = items(&dump["configs"]);
            all.filter(move |it| {
                it["@type"]
                    .as_str()
                    .is_some_and(|kind| kind.ends_with(name))
            })
        };
        let listeners: Vec<&Value> = section(".ListenersConfigDump")
            .flat_map(|it| {
                let fixed = items(&it["static_listeners"]).map(|it| &it["listener"]);
                let fed = items(&it["dynamic_listeners"]).map(|it| &it["active_state"]["listener"]);
                fixed.chain(fed)
            })
            .collect();
        let (managers, managed): (Vec<&Value>, Vec<&Value>) = listeners
            .iter()
            .flat_map(|listener| managers(listener).map(|manager| (manager, *listener)))
            .unzip();
        let fixed_routes = managers.iter().map(|manager| &manager["route_config"]);
        let fed_routes = section(".RoutesConfigDump")
            .flat_map(|it| items(&it["dynamic_route_configs"]).map(|it| &it["route_config"]));
        let hosts = fixed_routes
            .chain(fed_routes)
            .flat_map(|config| items(&config["virtual_hosts"]))
            .collect();
        let fed_modules = section(".EcdsConfigDump")
            .flat_map(|it| items(&it["ecds_filters"]).map(|it| &it["ecds_filter"]))
            .filter(|it| it["name"] == FILTER)
            .map(|it| &it["typed_config"]["config"])
            .collect();
        let static_clusters: Vec<&Value> = section(".ClustersConfigDump")
            .flat_map(|it| items(&it["static_clusters"]).map(|it| &it["cluster"]))
            .collect();
        let fed_clusters = section(".ClustersConfigDump")
            .flat_map(|it| items(&it["dynamic_active_clusters"]).map(|it| &it["cluster"]));
        let named = |it: &'a Value| Some((it["name"].as_str()?, it));
        let number = |it: &'a Value| Some((it["name"].as_str()?, it["value"].as_u64()?));
        Envoy {
            bootstrap: section(".BootstrapConfigDump")
                .map(|it| &it["bootstrap"])
                .next()
                .unwrap_or(&Value::Null),
            has_listeners: !listeners.is_empty(),
            managers,
            listeners: managed,
            hosts,
            fed_modules,
            clusters: static_clusters
                .iter()
                .copied()
                .chain(fed_clusters)
                .filter_map(named)
                .collect(),
            static_clusters,
            stats: items(&stats["stats"]).filter_map(number).collect(),
        }
    }

    /// All that is wrong.
    pub fn findings(&self) -> Vec<Finding> {
        let mut found = listeners::findings(self);
        found.extend(clusters::findings(self));
        found.extend(bodies::findings(self));
        found.extend(self.spill());
        found
    }

    /// Its node id.
    pub fn node(&self) -> &str {
        self.bootstrap["node"]["id"].as_str().unwrap_or("")
    }

    /// The names of the clusters that are not from the sidecar.
    pub fn static_clusters(&self) -> impl Iterator<Item = &str> {
        self.static_clusters
            .iter()
            .filter_map(|it| it["name"].as_str())
    }

    /// Whether the stream to the sidecar stands; `None` where this Envoy has none.
    pub fn is_connected(&self) -> Option<bool> {
        let has_one = !self.bootstrap["dynamic_resources"]["ads_config"].is_null();
        let state = self.stats.get("control_plane.connected_state");
        has_one.then(|| state == Some(&1))
    }

    fn spill(&self) -> Option<Finding> {
        let of = |(name, count): (&&str, &u64)| {
            let rest = name.strip_prefix("wasmcustom.pointsman_picks_total;c=")?;
            let cluster = rest.strip_suffix(";r=spill").filter(|_| *count > 0)?;
            Some(format!("{count} of {cluster}"))
        };
        let spilled: Vec<String> = self.stats.iter().filter_map(of).collect();
        (!spilled.is_empty()).then(|| Finding {
            check: "spill",
            what: format!("requests went to backends that were not picked: {}", spilled.join(", ")),
            why: "Envoy does not know an address of the list as the registry spells it, so its fallback \
                  policy chose",
            mend: "in static.yaml spell the cluster's endpoints as the registry does; with a sidecar see \
                   whether the count still grows, and whether its proxies run the newest revision",
        })
    }
}
