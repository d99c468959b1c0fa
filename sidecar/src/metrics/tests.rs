use std::net::SocketAddr;

use tokio::sync::watch;

use super::*;
use crate::event::Recovery;
use crate::fleet::Fleet;
use crate::health::{Health, Obstacle};
use crate::jobs::QueueStatus;
use crate::xds::Proxies;

fn metrics() -> Metrics {
    metrics_beside(QueueStatus::Disabled)
}

fn metrics_beside(queue: QueueStatus) -> Metrics {
    Metrics::new(Gauges {
        registry: watch::Sender::new(None).subscribe(),
        source: watch::Sender::default().subscribe(),
        health: watch::Sender::new(Health::new(1, 2)).subscribe(),
        fleet: watch::Sender::new(Fleet::default()).subscribe(),
        proxies: watch::Sender::new(Proxies::default()).subscribe(),
        queue: watch::Sender::new(queue).subscribe(),
    })
}

fn clusters(names: &[(&str, bool)]) -> BTreeMap<Arc<str>, bool> {
    names
        .iter()
        .map(|(name, probed)| (Arc::from(*name), *probed))
        .collect()
}

fn text(metrics: &Metrics) -> String {
    metrics.text().expect("metrics")
}

#[test]
fn series_of_a_cluster_come_at_zero_and_go_with_it() {
    let metrics = metrics();
    metrics.keep_clusters(clusters(&[("orders", true), ("plain", false)]));
    let before = text(&metrics);
    for line in [
        r#"pointsman_probes_total{cluster="orders",result="fail"} 0"#,
        r#"pointsman_verdict_changes_total{cluster="plain",verdict="healthy"} 0"#,
    ] {
        assert!(before.contains(line), "{before}");
    }
    assert!(
        !before.contains(r#"probes_total{cluster="plain""#),
        "{before}"
    );
    let orders: Arc<str> = Arc::from("orders");
    metrics.probe(&orders, Outcome::Failed(Failure::Status(503)));
    metrics.missed_rounds(&orders, 2);
    let line = r#"pointsman_probe_failures_total{cluster="orders",reason="status"} 1"#;
    assert!(text(&metrics).contains(line));
    let line = r#"pointsman_probes_total{cluster="orders",result="unknown"} 2"#;
    assert!(text(&metrics).contains(line));
    metrics.keep_clusters(clusters(&[("plain", false)]));
    assert!(!text(&metrics).contains("orders"));
    metrics.keep_clusters(clusters(&[("orders", true)]));
    assert!(
        text(&metrics).contains(r#"{cluster="orders",result="fail"} 0"#),
        "from zero again"
    );
}

#[test]
fn every_event_is_counted_under_a_name_that_stood_at_zero_before() {
    let metrics = metrics();
    let (cluster, backend): (Arc<str>, Arc<str>) = (Arc::from("orders"), Arc::from("a"));
    let address: SocketAddr = "10.0.0.1:80".parse().expect("an address");
    let (cluster_b, backend_b) = (Arc::clone(&cluster), Arc::clone(&backend));
    let events = [
        Event::BackendUnhealthy {
            cluster,
            backend,
            address,
            reason: Failure::Refused,
        },
        Event::BackendHealthy {
            cluster: cluster_b,
            backend: backend_b,
            address,
            reason: Recovery::ProbesPass,
        },
        Event::ClusterHalfHealthy {
            cluster: Arc::from("orders"),
            healthy: 1,
            total: 2,
        },
        Event::ProbesObstructed {
            cluster: Arc::from("orders"),
            obstacle: Obstacle::CaFile,
        },
        Event::ConfigRefused {
            node: "edge".to_owned(),
            revision: 1,
            reason: "bad".to_owned(),
        },
    ];
    for event in events {
        let line = |count: u8| {
            format!(
                "pointsman_events_total{{event=\"{}\"}} {count}\n",
                event.name()
            )
        };
        assert!(text(&metrics).contains(&line(0)), "{}", line(0));
        metrics.event(&event);
        assert!(text(&metrics).contains(&line(1)), "{}", line(1));
    }
}

#[test]
fn the_text_is_openmetrics() {
    let text = text(&metrics());
    assert!(text.ends_with("# EOF\n"));
    assert!(text.contains("pointsman_fleet_nodes 0\n"), "{text}");
    assert!(text.contains("pointsman_build_info{version="), "{text}");
}

#[test]
fn the_depth_of_the_queue_is_told_where_there_is_one_and_it_is_known() {
    for (queue, depth) in [
        (QueueStatus::Disabled, None),
        (QueueStatus::Memory(0), Some(0)),
        (QueueStatus::Unread, Some(0)),
        (QueueStatus::Up(7), Some(7)),
        (QueueStatus::Down, None),
    ] {
        let text = text(&metrics_beside(queue));
        let line = text
            .lines()
            .find(|it| it.starts_with("pointsman_jobs_queue_depth"));
        let expected = depth.map(|depth: u64| format!("pointsman_jobs_queue_depth {depth}"));
        assert_eq!(line, expected.as_deref(), "{queue:?}");
    }
}
