//! What is promised, case by case.

use envoy_types::pb::envoy::config::core::v3::HealthStatus;
use envoy_types::pb::envoy::config::core::v3::address::Address;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use pointsman_filter::config::ExchangeConfig;
use prost::Message;
use serde_json::json;

use super::*;
use crate::registry::model::Listing;

/// Least time between two changes.
const INTERVAL: Duration = Duration::from_millis(500);

/// A registry of `name:port,port` words.
fn registry(words: &str) -> Arc<Registry> {
    let clusters = words.split_whitespace().map(|word| {
        let (name, ports) = word.split_once(':').unwrap();
        let ports = ports.split(',').filter(|port| !port.is_empty());
        let backends: Vec<_> = ports
            .map(|port| json!({"address": format!("10.0.0.1:{port}")}))
            .collect();
        ClusterConfig::parse(&json!({"name": name, "backends": backends})).unwrap()
    });
    registry_of(clusters.collect())
}

/// A registry of these clusters.
pub fn registry_of(clusters: Vec<ClusterConfig>) -> Arc<Registry> {
    let listing = Listing {
        clusters,
        ..Listing::default()
    };
    let exchange = ExchangeConfig {
        cluster: "pointsman_sidecar".to_owned(),
        token: String::new(),
        verdict_ttl: Duration::from_secs(30),
    };
    Arc::new(Registry::new(listing, exchange))
}

/// What a snapshot holds, as words; an endpoint that takes nothing new is in parentheses.
fn words(snapshot: &Snapshot) -> String {
    let clusters = snapshot.clusters.iter();
    let endpoints = snapshot.endpoints.iter().map(|(name, resource)| {
        let message = ClusterLoadAssignment::decode(&resource.body[..]).unwrap();
        let ports: Vec<String> = message
            .endpoints
            .iter()
            .flat_map(|l| &l.lb_endpoints)
            .map(port)
            .collect();
        format!("{name}:{}", ports.join(","))
    });
    let endpoints: Vec<String> = endpoints.collect();
    assert_eq!(clusters.count(), endpoints.len());
    endpoints.join(" ")
}

fn port(endpoint: &envoy_types::pb::envoy::config::endpoint::v3::LbEndpoint) -> String {
    let Some(HostIdentifier::Endpoint(host)) = &endpoint.host_identifier else {
        panic!("no endpoint");
    };
    let address = host
        .address
        .as_ref()
        .and_then(|address| address.address.as_ref());
    let Some(Address::SocketAddress(socket)) = address else {
        panic!("no address");
    };
    let Some(PortSpecifier::PortValue(port)) = &socket.port_specifier else {
        panic!("no port");
    };
    match endpoint.health_status == i32::from(HealthStatus::Healthy) {
        true => port.to_string(),
        false => format!("({port})"),
    }
}

/// A delivery, its clock, and one connected proxy.
struct Scene {
    delivery: Delivery,
    now: Instant,
    report: Option<ProcessReport>,
    connected: bool,
}

impl Scene {
    fn new() -> Self {
        Scene {
            delivery: Delivery::new(Code::Path("f.wasm".to_owned()), INTERVAL),
            now: Instant::now(),
            report: None,
            connected: true,
        }
    }

    fn passes(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
    }

    /// The snapshot that is served now; empty: no new one.
    fn serves(&mut self) -> String {
        let reports = [self.report.as_ref()];
        let reports = if self.connected { &reports[..] } else { &[] };
        let snapshot = self.delivery.step(self.now, reports);
        snapshot.map_or_else(String::new, |snapshot| words(&snapshot))
    }

    fn wants(&mut self, words: &str) -> String {
        self.delivery.want(registry(words));
        self.serves()
    }

    /// The workers say which registries they run.
    fn runs(&mut self, registries: &[&str]) -> String {
        self.passes(1);
        self.report = Some(ProcessReport {
            revisions: registries
                .iter()
                .map(|words| registry(words).revision)
                .collect(),
            workers: 2,
            refused: None,
            written: None,
            since: self.now,
            seen: self.now,
            unserving: None,
            idle: false,
            asks_left: 0,
        });
        self.serves()
    }
}

