//! Slices in, backends out.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use proptest::collection::vec;
use proptest::prelude::{Strategy, any, proptest};
use serde_json::{Value, json};

use super::*;

fn slice(name: &str, ports: &Value, endpoints: &Value) -> EndpointSlice {
    let slice = json!({
        "metadata": {"name": name, "labels": {SERVICE_LABEL: "web"}},
        "addressType": "IPv4", "ports": ports, "endpoints": endpoints,
    });
    serde_json::from_value(slice).expect("a slice")
}

fn pod(name: &str, ip: &str, conditions: &Value) -> Value {
    let target = json!({"kind": "Pod", "name": name});
    json!({"addresses": [ip], "conditions": conditions, "targetRef": target})
}

fn http() -> Value {
    json!([{"name": "http", "port": 80, "protocol": "TCP"}])
}

fn web(port: Option<Port>) -> [ServiceRef; 1] {
    let name = "web".to_owned();
    [ServiceRef { name, port }]
}

fn seen(resolved: &Resolved) -> Vec<String> {
    let line = |it: &BackendConfig| format!("{} {} {}", it.id, it.address, it.state.name());
    resolved.backends.iter().map(line).collect()
}

#[test]
fn conditions_decide_who_is_in() {
    for (ready, serving, terminating, expected) in [
        (None, None, None, Some(State::Normal)),
        (Some(true), Some(true), Some(false), Some(State::Normal)),
        (Some(false), Some(true), Some(true), Some(State::Draining)),
        (Some(true), Some(true), Some(true), Some(State::Draining)),
        (Some(false), Some(false), Some(true), None),
        (Some(false), None, None, None),
        (Some(false), Some(false), Some(false), None),
    ] {
        let conditions = EndpointConditions {
            ready,
            serving,
            terminating,
        };
        let found = state(Some(&conditions));
        assert_eq!(found, expected, "{conditions:?}");
    }
    assert_eq!(state(None), Some(State::Normal));
}

#[test]
fn slices_come_change_and_go() {
    let mut slices = Services::default();
    let none = slices.find(&web(None));
    assert_eq!(none.missing, ["Service web has no EndpointSlice"]);
    let one = json!([pod("a", "10.0.0.1", &json!({}))]);
    assert!(slices.put(slice("web-1", &http(), &one)));
    assert!(!slices.put(slice("web-1", &http(), &one)), "nothing new");
    // An endpoint that moves from one slice to another stands in both for a while.
    let both = json!([
        pod("a", "10.0.0.1", &json!({})),
        pod(
            "b",
            "10.0.0.2",
            &json!({"ready": false, "serving": true, "terminating": true})
        ),
    ]);
    assert!(slices.put(slice("web-2", &http(), &both)));
    let resolved = slices.find(&web(None));
    assert_eq!(
        seen(&resolved),
        ["a 10.0.0.1:80 Normal", "b 10.0.0.2:80 Draining"]
    );
    let mut deleted = slice("web-2", &http(), &both);
    deleted.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    assert!(slices.put(deleted.clone()), "a finalizer holds it");
    assert_eq!(seen(&slices.find(&web(None))), ["a 10.0.0.1:80 Normal"]);
    assert!(!slices.put(deleted));
    assert!(!slices.remove(&slice("web-2", &http(), &both)));
    assert!(slices.remove(&slice("web-1", &http(), &one)));
    assert!(!slices.remove(&slice("web-1", &http(), &one)));
    assert_eq!(slices.find(&web(None)).backends, []);
}

#[test]
fn ports_are_found_by_name_by_number_or_alone() {
    let mut slices = Services::default();
    let ports = json!([
        {"name": "http", "port": 80}, {"name": "admin", "port": 81},
        {"name": "dns", "port": 53, "protocol": "UDP"},
    ]);
    let one = json!([pod("a", "10.0.0.1", &json!({}))]);
    slices.put(slice("web-1", &ports, &one));
    for (port, expected) in [
        (
            Some(Port::Name("admin".to_owned())),
            Some("a 10.0.0.1:81 Normal"),
        ),
        (Some(Port::Number(80)), Some("a 10.0.0.1:80 Normal")),
        (Some(Port::Number(53)), None),
        (None, None),
    ] {
        let resolved = slices.find(&web(port.clone()));
        assert_eq!(
            seen(&resolved).first().map(String::as_str),
            expected,
            "{port:?}"
        );
        assert_eq!(resolved.missing.is_empty(), expected.is_some(), "{port:?}");
    }
}

