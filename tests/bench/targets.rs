//! What the figures ought to be, and whether they are.

use harness::artefacts::MODULE_BYTES_MAX;
use serde_json::{Value, json};

use crate::profile::Profile;

/// A figure of the report and its limit.
struct Target {
    id: &'static str,
    /// JSON pointer into the report.
    path: &'static str,
    limit: Limit,
    /// Why it may be missed, from the profile of the case.
    reason: &'static str,
}

enum Limit {
    AtMost(f64),
    /// Below so many times another figure.
    Times(f64, &'static str),
}

const TARGETS: &[Target] = &[
    Target {
        id: "cpu.3.toPicker",
        path: "/cpu/pointsman.PowerOfTwo.3/toNoop/median",
        limit: Limit::Times(1.05, "/cpu/picker/toNoop/median"),
        reason: "the retry headers: the picker writes none, so that Envoy has no retries to keep for it",
    },
    Target {
        id: "cpu.3.toNoop",
        path: "/cpu/pointsman.PowerOfTwo.3/toNoop/median",
        limit: Limit::AtMost(1.32),
        reason: "the rest is what cpu.3.toPicker says, and that picker's own ratio",
    },
    Target {
        id: "cpu.3.lua",
        path: "/cpu/pointsman.PowerOfTwo.3/toNative/median",
        limit: Limit::Times(1.0, "/cpu/lua/toNative/median"),
        reason: "the Lua filter counts round and writes one header: it knows no cluster and no gates, asks \
                 for no retries and never learns who answered",
    },
    Target {
        id: "cpu.3.extProc",
        path: "/cpu/pointsman.PowerOfTwo.3/toNative/median",
        limit: Limit::Times(0.65, "/cpu/extProc/toNative/median"),
        reason: "the no-op module alone took its share of it, see its ratio to native",
    },
    Target {
        id: "cpu.3.sticky",
        path: "/cpu/pointsman.PowerOfTwo.3.sticky/toNoop/median",
        limit: Limit::Times(1.06, "/cpu/pointsman.PowerOfTwo.3/toNoop/median"),
        reason: "",
    },
    Target {
        id: "cpu.3.gated",
        path: "/cpu/pointsman.PowerOfTwo.3.gated/toNoop/median",
        limit: Limit::Times(1.06, "/cpu/pointsman.PowerOfTwo.3/toNoop/median"),
        reason: "",
    },
    Target {
        id: "cpu.3.checked",
        path: "/cpu/pointsman.PowerOfTwo.3.checked/toNoop/median",
        limit: Limit::Times(1.06, "/cpu/pointsman.PowerOfTwo.3/toNoop/median"),
        reason: "",
    },
    Target {
        id: "cpu.3.tree1000",
        path: "/cpu/pointsman.PowerOfTwo.3.tree1000/toNoop/median",
        limit: Limit::Times(1.03, "/cpu/pointsman.PowerOfTwo.3/toNoop/median"),
        reason: "",
    },
    Target {
        id: "cpu.10000.toNoop",
        path: "/cpu/pointsman.PowerOfTwo.10000/toNoop/median",
        limit: Limit::Times(1.06, "/cpu/pointsman.PowerOfTwo.3/toNoop/median"),
        reason: "",
    },
    Target {
        id: "limits.10",
        path: "/pairs/limits.10/moreUs/median",
        limit: Limit::AtMost(2.5),
        reason: "the clock is read; for each 33 picks of a backend, and once a tick, its bucket is read, a \
                 call back into the VM, and written",
    },
    Target {
        id: "jsonRpc.1kB",
        path: "/pairs/jsonRpc.last/moreUs/median",
        limit: Limit::AtMost(6.0),
        reason: "all headers and the body are handed over instead of the method, and it is counted; Envoy \
                 holds the request; each byte is looked at once",
    },
    Target {
        id: "role",
        path: "/pairs/role/moreUs/median",
        limit: Limit::AtMost(4.0),
        reason: "another filter of Envoy's with its four callbacks, which alone is half of it; the mark is \
                 written, and the status read",
    },
    Target {
        id: "core.pick.3",
        path: "/core/PowerOfTwo.pick.3/ns",
        limit: Limit::AtMost(40.0),
        reason: "",
    },
    Target {
        id: "core.pick.100",
        path: "/core/PowerOfTwo.pick.100/ns",
        limit: Limit::AtMost(100.0),
        reason: "",
    },
    Target {
        id: "core.pick.1000",
        path: "/core/PowerOfTwo.pick.1000/ns",
        limit: Limit::AtMost(100.0),
        reason: "",
    },
    Target {
        id: "core.pick.10000",
        path: "/core/PowerOfTwo.pick.10000/ns",
        limit: Limit::AtMost(100.0),
        reason: "",
    },
    Target {
        id: "core.list4.3",
        path: "/core/PowerOfTwo.list4.3/ns",
        limit: Limit::AtMost(100.0),
        reason: "",
    },
    Target {
        id: "core.list4.1000",
        path: "/core/PowerOfTwo.list4.1000/ns",
        limit: Limit::AtMost(1000.0),
        reason: "",
    },
    Target {
        id: "core.half.decision",
        path: "/core/half.decision.10000/ns",
        limit: Limit::AtMost(5000.0),
        reason: "",
    },
    Target {
        id: "core.half.change",
        path: "/core/half.change.10000/ns",
        limit: Limit::AtMost(200_000.0),
        reason: "",
    },
    Target {
        id: "core.tick.64",
        path: "/core/tick.64/ns",
        limit: Limit::AtMost(1_000_000.0),
        reason: "each record is read into memory that the C library maps and gives back every time; the \
                 module's allocator keeps it",
    },
    Target {
        id: "keys.Rendezvous.weights",
        path: "/keys/Rendezvous.weights.10/offPercent",
        limit: Limit::AtMost(2.0),
        reason: "",
    },
    Target {
        id: "keys.Rendezvous.down",
        path: "/keys/Rendezvous.keys.1000/down",
        limit: Limit::AtMost(1.1),
        reason: "",
    },
    Target {
        id: "keys.Rendezvous.removed",
        path: "/keys/Rendezvous.keys.1000/removed",
        limit: Limit::AtMost(1.1),
        reason: "",
    },
    Target {
        id: "keys.Maglev.weights",
        path: "/keys/Maglev.weights.10/offPercent",
        limit: Limit::AtMost(2.0),
        reason: "",
    },
    Target {
        id: "keys.Maglev.down",
        path: "/keys/Maglev.keys.1000/down",
        limit: Limit::AtMost(1.1),
        reason: "",
    },
    Target {
        id: "keys.Maglev.removed",
        path: "/keys/Maglev.keys.1000/removed",
        limit: Limit::AtMost(10.0),
        reason: "",
    },
    Target {
        id: "keys.Maglev.first",
        path: "/keys/Maglev.keys.10000/firstMs",
        limit: Limit::AtMost(30.0),
        reason: "",
    },
    Target {
        id: "keys.Maglev.pick",
        path: "/keys/Maglev.keys.10000/ns",
        limit: Limit::AtMost(100.0),
        reason: "",
    },
    Target {
        id: "delivery.1000.workerMs",
        path: "/delivery/demo.1000/workerMs",
        limit: Limit::AtMost(2.0),
        reason: "",
    },
    Target {
        id: "delivery.10000.workerMs",
        path: "/delivery/demo.10000/workerMs",
        limit: Limit::AtMost(20.0),
        reason: "",
    },
    Target {
        id: "delivery.1000.p99",
        path: "/delivery/demo.1000/p99Ms",
        limit: Limit::AtMost(50.0),
        reason: "the sidecar, Envoy's canary and both workers read the registry one after another, on two \
                 cores that also carry the load",
    },
    Target {
        id: "delivery.redis.1000.p99",
        path: "/delivery/redis.1000/p99Ms",
        limit: Limit::AtMost(50.0),
        reason: "as delivery.1000.p99, with redis-server on the same two cores",
    },
    Target {
        id: "delivery.kubernetes.1000.p99",
        path: "/delivery/kubernetes.1000/p99Ms",
        limit: Limit::AtMost(100.0),
        reason: "most of it is the API server, which applies, validates and stores an object of 1,000 \
                 backends before it answers (writeP50Ms), on the same two cores; ours is \
                 the rest",
    },
    Target {
        id: "fanout.100.p99",
        path: "/fanout/100.100x20/p99Ms",
        limit: Limit::AtMost(200.0),
        reason: "the simulated proxies share the two cores with the sidecar",
    },
    Target {
        id: "fanout.1000.p99",
        path: "/fanout/1000.100x20/p99Ms",
        limit: Limit::AtMost(1000.0),
        reason: "as fanout.100.p99",
    },
    Target {
        id: "fanout.1000.large.p99",
        path: "/fanout/1000.1000x20/p99Ms",
        limit: Limit::AtMost(5000.0),
        reason: "as fanout.100.p99; every proxy gets the whole registry anew with each change",
    },
    Target {
        id: "fanout.1000.large.mb",
        path: "/fanout/1000.1000x20/residentMb",
        limit: Limit::AtMost(400.0),
        reason: "",
    },
    Target {
        id: "delivery.clusters.1000.workerMs",
        path: "/delivery/clusters.1000/workerMs",
        limit: Limit::AtMost(0.5),
        reason: "",
    },
    Target {
        id: "delivery.clusters.10000.workerMs",
        path: "/delivery/clusters.10000/workerMs",
        limit: Limit::AtMost(2.0),
        reason: "",
    },
    Target {
        id: "delivery.clusters.1000.p99",
        path: "/delivery/clusters.1000/p99Ms",
        limit: Limit::AtMost(50.0),
        reason: "as delivery.1000.p99",
    },
    Target {
        id: "delivery.clusters.10000.p99",
        path: "/delivery/clusters.10000/p99Ms",
        limit: Limit::AtMost(120.0),
        reason: "as delivery.1000.p99",
    },
    Target {
        id: "failover.errors",
        path: "/failover/killOneOfThree/errors",
        limit: Limit::AtMost(0.0),
        reason: "",
    },
    Target {
        id: "vm.1000",
        path: "/vm/1000/bytes",
        limit: Limit::AtMost(2.0 * 1024.0 * 1024.0),
        reason: "",
    },
    Target {
        id: "wasm.bytes",
        path: "/wasm/bytes",
        limit: Limit::AtMost(MODULE_BYTES_MAX as f64),
        reason: "",
    },
];

/// The targets, each with the figure of this report.
pub fn judge(report: &Value, profile: &Profile) -> Vec<Value> {
    let figure = |path: &str| report.pointer(path).and_then(Value::as_f64);
    let one = |target: &Target| {
        let (limit, op) = match target.limit {
            Limit::AtMost(limit) => (Some(limit), "<="),
            Limit::Times(times, path) => (figure(path).map(|figure| figure * times), "<"),
        };
        let value = figure(target.path);
        let met = value.zip(limit).map(|(value, limit)| match op {
            "<=" => value <= limit,
            _ => value < limit,
        });
        let reason = match met {
            Some(true) => "",
            Some(false) => target.reason,
            None if !profile.only.is_empty() => "only some cases were asked for",
            None if profile.quick => "not in the quick profile",
            None => "the case failed, or its cost was lost in what goes on beside it",
        };
        json!({
            "id": target.id, "path": target.path, "op": op, "limit": limit, "value": value,
            "met": met, "reason": reason,
        })
    };
    TARGETS.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_met_missed_or_unknown() {
        let report = json!({
            "wasm": {"bytes": MODULE_BYTES_MAX + 1},
            "failover": {"killOneOfThree": {"errors": 1}},
            "cpu": {
                "lua": {"toNative": {"median": 1.2}},
                "pointsman.PowerOfTwo.3": {"toNative": {"median": 1.1}},
            },
        });
        let judged = judge(&report, &Profile::from_environment());
        let met = |id: &str| judged.iter().find(|t| t["id"] == id).unwrap()["met"].clone();
        assert_eq!(met("wasm.bytes"), json!(false));
        assert_eq!(met("cpu.3.lua"), json!(true));
        assert_eq!(met("failover.errors"), json!(false));
        assert_eq!(met("core.pick.3"), Value::Null);
    }
}
