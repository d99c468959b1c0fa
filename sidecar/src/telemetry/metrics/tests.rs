use std::net::SocketAddr;

use super::*;
use crate::model::event::Recovery;
use crate::model::outcome::Obstacle;

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
    let metrics = Metrics::default();
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
    let metrics = Metrics::default();
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
    let text = text(&Metrics::default());
    assert!(text.ends_with("# EOF\n"));
    assert!(text.contains("pointsman_build_info{version="), "{text}");
}
