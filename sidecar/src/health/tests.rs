//! The prober as a stage: real backends, real time where sockets are, and an end.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use pointsman_filter::base::hash::backend_key;
use pointsman_filter::fleet::exchange::Version;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::admin::Gauges;
use crate::model::overrides::Overrides;
use crate::registry::Registry;
use crate::telemetry::counts::EventCounts;

const DEADLINE: Duration = Duration::from_secs(20);

/// A running prober and what is around it.
struct Stage {
    registry: watch::Sender<Published>,
    verdicts: watch::Receiver<Arc<Verdicts>>,
    view: watch::Receiver<Arc<HealthView>>,
    metrics: Metrics,
    handing: mpsc::Sender<HandedBack>,
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Stage {
    fn start(clusters: Vec<Value>) -> Self {
        let registry = watch::Sender::new(published(clusters, 1));
        let state = Health::new(5, 7, Duration::from_secs(30));
        let verdicts = watch::Sender::new(Arc::new(state.verdicts().clone()));
        let view = watch::Sender::default();
        let metrics = Metrics::new(
            EventCounts::default(),
            Gauges {
                registry: registry.subscribe(),
                source: watch::Sender::default().subscribe(),
                health: view.subscribe(),
                fleet: watch::Sender::default().subscribe(),
                proxies: watch::Sender::default().subscribe(),
                queue: watch::Sender::default().subscribe(),
            },
        );
        let (handing, handed_back) = mpsc::channel(1);
        let prober = Prober {
            handed_back,
            registry: registry.subscribe(),
            trust: watch::Sender::default().subscribe(),
            state,
            verdicts: verdicts.clone(),
            view: view.clone(),
            metrics: metrics.clone(),
            events: Events::new(metrics.clone()),
            started: Instant::now(),
        };
        let stop = CancellationToken::new();
        let task = tokio::spawn(prober.run(stop.clone()));
        Stage {
            registry,
            verdicts: verdicts.subscribe(),
            view: view.subscribe(),
            metrics,
            handing,
            stop,
            task,
        }
    }

    /// Waits until so many backends are unhealthy.
    async fn unhealthy(&mut self, count: usize) {
        let is_so = |verdicts: &Arc<Verdicts>| {
            let full = verdicts.answer(Version::default());
            let unhealthy = full
                .iter()
                .flat_map(|full| &full.clusters)
                .map(|c| c.unhealthy.len());
            verdicts.ready() && unhealthy.sum::<usize>() == count
        };
        let seen = timeout(DEADLINE, self.verdicts.wait_for(is_so)).await;
        drop(seen.expect("a verdict in time").expect("the prober runs"));
    }

    /// Waits until the view shows so many of the cluster's backends healthy.
    async fn shows(&mut self, healthy: usize) {
        let is_so = |view: &Arc<HealthView>| {
            let cluster = view.cluster("orders");
            cluster.is_some_and(|cluster| cluster.healthy == healthy)
        };
        let seen = timeout(DEADLINE, self.view.wait_for(is_so)).await;
        drop(seen.expect("a view in time").expect("the prober runs"));
    }

    fn has(&self, line: &str) -> bool {
        self.metrics
            .text()
            .expect("metrics")
            .lines()
            .any(|it| it == line)
    }

    async fn end(self) {
        self.stop.cancel();
        timeout(DEADLINE, self.task)
            .await
            .expect("in time")
            .expect("no panic")
            .expect("no error");
    }
}

fn published(clusters: Vec<Value>, revision: u64) -> Published {
    let config = fixture::config(clusters);
    Some(Arc::new(Registry {
        config,
        revision,
        rejected: Vec::new(),
        overrides: Overrides::default(),
        etags: BTreeMap::new(),
    }))
}

fn cluster(address: SocketAddr) -> Value {
    let check = json!({"tcp": {}, "interval": "20ms", "timeout": "2s"});
    json!({"name": "orders", "healthCheck": check,
        "backends": [{"id": "a", "address": address.to_string()}]})
}

#[tokio::test]
async fn hc_12_a_backend_that_dies_and_comes_back_is_seen_and_counted_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let address = listener.local_addr().expect("its address");
    let mut stage = Stage::start(vec![cluster(address)]);
    stage.unhealthy(0).await;
    assert!(stage.has(
        r#"pointsman_verdict_changes_total{pointsman_cluster="orders",verdict="unhealthy"} 0"#
    ));
    assert!(stage.has(r#"pointsman_healthy_backends{pointsman_cluster="orders"} 1"#));
    drop(listener);
    stage.unhealthy(1).await;
    stage.shows(0).await;
    assert!(stage.has(r#"pointsman_healthy_backends{pointsman_cluster="orders"} 0"#));
    let _listener = TcpListener::bind(address).await.expect("the same address");
    stage.unhealthy(0).await;
    for verdict in ["healthy", "unhealthy"] {
        let line = format!(
            r#"pointsman_verdict_changes_total{{pointsman_cluster="orders",verdict="{verdict}"}} 1"#
        );
        assert!(stage.has(&line), "{line}");
    }
    stage.end().await;
}

#[tokio::test]
async fn hc_15_without_the_check_all_is_healthy_at_once_and_the_series_of_probes_vanish() {
    let address = {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        listener.local_addr().expect("its address")
    };
    let mut stage = Stage::start(vec![cluster(address)]);
    stage.unhealthy(1).await;
    let mut unchecked = cluster(address);
    unchecked
        .as_object_mut()
        .expect("an object")
        .remove("healthCheck");
    stage.registry.send_replace(published(vec![unchecked], 2));
    stage.unhealthy(0).await;
    assert!(stage.has(r#"pointsman_healthy_backends{pointsman_cluster="orders"} 1"#));
    stage.registry.send_replace(published(vec![], 3));
    let gone = |verdicts: &Arc<Verdicts>| verdicts.version().revision == 3;
    drop(
        timeout(DEADLINE, stage.verdicts.wait_for(gone))
            .await
            .expect("in time")
            .expect("it runs"),
    );
    // Ended, so that the metrics have followed the registry too.
    let metrics = stage.metrics.clone();
    stage.end().await;
    let text = metrics.text().expect("metrics");
    assert!(!text.contains("orders"), "{text}");
}

#[tokio::test]
async fn hc_9_a_hanging_backend_holds_one_connection_and_the_end_closes_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let address = listener.local_addr().expect("its address");
    let mut hanging = cluster(address);
    hanging["healthCheck"] = json!({"http": {}, "interval": "10ms", "timeout": "300ms"});
    let mut stage = Stage::start(vec![hanging]);
    let overlap = tokio::spawn(async move {
        let (mut open, _) = listener.accept().await.expect("a connection");
        loop {
            let mut sent = Vec::new();
            // A probe's connection must have ended before the next one begins. The end is looked
            // at first, for both may have happened by now.
            open = tokio::select! {
                biased;
                _ = open.read_to_end(&mut sent) => {
                    listener.accept().await.expect("a connection").0
                }
                _ = listener.accept() => return,
            };
        }
    });
    stage.unhealthy(1).await;
    assert!(!overlap.is_finished(), "two probes were open at a time");
    overlap.abort();
    stage.end().await;
}

#[tokio::test]
async fn what_a_proxy_hands_back_is_a_verdict_before_it_is_told_so() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let address = listener.local_addr().expect("its address");
    let mut slow = cluster(address);
    slow["healthCheck"]["interval"] = "1h".into();
    let mut stage = Stage::start(vec![slow]);
    stage.unhealthy(0).await;
    let (taken, told) = oneshot::channel();
    let verdicts = ClusterVerdicts {
        name: "orders".to_owned(),
        unhealthy: vec![backend_key("a", &address.to_string())],
        healthy: Vec::new(),
    };
    let verdicts = vec![verdicts];
    let handed = stage.handing.send(HandedBack { verdicts, taken });
    handed.await.expect("the prober runs");
    let told = timeout(DEADLINE, told).await;
    told.expect("in time").expect("the prober runs");
    assert!(stage.verdicts.has_changed().expect("the prober runs"));
    stage.unhealthy(1).await;
    stage.shows(0).await;
    let line = r#"pointsman_events_total{event="verdicts_resumed",reason="handed_back"} 1"#;
    assert!(stage.has(line));
    stage.end().await;
}