#[test]
fn the_first_change_leaves_at_once_and_the_next_at_the_pace() {
    let mut scene = Scene::new();
    assert_eq!(scene.serves(), "");
    assert_eq!(scene.delivery.wake(), None);
    assert_eq!(scene.wants("a:1"), "a:1");
    scene.passes(100);
    assert_eq!(scene.wants("a:1,2"), "");
    assert_eq!(scene.wants("a:1,2,3"), "");
    assert_eq!(
        scene.delivery.wake(),
        Some(scene.now + Duration::from_millis(400))
    );
    scene.passes(400);
    assert_eq!(scene.serves(), "a:1,2,3", "only the newest leaves");
    scene.passes(60_000);
    assert_eq!(
        scene.wants("a:1,2,3"),
        "",
        "nothing changed, and no turn was used"
    );
    assert_eq!(scene.wants("a:1,2,3,4"), "a:1,2,3,4");
    scene.passes(1);
    assert_eq!(scene.wants("a:1"), "");
    assert_eq!(scene.wants("a:1,2,3,4"), "", "changed back in time");
    scene.passes(500);
    assert_eq!(scene.serves(), "");
}

#[test]
fn another_probe_is_no_news_for_envoy() {
    let mut scene = Scene::new();
    assert_eq!(scene.wants("a:1"), "a:1");
    scene.passes(60_000);
    let mut probed = registry("a:1").config.clusters[0].to_value();
    probed["healthCheck"] = json!({"tcp": {}});
    let probed = registry_of(vec![ClusterConfig::parse(&probed).unwrap()]);
    assert_ne!(probed.config, registry("a:1").config);
    scene.delivery.want(probed);
    assert_eq!(scene.serves(), "", "and no turn was used");
    assert_eq!(scene.wants("a:1,2"), "a:1,2");
}

#[test]
fn what_is_removed_stays_until_every_worker_has_forgotten_it() {
    let mut scene = Scene::new();
    scene.wants("a:1,2 b:7");
    assert_eq!(scene.runs(&["a:1,2 b:7"]), "");
    scene.passes(1000);
    assert_eq!(
        scene.wants("a:1"),
        "a:1,(2) b:7",
        "a cluster on its way out serves as before"
    );
    assert_eq!(scene.serves(), "", "the report is from before");
    assert_eq!(scene.runs(&["a:1,2 b:7"]), "");
    assert_eq!(scene.runs(&["a:1", "a:1,2 b:7"]), "", "one worker is busy");
    assert_eq!(scene.runs(&[]), "", "no worker says anything");
    assert_eq!(scene.runs(&["x:1"]), "", "nobody knows that one");
    assert_eq!(scene.runs(&["a:1"]), "a:1");
    assert!(!scene.delivery.has_leaving());
}

#[test]
fn a_removal_waits_no_longer_than_the_grace() {
    let mut scene = Scene::new();
    scene.wants("a:1,2");
    scene.passes(1000);
    assert_eq!(scene.wants("a:1"), "a:1,(2)");
    assert_eq!(scene.delivery.wake(), Some(scene.now + REMOVAL_GRACE));
    scene.passes(29_999);
    assert_eq!(scene.serves(), "");
    scene.passes(1);
    assert_eq!(scene.serves(), "a:1");
    assert_eq!(scene.delivery.wake(), None);
}

#[test]
fn without_a_proxy_nothing_waits() {
    let mut scene = Scene::new();
    scene.connected = false;
    scene.wants("a:1,2 b:1");
    scene.passes(1000);
    scene.wants("a:1");
    assert_eq!(scene.serves(), "a:1");
}

#[test]
fn a_removal_does_not_slow_the_next_change() {
    let mut scene = Scene::new();
    scene.wants("a:1,2");
    scene.passes(1000);
    scene.wants("a:1");
    scene.passes(600);
    assert_eq!(scene.runs(&["a:1"]), "a:1");
    assert_eq!(scene.wants("a:1 b:1"), "a:1 b:1", "letting go is no change");
}

#[test]
fn later_changes_count_as_having_passed_earlier_ones() {
    let mut scene = Scene::new();
    scene.wants("a:1,2,3");
    scene.passes(1000);
    assert_eq!(scene.wants("a:1,2"), "a:1,2,(3)");
    scene.passes(1000);
    assert_eq!(scene.wants("a:1"), "a:1,(2),(3)");
    assert_eq!(scene.runs(&["a:1,2", "a:1"]), "a:1,(2)", "3 is in neither");
    assert_eq!(scene.runs(&["a:1"]), "a:1");
}

