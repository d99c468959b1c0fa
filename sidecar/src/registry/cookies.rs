//! Sticky cookies that several clusters share.

use std::collections::BTreeMap;

use pointsman_filter::config::ClusterConfig;

/// A warning for each sticky cluster whose cookie another has too, by the cluster's name. It may be
/// meant: only behind one host they overwrite each other's.
pub fn warnings<'a>(
    clusters: impl IntoIterator<Item = &'a ClusterConfig>,
) -> BTreeMap<&'a str, String> {
    let mut users: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for cluster in clusters {
        if let Some(sticky) = &cluster.sticky {
            let cookie = (sticky.cookie.as_str(), sticky.path.as_str());
            users.entry(cookie).or_default().push(&cluster.name);
        }
    }
    let mut warnings = BTreeMap::new();
    for ((cookie, path), names) in users {
        for name in &names {
            if let Some(other) = names.iter().find(|other| *other != name) {
                let why = format!(
                    "clusters.{name}.sticky: {other} has cookie {cookie} on path {path} too; \
                     behind one host they overwrite each other's"
                );
                warnings.insert(*name, why);
            }
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn cluster(name: &str, sticky: Value) -> ClusterConfig {
        ClusterConfig::parse(&json!({"name": name, "sticky": sticky})).unwrap()
    }

    #[test]
    fn st_1_clusters_that_share_name_and_path_of_a_cookie_are_warned_of() {
        let clusters = [
            cluster("a", json!({"cookie": "C"})),
            cluster("b", json!({"cookie": "C", "path": "/"})),
            cluster("shop", json!({"cookie": "C", "path": "/shop"})),
            cluster("d", json!({})),
            cluster("e", json!({})),
        ];
        let warnings = warnings(&clusters);
        let names: Vec<&&str> = warnings.keys().collect();
        assert_eq!(names, [&"a", &"b"]);
        assert_eq!(
            warnings["a"],
            "clusters.a.sticky: b has cookie C on path / too; \
             behind one host they overwrite each other's"
        );
    }
}
