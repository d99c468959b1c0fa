//! What differs between two registries, told by names.

use std::collections::BTreeMap;

use pointsman_filter::config::{BackendConfig, ClusterConfig};
use serde::{Deserialize, Serialize};

/// The differences; backends are named `cluster/backend`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Changes {
    /// Backends that came.
    pub added: Vec<String>,
    /// Backends that went.
    pub removed: Vec<String>,
    /// Backends of which anything else is different.
    pub modified: Vec<String>,
    /// Anything is different at all.
    pub config_updated: bool,
    /// The prober speaks to a cluster's backends in another way from now on.
    pub client_rebuilt: bool,
}

impl Changes {
    /// What differs between `before` and `after`, each sorted by name.
    pub fn between(before: &[ClusterConfig], after: &[ClusterConfig]) -> Self {
        let mut changes = Changes {
            config_updated: before != after,
            ..Changes::default()
        };
        if !changes.config_updated {
            return changes;
        }
        let (old, new) = (by_name(before), by_name(after));
        for (name, cluster) in &new {
            match old.get(name) {
                None => changes
                    .added
                    .extend(cluster.backends.iter().map(|it| full(name, it))),
                Some(old) => changes.compare(old, cluster),
            }
        }
        for (name, cluster) in &old {
            if !new.contains_key(name) {
                changes
                    .removed
                    .extend(cluster.backends.iter().map(|it| full(name, it)));
            }
        }
        changes
    }

    fn compare(&mut self, old: &ClusterConfig, new: &ClusterConfig) {
        if old == new {
            return;
        }
        self.client_rebuilt |=
            (&old.health_check, old.http2, &old.tls) != (&new.health_check, new.http2, &new.tls);
        let before = by_id(old);
        let after = by_id(new);
        for backend in &new.backends {
            match before.get(backend.id.as_str()) {
                None => self.added.push(full(&new.name, backend)),
                Some(old) if *old != backend => self.modified.push(full(&new.name, backend)),
                Some(_) => {}
            }
        }
        let gone = old
            .backends
            .iter()
            .filter(|it| !after.contains_key(it.id.as_str()));
        self.removed.extend(gone.map(|it| full(&old.name, it)));
    }
}

fn by_name(clusters: &[ClusterConfig]) -> BTreeMap<&str, &ClusterConfig> {
    clusters.iter().map(|it| (it.name.as_str(), it)).collect()
}

fn by_id(cluster: &ClusterConfig) -> BTreeMap<&str, &BackendConfig> {
    let backends = cluster.backends.iter();
    backends.map(|it| (it.id.as_str(), it)).collect()
}

fn full(cluster: &str, backend: &BackendConfig) -> String {
    format!("{cluster}/{}", backend.id)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn clusters(documents: &Value) -> Vec<ClusterConfig> {
        let documents = documents.as_array().unwrap().iter();
        documents
            .map(|it| ClusterConfig::parse(it).unwrap())
            .collect()
    }

    fn between(before: &Value, after: &Value) -> Changes {
        Changes::between(&clusters(before), &clusters(after))
    }

    fn backend(id: &str, port: u16) -> Value {
        json!({"id": id, "address": format!("10.0.0.1:{port}")})
    }

    #[test]
    fn ad_11_nothing_changed_is_nothing_said() {
        let same = json!([{"name": "a", "backends": [backend("x", 1)]}]);
        assert_eq!(between(&same, &same), Changes::default());
    }

    #[test]
    fn ad_2_backends_come_go_and_change_by_name() {
        let before = json!([
            {"name": "a", "backends": [
                backend("stays", 1), backend("goes", 2), backend("moves", 3)]},
            {"name": "gone", "backends": [backend("x", 1)]}]);
        let after = json!([
            {"name": "a", "backends": [
                backend("stays", 1), backend("moves", 4), backend("new", 5)]},
            {"name": "fresh", "backends": [backend("y", 1)]}]);
        let expected = json!({"added": ["a/new", "fresh/y"], "removed": ["a/goes", "gone/x"],
            "modified": ["a/moves"], "config_updated": true, "client_rebuilt": false});
        assert_eq!(
            serde_json::to_value(between(&before, &after)).unwrap(),
            expected
        );
    }

    #[test]
    fn ad_7_whatever_is_different_about_a_backend_makes_it_modified() {
        let with = |field: &str, value: Value| {
            let mut backend = backend("x", 1);
            backend[field] = value;
            json!([{"name": "a", "backends": [backend]}])
        };
        let before = json!([{"name": "a", "backends": [backend("x", 1)]}]);
        for (field, value) in [
            ("weight", json!(7)),
            ("backup", json!(true)),
            ("stickyId", json!("s")),
            ("state", json!("Draining")),
        ] {
            let changes = between(&before, &with(field, value));
            assert_eq!(changes.modified, ["a/x"], "{field}");
            assert!(changes.added.is_empty() && changes.removed.is_empty());
        }
    }

    #[test]
    fn nx_4_the_probers_client_is_rebuilt_where_it_speaks_in_another_way() {
        let before = json!([{"name": "a"}]);
        for (extra, rebuilt) in [
            (json!({"healthCheck": {"tcp": {}}}), true),
            (json!({"http2": true}), true),
            (json!({"tls": {}}), true),
            (json!({"whenAllUnhealthy": "Refuse"}), false),
        ] {
            let mut after = before.clone();
            after[0]
                .as_object_mut()
                .unwrap()
                .extend(extra.as_object().unwrap().clone());
            let changes = between(&before, &after);
            assert!(changes.config_updated, "{extra}");
            assert_eq!(changes.client_rebuilt, rebuilt, "{extra}");
        }
        assert!(!between(&json!([]), &json!([{"name": "a", "http2": true}])).client_rebuilt);
    }
}