#[test]
fn a_pod_is_one_backend_and_ids_are_unique() {
    let mut slices = Services::default();
    let dual = json!([
        pod("a", "10.0.0.1", &json!({})),
        pod("a", "fd00::1", &json!({}))
    ]);
    slices.put(slice("web-1", &http(), &dual));
    let twice = [web(None), web(Some(Port::Number(80)))].concat();
    let resolved = slices.find(&twice);
    let expected = ["a 10.0.0.1:80 Normal", "web/a 10.0.0.1:80 Normal"];
    assert_eq!(seen(&resolved), expected);
    // No pod behind it: the address is the id, as in any other record.
    let bare = json!([{"addresses": ["10.0.0.9"]}, {"addresses": ["a.example"]}]);
    slices.put(slice("web-1", &http(), &bare));
    let resolved = slices.find(&web(None));
    assert_eq!(seen(&resolved), ["10.0.0.9:80 10.0.0.9:80 Normal"]);
    assert!(!resolved.backends[0].id_given);
}

const READY: Value = Value::Null;

fn leaving() -> Value {
    json!({"ready": false, "serving": true, "terminating": true})
}

#[test]
fn what_is_ready_goes_before_what_terminates() {
    let (a, b) = ("10.0.0.1", "10.0.0.9");
    for (endpoints, expected) in [
        // Of one address, in two slices and twice in one.
        (
            [pod("p", a, &leaving()), pod("p", a, &READY)],
            "p 10.0.0.1:80 Normal",
        ),
        // Of one pod's addresses.
        (
            [pod("p", a, &leaving()), pod("p", b, &READY)],
            "p 10.0.0.9:80 Normal",
        ),
        // Of two pods on one address.
        (
            [pod("p", a, &leaving()), pod("q", a, &READY)],
            "q 10.0.0.1:80 Normal",
        ),
    ] {
        let [first, second] = endpoints;
        for (first, second) in [(&first, &second), (&second, &first)] {
            let mut one = Services::default();
            one.put(slice("web-1", &http(), &json!([first, second])));
            let mut two = Services::default();
            two.put(slice("web-1", &http(), &json!([first])));
            two.put(slice("web-2", &http(), &json!([second])));
            for services in [one, two] {
                assert_eq!(seen(&services.find(&web(None))), [expected]);
            }
        }
    }
}

/// An endpoint: its pod, its address, whether it is ready.
type Seen = (Option<u8>, u8, bool);

fn endpoint((pod, address, ready): Seen) -> Value {
    let conditions = if ready { READY } else { leaving() };
    let mut endpoint = self::pod("", &format!("10.0.0.{}", address + 1), &conditions);
    match pod {
        Some(pod) => endpoint["targetRef"]["name"] = json!(format!("p-{pod}")),
        None => endpoint["targetRef"] = Value::Null,
    }
    endpoint
}

/// What these slices come to, as the test knows endpoints.
fn found(slices: &[Vec<Seen>]) -> BTreeSet<Seen> {
    let mut services = Services::default();
    for (index, endpoints) in slices.iter().enumerate() {
        let endpoints: Vec<Value> = endpoints.iter().copied().map(endpoint).collect();
        let name = format!("web-{index}");
        services.put(slice(&name, &http(), &json!(endpoints)));
    }
    let backends = services.find(&web(None)).backends;
    let number = |text: &str| text.parse::<u8>().expect("a number");
    let seen = |it: &BackendConfig| {
        let pod = it.id.strip_prefix("p-").map(number);
        let ip = it.address.ip().to_string();
        let address = number(ip.rsplit('.').next().expect("a part")) - 1;
        (pod, address, it.state == State::Normal)
    };
    let all: BTreeSet<Seen> = backends.iter().map(seen).collect();
    assert_eq!(all.len(), backends.len(), "{backends:?}");
    all
}

fn endpoints() -> impl Strategy<Value = Vec<Vec<Seen>>> {
    let pod = (0..4u8).prop_map(|pod| (pod > 0).then_some(pod));
    vec(vec((pod, 0..4u8, any::<bool>()), 0..5), 0..5)
}

proptest! {
    /// However slices are cut, named and ordered: a pod and an address is served once, and ready where
    /// anything says so.
    #[test]
    fn of_endpoints_the_ready_are_served_in_any_order(slices in endpoints(), turn in 0..5usize) {
        let served = found(&slices);
        let all: BTreeSet<Seen> = slices.iter().flatten().copied().collect();
        assert!(served.is_subset(&all));
        let pods = served.iter().filter_map(|it| it.0);
        let addresses = served.iter().map(|it| it.1);
        assert_eq!(pods.clone().collect::<BTreeSet<_>>().len(), pods.count());
        assert_eq!(addresses.clone().collect::<BTreeSet<_>>().len(), addresses.count());
        for (pod, address, ready) in all {
            // Its address is served, or its pod elsewhere; as ready as it is.
            let by = |it: &&Seen| it.1 == address || (pod.is_some() && it.0 == pod);
            let best = served.iter().filter(by).any(|it| it.2 || !ready);
            assert!(best, "{pod:?} at {address}, ready {ready}: {served:?}");
        }
        let mut turned = slices.clone();
        turned.rotate_left(turn.min(slices.len()));
        turned.iter_mut().for_each(|slice| slice.reverse());
        assert_eq!(found(&turned), served);
        let one: Vec<Seen> = turned.concat();
        assert_eq!(found(&[one]), served);
    }
}