#[test]
fn what_comes_back_while_it_leaves_stays() {
    let mut scene = Scene::new();
    scene.wants("a:1,2 b:5,6");
    scene.passes(1000);
    assert_eq!(scene.wants("a:1"), "a:1,(2) b:5,6");
    scene.passes(1000);
    assert_eq!(scene.wants("a:1,2 b:6"), "a:1,2 b:(5),6");
    scene.passes(30_000);
    assert_eq!(scene.serves(), "a:1,2 b:6");
}

#[test]
fn a_revision_that_comes_back_does_not_vouch_for_the_past() {
    let mut scene = Scene::new();
    scene.wants("a:1");
    scene.runs(&["a:1"]);
    scene.passes(1000);
    scene.wants("a:1,2");
    scene.passes(1000);
    // The workers may run the one between by now; their last report is older than it.
    assert_eq!(scene.wants("a:1"), "a:1,(2)");
    assert_eq!(scene.serves(), "");
    assert_eq!(scene.runs(&["a:1"]), "a:1");
}

#[test]
fn the_memory_of_revisions_is_bounded() {
    let mut scene = Scene::new();
    for port in 1..=2 * REVISIONS_MAX {
        scene.passes(500);
        scene.wants(&format!("a:{port}"));
    }
    assert_eq!(scene.delivery.revisions.len(), REVISIONS_MAX);
    scene.passes(30_000);
    scene.serves();
    assert!(!scene.delivery.has_leaving());
}

#[tokio::test(start_paused = true)]
async fn a_removal_waits_for_every_process_of_a_node() {
    let mut delivery = Delivery::new(Code::Path("f.wasm".to_owned()), INTERVAL);
    let (fleet, proxies) = (watch::Sender::default(), watch::Sender::default());
    let proxy = |number: u64| {
        let proxy = crate::xds::Proxy {
            node: "edge".to_owned(),
            connected: Instant::now(),
            types: BTreeMap::new(),
        };
        (number, proxy)
    };
    proxies.send_modify(|proxies: &mut Proxies| proxies.streams = (1..3).map(proxy).collect());
    let serves = |delivery: &mut Delivery| {
        let (mut fleet, mut proxies) = (fleet.subscribe(), proxies.subscribe());
        step(delivery, &mut fleet, &mut proxies).map(|snapshot| words(&snapshot))
    };
    let runs = |process: u64, words: &str| {
        let request = pointsman_filter::fleet::exchange::Request {
            node: "edge".to_owned(),
            process: Some(process),
            revisions: vec![registry(words).revision],
            ..Default::default()
        };
        crate::fleet::take(&fleet, request, Instant::now());
    };
    delivery.want(registry("a:1,2"));
    serves(&mut delivery);
    tokio::time::advance(Duration::from_secs(1)).await;
    delivery.want(registry("a:1"));
    assert_eq!(serves(&mut delivery).as_deref(), Some("a:1,(2)"));
    tokio::time::advance(Duration::from_millis(1)).await;
    runs(1, "a:1");
    assert_eq!(serves(&mut delivery), None, "the other has not reported");
    runs(2, "a:1,2");
    runs(1, "a:1");
    assert_eq!(serves(&mut delivery), None, "the other still names it");
    runs(2, "a:1");
    assert_eq!(serves(&mut delivery).as_deref(), Some("a:1"));
}

#[tokio::test(start_paused = true)]
async fn the_stage_publishes_and_ends() {
    let published = watch::Sender::new(Some(registry("a:1")));
    let fleet = watch::Sender::new(Fleet::default());
    let proxies = watch::Sender::new(Proxies::default());
    let (trust, offers) = (watch::Sender::default(), watch::Sender::new(None));
    let mut served = offers.subscribe();
    let stop = CancellationToken::new();
    let stage = tokio::spawn(run(
        Delivery::new(Code::Path("f.wasm".to_owned()), INTERVAL),
        published.subscribe(),
        trust.subscribe(),
        (fleet.subscribe(), proxies.subscribe()),
        offers,
        stop.clone(),
    ));
    let start = Instant::now();
    for (wanted, seen) in [("a:1", "a:1"), ("a:1,2", "a:1,2"), ("a:2", "a:2")] {
        published.send_replace(Some(registry(wanted)));
        // With nobody connected, what leaves is gone one turn later.
        let is = |offer: &Option<Arc<Offer>>| {
            let offer = offer.as_ref();
            offer.is_some_and(|offer| words(&offer.whole) == seen)
        };
        served.wait_for(is).await.unwrap();
    }
    assert!(start.elapsed() >= 2 * INTERVAL && start.elapsed() < 3 * INTERVAL);
    stop.cancel();
    stage.await.unwrap().unwrap();
}
