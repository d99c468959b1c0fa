//! Slices in, backends out.

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
    assert!(slices.remove(&slice("web-2", &http(), &both)));
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
