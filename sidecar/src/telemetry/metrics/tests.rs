use std::net::SocketAddr;
use std::time::Duration;

use pointsman_filter::config::State;

use super::*;
use crate::model::event::{HeartbeatFault, Origin, Recovery};
use crate::model::outcome::Obstacle;
use crate::model::overrides::Override;
use crate::model::size::Size;

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
        r#"pointsman_probes_total{pointsman_cluster="orders",result="fail"} 0"#,
        r#"pointsman_verdict_changes_total{pointsman_cluster="plain",verdict="healthy"} 0"#,
    ] {
        assert!(before.contains(line), "{before}");
    }
    assert!(
        !before.contains(r#"probes_total{pointsman_cluster="plain""#),
        "{before}"
    );
    let orders: Arc<str> = Arc::from("orders");
    let took = Duration::from_millis(700);
    metrics.probe(&orders, Outcome::Failed(Failure::Status(503)), took);
    metrics.missed_rounds(&orders, 2);
    let line = r#"pointsman_probe_failures_total{pointsman_cluster="orders",reason="status"} 1"#;
    assert!(text(&metrics).contains(line));
    let line = r#"pointsman_probes_total{pointsman_cluster="orders",result="unknown"} 2"#;
    assert!(text(&metrics).contains(line));
    metrics.keep_clusters(clusters(&[("plain", false)]));
    assert!(!text(&metrics).contains("orders"));
    metrics.keep_clusters(clusters(&[("orders", true)]));
    assert!(
        text(&metrics).contains(r#"{pointsman_cluster="orders",result="fail"} 0"#),
        "from zero again"
    );
}

/// One of each, in the order of [`Event::NAMES`].
fn every_event() -> [Event; 18] {
    let (cluster, backend): (Arc<str>, Arc<str>) = (Arc::from("orders"), Arc::from("a"));
    let address: SocketAddr = "10.0.0.1:80".parse().expect("an address");
    let (name, id) = ("orders".to_owned(), "a".to_owned());
    let size = Size::default();
    [
        Event::BackendUnhealthy {
            cluster: Arc::clone(&cluster),
            backend: Arc::clone(&backend),
            address,
            reason: Failure::Refused,
        },
        Event::BackendHealthy {
            cluster: Arc::clone(&cluster),
            backend,
            address,
            reason: Recovery::ProbesPass,
        },
        Event::VerdictsResumed {
            cluster: Arc::clone(&cluster),
            backends: 1,
            origin: Origin::Proxies,
        },
        Event::ClusterHalfHealthy {
            cluster: Arc::clone(&cluster),
            healthy: 1,
            total: 2,
        },
        Event::ProbesObstructed {
            cluster,
            obstacle: Obstacle::CaFile,
        },
        Event::ConfigRefused {
            node: "edge".to_owned(),
            revision: 1,
            reason: "bad".to_owned(),
        },
        Event::RegistryLost {
            reason: "refused".to_owned(),
        },
        Event::RegistryRestored,
        Event::RegistrySlow {
            took: Duration::from_secs(2),
        },
        Event::RegistryGuardHeld {
            served: size,
            found: size,
        },
        Event::RegistryGuardReleased { confirmed: true },
        Event::OverrideSet {
            cluster: name.clone(),
            backend: id.clone(),
            entry: Override {
                starts_at: None,
                state: State::Draining,
                reason: String::new(),
                actor: String::new(),
                expires_at: None,
            },
        },
        Event::OverrideCleared {
            cluster: name.clone(),
            backend: id.clone(),
        },
        Event::OverrideExpired {
            cluster: name.clone(),
            backend: id.clone(),
        },
        Event::ClockStepped { by_ms: -7_200_000 },
        Event::HeartbeatImpossible {
            cluster: name,
            backend: id,
            reason: HeartbeatFault::Future,
        },
        Event::JobDone {
            job: "release-1".to_owned(),
        },
        Event::JobFailed {
            job: "release-1".to_owned(),
            reason: "refused".to_owned(),
        },
    ]
}

#[test]
fn every_event_is_counted_under_a_name_that_stood_at_zero_before() {
    let metrics = Metrics::default();
    let events = every_event();
    assert_eq!(events.each_ref().map(Event::name), Event::NAMES);
    for event in events {
        let reason = event.reason();
        let reason = reason.map_or(String::new(), |it| format!(",reason=\"{it}\""));
        let name = event.name();
        let line =
            |count: u8| format!("pointsman_events_total{{event=\"{name}\"{reason}}} {count}\n");
        assert!(text(&metrics).contains(&line(0)), "{}", line(0));
        metrics.event(&event);
        assert!(text(&metrics).contains(&line(1)), "{}", line(1));
    }
}

#[test]
fn hc_21_probes_are_measured_in_the_clusters_histogram() {
    let metrics = Metrics::default();
    metrics.keep_clusters(clusters(&[("orders", true), ("plain", false)]));
    let orders: Arc<str> = Arc::from("orders");
    let name = "pointsman_probe_duration_seconds";
    let has = |what: &str, labels: &str, value: &str| {
        let line = format!("{name}_{what}{{pointsman_cluster=\"orders\"{labels}}} {value}\n");
        assert!(text(&metrics).contains(&line), "{line}{}", text(&metrics));
    };
    has("count", "", "0");
    for (outcome, millis) in [
        (Outcome::Passed, 90),
        (Outcome::Failed(Failure::Timeout), 2000),
        (Outcome::Passed, 9000),
        (Outcome::Unknown(Obstacle::Resources), 1),
    ] {
        metrics.probe(&orders, outcome, Duration::from_millis(millis));
    }
    let buckets = [
        ("0.1", 1),
        ("0.5", 1),
        ("1.0", 1),
        ("2.0", 2),
        ("5.0", 2),
        ("+Inf", 3),
    ];
    for (bound, count) in buckets {
        let labels = format!(",le=\"{bound}\"");
        let line =
            format!("{name}_bucket{{le=\"{bound}\",pointsman_cluster=\"orders\"}} {count}\n");
        let text = text(&metrics);
        let other = format!("{name}_bucket{{pointsman_cluster=\"orders\"{labels}}} {count}\n");
        assert!(
            text.contains(&line) || text.contains(&other),
            "{line}{text}"
        );
    }
    has("sum", "", "11.09");
    assert!(!text(&metrics).contains(&format!("{name}_count{{pointsman_cluster=\"plain\"")));
    metrics.keep_clusters(clusters(&[("orders", false)]));
    assert!(!text(&metrics).contains(&format!("{name}_count")));
}

#[test]
fn the_text_is_openmetrics() {
    let text = text(&Metrics::default());
    assert!(text.ends_with("# EOF\n"));
    assert!(text.contains("pointsman_build_info{version="), "{text}");
}
