//! `/status`: everything an operator wants to see at a glance, read from the stages as they are.

use std::sync::Arc;
use std::time::Duration;

use pointsman_filter::base::hash;
use pointsman_filter::config::{BackendConfig, ClusterConfig, duration};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{proxies, store};
use crate::api;
use crate::fleet::Fleet;
use crate::health::HealthView;
use crate::jobs::QueueStatus;
use crate::registry::model::Rejected;
use crate::registry::{Published, Registry, SourceStatus};
use crate::trust::Trust;
use crate::xds::Proxies;

/// Where the status is read.
pub struct Sources {
    /// The settings' label.
    pub environment: String,
    /// Where the registry is kept, for example `file clusters.yaml`.
    pub source: String,
    /// From when the prober counts its time.
    pub started: Instant,
    /// Stage 1.
    pub registry: watch::Receiver<Published>,
    /// How its source is doing.
    pub source_status: watch::Receiver<SourceStatus>,
    /// Stage 2.
    pub health: watch::Receiver<Arc<HealthView>>,
    /// Whom clusters trust.
    pub trust: watch::Receiver<Arc<Trust>>,
    /// What the filters report.
    pub fleet: watch::Receiver<Fleet>,
    /// What the xDS streams say.
    pub proxies: watch::Receiver<Proxies>,
    /// How the queue of jobs is doing.
    pub queue: watch::Receiver<QueueStatus>,
}

impl Sources {
    /// Everything at a glance.
    pub fn status(&self, now: Instant) -> api::Status {
        let registry = self.registry.borrow().clone();
        api::Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            environment: self.environment.clone(),
            uptime: duration::print(now.duration_since(self.started)),
            registry: self.registry(registry.as_deref(), now),
            clusters: self.cluster_list(registry.as_deref(), now),
            proxies: self.proxies(now),
        }
    }

    /// The clusters' part of it, with the revision and every cluster's etag.
    pub fn clusters(&self, now: Instant) -> api::Clusters {
        let registry = self.registry.borrow().clone();
        api::Clusters {
            revision: registry.as_ref().map(|it| hash::hex(it.revision)),
            clusters: self.cluster_list(registry.as_deref(), now),
            rejected: rejected(registry.as_deref(), &self.source_status.borrow().writer.odd),
        }
    }

    /// What is served to the filters, without what is secret.
    pub fn config(&self) -> Value {
        let registry = self.registry.borrow().clone();
        let config = registry.map(|registry| registry.config.to_json());
        let mut config: Value = config
            .and_then(|json| serde_json::from_str(&json).ok())
            .unwrap_or_default();
        if let Some(exchange) = config.get_mut("exchange").and_then(Value::as_object_mut) {
            exchange.remove("token");
        }
        config
    }

    fn cluster_list(&self, registry: Option<&Registry>, now: Instant) -> Vec<api::Cluster> {
        let Some(registry) = registry else {
            return Vec::new();
        };
        let health = Arc::clone(&self.health.borrow());
        let clusters = registry.config.clusters.iter();
        let cluster = |cluster| self.cluster(registry, cluster, &health, now);
        clusters.map(cluster).collect()
    }

    fn registry(&self, registry: Option<&Registry>, now: Instant) -> api::Registry {
        let source = self.source_status.borrow();
        api::Registry {
            source: self.source.clone(),
            store: store::registry(&source, now),
            revision: registry.map(|registry| hash::hex(registry.revision)),
            error: source.error.clone(),
            rejected: rejected(registry, &source.writer.odd),
        }
    }

    fn cluster(
        &self,
        registry: &Registry,
        cluster: &ClusterConfig,
        health: &HealthView,
        now: Instant,
    ) -> api::Cluster {
        // The registry may be a moment ahead of the prober: a cluster it has not seen yet counts
        // as the prober will begin with it.
        let view = health.cluster(&cluster.name);
        let counts = view.map(|view| (view.total, view.healthy, view.half_healthy));
        let (total, healthy, half_healthy) = counts.unwrap_or_default();
        let mut document = cluster.to_value();
        let mut documents = document["backends"].take();
        let backends = cluster.backends.iter().enumerate();
        let backends = backends.map(|(place, backend)| {
            let document = &mut documents[place];
            let word = registry.overrides.get(&cluster.name, &backend.id);
            let next = registry.overrides.next(&cluster.name, &backend.id);
            api::Backend {
                in_force: word.map(api::Override::from),
                next: next.map(api::Override::from),
                max_in_flight: document["maxInFlight"].take(),
                rate_limit: document["rateLimit"].take(),
                ..self.backend(cluster, backend, health, now)
            }
        });
        let backends = backends.collect();
        api::Cluster {
            name: cluster.name.clone(),
            etag: registry.etags.get(&cluster.name).cloned(),
            health_check: without_secrets(document["healthCheck"].take()),
            limits: document["limits"].take(),
            json_rpc: document["jsonRpc"].take(),
            rate_limit: document["rateLimit"].take(),
            ca_file_error: self.trust.borrow().error_of(cluster),
            total,
            healthy,
            half_healthy,
            backends,
        }
    }

    fn backend(
        &self,
        cluster: &ClusterConfig,
        backend: &BackendConfig,
        health: &HealthView,
        now: Instant,
    ) -> api::Backend {
        let known = health.backend(&cluster.name, backend.address);
        let age =
            |at: Duration| duration::print(now.duration_since(self.started).saturating_sub(at));
        api::Backend {
            id: backend.id.clone(),
            address: backend.address.to_string(),
            weight: backend.weight,
            backup: backend.backup,
            state: backend.state.name().to_owned(),
            healthy: known.is_none_or(|known| known.healthy),
            failures: known.map_or(0, |known| known.failures),
            last_failure_reason: known.and_then(|k| k.last_failure).map(|f| f.to_string()),
            last_check_ago: known.and_then(|known| known.last_check).map(age),
            ..api::Backend::default()
        }
    }

    /// The proxies that report, that are connected, or both, by node id.
    pub fn proxies(&self, now: Instant) -> Vec<api::Proxy> {
        proxies::list(&self.fleet.borrow(), &self.proxies.borrow(), now)
    }
}

/// Records of the registry, and what of our own stands beside them.
fn rejected(registry: Option<&Registry>, odd: &[Rejected]) -> Vec<api::Rejected> {
    let rejected = registry.iter().flat_map(|registry| &registry.rejected);
    let rejected = rejected.chain(odd).map(|rejected| api::Rejected {
        place: rejected.place.clone(),
        error: rejected.error.clone(),
    });
    rejected.collect()
}

/// The check with its defaults. What probes send along may be secret and is left out.
fn without_secrets(mut check: Value) -> Value {
    if let Some(http) = check.get_mut("http").and_then(Value::as_object_mut) {
        http.remove("headers");
        http.remove("body");
    }
    check
}
