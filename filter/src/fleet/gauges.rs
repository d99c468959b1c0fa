//! What the gauges of the clusters were set to, as one VM knows it. The gauges are the whole
//! Envoy's, and the VM that has the lease sets them.

use crate::base::keyed::KeyMap;
use crate::cluster::Cluster;
use crate::cluster::snapshot::Registry;

/// A VM without the lease notes no more clusters that are gone than this.
const NOTED_MAX: usize = 1000;

/// A cluster's name, and what its gauges were set to; `None`: others may have set them since.
type Entry = (Box<str>, Option<[u64; 4]>);

/// The gauges that were set, by cluster key.
#[derive(Debug, Default)]
pub struct Recorded(KeyMap<Entry>);

impl Recorded {
    /// Forgets what the gauges were set to, but not whose there are: another VM had the lease.
    pub fn doubt(&mut self) {
        for (_, values) in self.0.values_mut() {
            *values = None;
        }
    }

    /// Notes the clusters that are gone: who has set their gauges may have lost the lease by now.
    pub fn note(&mut self, before: &Registry, after: &Registry) {
        for cluster in before.clusters() {
            if after.cluster(cluster.name.as_bytes()).is_none() && self.0.len() < NOTED_MAX {
                let entry = || (cluster.name.clone(), None);
                self.0.entry(cluster.key).or_insert_with(entry);
            }
        }
    }

    /// Notes what the gauges of a cluster are to say; whether they have to be set for that.
    pub fn is_news(&mut self, cluster: &Cluster, values: [u64; 4]) -> bool {
        let entry = || (cluster.name.clone(), None);
        let (_, last) = self.0.entry(cluster.key).or_insert_with(entry);
        last.replace(values) != Some(values)
    }

    /// Forgets the clusters that are gone, and tells `zero` whose gauges were set.
    pub fn drop_gone(&mut self, registry: &Registry, mut zero: impl FnMut(u64, &str)) {
        self.0.retain(|key, (name, _)| {
            let stays = registry.cluster(name.as_bytes()).is_some();
            if !stays {
                zero(*key, name);
            }
            stays
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::random::SplitMix64;
    use crate::cluster::load::Loads;
    use crate::config::FilterConfig;
    use serde_json::{Value, json};
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn registry(names: &[&str]) -> Registry {
        let clusters: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
        let json = json!({"schema": 1, "clusters": clusters}).to_string();
        let config = FilterConfig::parse(json.as_bytes()).expect("a good registry");
        Registry::compile(&config, &mut Loads::default(), 0, &mut SplitMix64::new(1))
    }

    fn zeroed(recorded: &mut Recorded, registry: &Registry) -> Vec<String> {
        let mut names = Vec::new();
        recorded.drop_gone(registry, |_, name| names.push(name.to_owned()));
        names
    }

    #[test]
    fn gt_9_gauges_are_set_when_they_change_and_anew_after_another_had_the_lease() {
        let registry = registry(&["orders"]);
        let cluster = &registry.clusters()[0];
        let mut recorded = Recorded::default();
        assert!(recorded.is_news(cluster, [0; 4]), "also zeros, at first");
        assert!(!recorded.is_news(cluster, [0; 4]));
        assert!(recorded.is_news(cluster, [1, 1, 0, 0]));
        recorded.doubt();
        assert!(recorded.is_news(cluster, [1, 1, 0, 0]));
        assert!(!recorded.is_news(cluster, [1, 1, 0, 0]));
    }

    #[test]
    fn gt_9_a_cluster_that_is_gone_is_zeroed_once_by_whoever_has_the_lease() {
        let (both, one) = (registry(&["orders", "users"]), registry(&["orders"]));
        let mut setter = Recorded::default();
        for cluster in both.clusters() {
            setter.is_news(cluster, [1; 4]);
        }
        setter.doubt();
        assert_eq!(zeroed(&mut setter, &one), ["users"]);
        assert!(zeroed(&mut setter, &one).is_empty());
        // The lease came to this one between the setting and the removal.
        let mut heir = Recorded::default();
        heir.note(&both, &one);
        heir.doubt();
        assert_eq!(zeroed(&mut heir, &one), ["users"]);
        heir.note(&both, &one);
        assert!(zeroed(&mut heir, &both).is_empty(), "it is back");
        let names: Vec<String> = (0..NOTED_MAX + 1).map(|nth| format!("c{nth}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        heir.note(&registry(&names), &one);
        assert_eq!(zeroed(&mut heir, &one).len(), NOTED_MAX, "bounded");
    }
}
