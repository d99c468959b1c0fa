//! Configurations and the sidecar's answers: good ones, and garbage.

use pointsman_filter::base::hash::BackendKey;
use pointsman_filter::config::SCHEMA;
use pointsman_filter::fleet::exchange::{Answer, ClusterVerdicts, Request, Version};
use serde_json::{Value, json};

use super::chance::Chance;

/// Clusters that configurations, requests and verdicts speak of.
pub const CLUSTERS: [&str; 4] = ["orders", "users", "a.b|c/d", "empty"];

/// A configuration as the sidecar writes it.
pub fn configuration(chance: &mut Chance) -> Value {
    // Small ones: reading them is most of a sequence's time.
    let count = *chance.pick(&[1, 1, 1, 1, 2, 2, 4, 0]);
    let clusters: Vec<Value> = (0..count).map(|i| cluster(CLUSTERS[i], chance)).collect();
    let mut container = json!({"schema": 1, "clusters": clusters});
    if !chance.in_1000(200) {
        container["exchange"] = json!({
            "cluster": "pointsman_sidecar", "verdictTtl": chance.pick(&["1s", "30s", "24h"]),
            "token": chance.pick(&["", "secret"]),
        });
        container["revision"] = format!("{:016x}", chance.draw() % 4).into();
    }
    if chance.in_1000(100) {
        container["schema"] = (SCHEMA + 1).into();
        container["later"] = json!([{}]);
    }
    container
}

fn cluster(name: &str, chance: &mut Chance) -> Value {
    let backends = if name == "empty" {
        0
    } else {
        1 + chance.below(4)
    };
    let backends: Vec<Value> = (0..backends).map(|i| backend(i, chance)).collect();
    let mut cluster = json!({
        "name": name, "backends": backends,
        "loadBalancing": {
            "policy": chance.pick(&["RoundRobin", "Random", "LeastLoaded", "PowerOfTwo", "Tiered"]),
            "metric": chance.pick(&["Requests", "Connections", "ConnectionTime", "Latency"]),
        },
        "retry": {"attempts": 1 + chance.below(5)},
        "backoff": {"base": chance.pick(&["10ms", "1s", "1h"]), "max": "1h", "maxTries": 1 + chance.below(9)},
        "whenAllUnhealthy": chance.pick(&["FailOpen", "Refuse"]),
    });
    if chance.in_1000(500) {
        cluster["sticky"] = json!({"cookie": chance.pick(&["P", "POINTSMAN"])});
    }
    if chance.in_1000(300) {
        cluster["retry"]["on"] = json!(["ConnectFailure", "GatewayError", 429]);
        cluster["retry"]["perTryTimeout"] = "50ms".into();
    }
    if chance.in_1000(600) {
        cluster["jsonRpc"] = json!({
            "maxBatch": 1 + chance.below(12), "maxBodyBytes": chance.pick(&[1, 40, 262_144]),
            "errors": chance.pick(&["Pass", "Map"]), "methods": ["a"],
        });
    }
    if chance.in_1000(300) {
        cluster["rateLimit"] = json!({"perSecond": 1, "burst": 1 + chance.below(12)});
    }
    if chance.in_1000(300) {
        cluster["refusal"] = json!({"body": "so ’n Pech", "contentType": "text/plain"});
    }
    cluster
}

/// A body, or a piece of one.
pub fn body(chance: &mut Chance) -> Vec<u8> {
    let whole = *chance.pick(&[
        r#"{"jsonrpc":"2.0","id":7,"method":"a","params":[1]}"#,
        r#"{"id":"\u0041","params":{},"#,
        r#""method":"b"}"#,
        r#"[{"method":"a","id":1},{"method":"b"}]"#,
        "[1,2,3,4,5,6,7,8,9,10,11,12]",
        "[",
        "]",
        "",
        "no",
    ]);
    match chance.in_1000(200) {
        true => chance.spoil(whole.as_bytes().to_vec()),
        false => whole.as_bytes().to_vec(),
    }
}

fn backend(index: usize, chance: &mut Chance) -> Value {
    // Some share an address.
    let address = format!("10.0.0.{}:80", 1 + chance.below(index + 1));
    json!({
        "id": format!("{index}"), "address": address, "weight": chance.pick(&[0, 1, 100, 65_535]),
        "backup": chance.in_1000(250),
        "state": chance.pick(&["Normal", "Normal", "Normal", "Draining", "Cordoned"]),
    })
}

/// The same with something wrong: another value somewhere, or broken bytes.
pub fn spoiled(mut value: Value, chance: &mut Chance) -> Vec<u8> {
    for _ in 0..chance.below(3) {
        replace_somewhere(&mut value, chance);
    }
    let bytes = value.to_string().into_bytes();
    match chance.below(4) {
        0 => chance.bytes(60),
        1 => chance.spoil(bytes),
        2 => b"[".repeat(chance.below(3000)),
        _ => bytes,
    }
}

fn replace_somewhere(value: &mut Value, chance: &mut Chance) {
    let inner: Vec<&mut Value> = match value {
        Value::Object(map) => map.values_mut().collect(),
        Value::Array(items) => items.iter_mut().collect(),
        _ => Vec::new(),
    };
    let count = inner.len();
    if count > 0 && !chance.in_1000(250) {
        let nth = chance.below(count);
        if let Some(inner) = inner.into_iter().nth(nth) {
            return replace_somewhere(inner, chance);
        }
    }
    let any = chance.draw();
    *value = chance
        .pick(&[
            Value::Null,
            json!(any),
            json!(-1),
            json!(1e308),
            json!(""),
            json!("\u{0}é\r\nset-cookie: a=b"),
            json!("x".repeat(5000)),
            json!([]),
            json!({"name": {}}),
            json!("99999999999999999999h"),
        ])
        .clone();
}

/// What the sidecar may answer to a post, or what it never would.
pub fn answer(post: &[u8], chance: &mut Chance) -> Vec<u8> {
    let have = Request::parse(post).map(|request| request.have);
    let version = Version {
        epoch: 1 + chance.below(2) as u64,
        counter: chance.below(9) as u64,
        revision: chance.below(4) as u64,
    };
    let clusters = (0..chance.below(6)).map(|_| verdicts(chance)).collect();
    let answer = Answer {
        version: match have {
            Ok(have) if chance.in_1000(200) => have,
            _ => version,
        },
        full: chance.in_1000(500),
        clusters,
        hand_back: chance.in_1000(100),
    };
    let bytes = answer.to_json().into_bytes();
    match chance.below(5) {
        0 => chance.spoil(bytes),
        1 => chance.bytes(100),
        _ => bytes,
    }
}

fn verdicts(chance: &mut Chance) -> ClusterVerdicts {
    let any = chance.extreme();
    ClusterVerdicts {
        name: (*chance.pick(&[CLUSTERS[0], CLUSTERS[1], "gone", ""])).to_owned(),
        unhealthy: (0..chance.below(6))
            .map(|_| super::records::key(chance))
            .collect(),
        healthy: vec![super::records::key(chance), BackendKey(any)],
    }
}
