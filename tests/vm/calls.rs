//! Every host call of every kind of request, in order. A call costs up to a microsecond, more than a
//! whole decision does: one more or less is a deliberate edit of a list here.
//!
//! Of a key in shared data the lists say format and kind: `2/g` are a cluster's gates, `2/b` its buckets.

mod json_rpc;
mod keys;
mod limits;
mod ranks;
mod roles;
mod trials;

use anyhow::{Context, Result, bail, ensure};
use harness::artefacts;
use harness::vm::stream::{self, Calls, Ending, Request};
use harness::vm::{Program, ROOT, Vm};
use pointsman_filter::config::{SCHEMA, UPSTREAM_ROLE};
use serde_json::{Value, json};

const CLUSTER: &str = "orders";

/// What every pick asks for, up to its list.
const PICK: [&str; 4] = [
    "get_property xds.cluster_name",
    "get_shared_data 2/g",
    "get_header_map_value request :method",
    "replace_header_map_value request x-gateway-destination-endpoint",
];
/// The same where something is held against a backend, or a time is weighed.
const TIMED_PICK: [&str; 5] = [
    "get_property xds.cluster_name",
    "get_shared_data 2/g",
    "get_current_time_nanoseconds",
    "get_header_map_value request :method",
    "replace_header_map_value request x-gateway-destination-endpoint",
];
/// The retries behind a list of several.
const RETRIES: [&str; 2] = [
    "replace_header_map_value request x-envoy-max-retries",
    "replace_header_map_value request x-envoy-retry-on",
];
/// What a good answer of the first entry asks for.
const ANSWERED: [&str; 2] = [
    "get_property upstream.address",
    "get_header_map_value response :status",
];
/// What opens a back-off.
const BACK_OFF: [&str; 5] = [
    "get_current_time_nanoseconds",
    "get_shared_data 2/g",
    "set_shared_data 2/g",
    "log event=backoff_opened",
    "increment_metric pointsman_events_total;c=orders;r=backoff_opened",
];

/// A VM that has served a request.
fn vm(fields: Value) -> Result<Vm> {
    let mut vm = new_vm(&fields)?;
    vm.serve(&get())?;
    Ok(vm)
}

/// A VM whose one cluster has three backends, and these fields besides.
fn new_vm(fields: &Value) -> Result<Vm> {
    let backend = |i: u32| json!({"id": format!("b{i}"), "address": format!("10.0.0.{i}:80")});
    let mut cluster = json!({
        "name": CLUSTER, "backends": (1..=3).map(backend).collect::<Vec<Value>>(),
    });
    for (name, value) in fields.as_object().into_iter().flatten() {
        cluster[name] = value.clone();
    }
    let exchange = json!({"cluster": "pointsman_sidecar", "verdictTtl": "30s"});
    let container = json!({"schema": 1, "exchange": exchange, "clusters": [cluster]});
    Program::load(&artefacts::module()?)?.configured(&container.to_string())
}

fn get() -> Request<'static> {
    Request::get(CLUSTER)
}

/// The calls of a request, without those that define its metrics: once in a VM's life.
fn calls(vm: &mut Vm, request: &Request<'_>) -> Result<Calls> {
    let mut calls = vm.serve(request)?;
    for phase in [&mut calls.request, &mut calls.response, &mut calls.end] {
        phase.retain(|call| !call.starts_with("define_metric "));
    }
    let offences = std::mem::take(&mut vm.host().offences);
    ensure!(offences.is_empty(), "{offences:?}");
    Ok(calls)
}

fn check(calls: &Calls, request: &[&[&str]], response: &[&[&str]], end: &[&[&str]]) {
    assert_eq!(calls.request, request.concat(), "at the request");
    assert_eq!(calls.response, response.concat(), "at the response");
    assert_eq!(calls.end, end.concat(), "at the end");
}

#[test]
fn a_good_request() -> Result<()> {
    let good = calls(&mut vm(json!({}))?, &get())?;
    check(&good, &[&PICK, &RETRIES], &[&ANSWERED], &[]);
    assert_eq!(good.total(), 8);
    Ok(())
}

/// The method is asked for where a list is walked otherwise for one than for another.
#[test]
fn a_request_whose_method_does_not_matter() -> Result<()> {
    let pick = ["get_property xds.cluster_name", "get_shared_data 2/g"];
    let list = PICK[3];
    for retry in [json!({"attempts": 1}), json!({"on": []})] {
        let once = calls(&mut vm(json!({"retry": retry}))?, &get())?;
        check(&once, &[&pick, &[list, RETRIES[0]]], &[&ANSWERED], &[]);
    }
    let resets = json!({"on": ["ConnectFailure", "Reset"], "attempts": 3});
    let resets = calls(&mut vm(json!({"retry": resets}))?, &get())?;
    check(&resets, &[&pick, &[list], &RETRIES], &[&ANSWERED], &[]);
    // A short list has the pick once more for a GET alone.
    let resets = json!({"on": ["ConnectFailure", "Reset"], "attempts": 4});
    let short = calls(&mut vm(json!({"retry": resets}))?, &get())?;
    check(&short, &[&PICK, &RETRIES], &[&ANSWERED], &[]);
    Ok(())
}

/// The sidecar is upgraded first: its filters meet a schema that they do not know.
#[test]
fn a_request_under_a_newer_schema() -> Result<()> {
    let backends = [
        json!({"address": "10.0.0.1:80", "state": "Resting"}),
        json!({"address": "10.0.0.2:80", "zone": "a"}),
    ];
    let cluster = json!({
        "name": CLUSTER, "backends": backends, "mirror": {"to": "users"},
        "retry": {"on": ["Connect4", "ConnectFailure"]},
        "loadBalancing": {"policy": "Newest"},
    });
    let container = json!({"schema": SCHEMA + 1, "clusters": [cluster], "news": 1});
    let mut vm = Program::load(&artefacts::module()?)?.configured(&container.to_string())?;
    assert_eq!(vm.host().metric("pointsman_config_ignored_fields"), 6);
    assert_eq!(vm.host().metric("pointsman_configs_total;r=refused"), 0);
    vm.serve(&get())?;
    assert_eq!(stream::list(vm.host()).len(), 3, "both, and the pick again");
    Ok(())
}

#[test]
fn a_request_of_a_cluster_that_nobody_configured() -> Result<()> {
    let unknown = calls(&mut vm(json!({}))?, &Request::get("users"))?;
    check(&unknown, &[&["get_property xds.cluster_name"]], &[], &[]);
    Ok(())
}

#[test]
fn a_sticky_client_without_a_cookie_gets_one() -> Result<()> {
    let new = calls(&mut vm(json!({"sticky": {"cookie": "P"}}))?, &get())?;
    let (cluster, pick) = PICK.split_at(1);
    let cookie = ["get_property request.headers.cookie"];
    let set_cookie = ["add_header_map_value response set-cookie"];
    check(
        &new,
        &[cluster, &cookie, pick, &RETRIES],
        &[&ANSWERED, &set_cookie],
        &[],
    );
    Ok(())
}

#[test]
fn a_sticky_client_comes_back() -> Result<()> {
    let mut vm = vm(json!({"sticky": {"cookie": "P"}}))?;
    let (cluster, pick) = PICK.split_at(1);
    let read = "get_property request.headers.cookie";
    let alone = Request {
        headers: vec![("cookie", "P=b2")],
        ..get()
    };
    let cookie = [read, "remove_header_map_value request cookie"];
    let counted = ["increment_metric pointsman_picks_total;c=orders;r=sticky"];
    let known = calls(&mut vm, &alone)?;
    check(
        &known,
        &[cluster, &cookie, pick, &RETRIES, &counted],
        &[&ANSWERED],
        &[],
    );

    let beside_others = Request {
        headers: vec![("cookie", "a=b; P=b2")],
        ..get()
    };
    let cookie = [read, "replace_header_map_value request cookie"];
    let known = calls(&mut vm, &beside_others)?;
    check(
        &known,
        &[cluster, &cookie, pick, &RETRIES, &counted],
        &[&ANSWERED],
        &[],
    );
    Ok(())
}

/// Two of the three are listed, and the pick once more at the end: it was a GET (RT-9).
fn ensure_two_are_left(vm: &mut Vm) -> Result<()> {
    let list = stream::list(vm.host());
    let [first, second, again] = &list[..] else {
        bail!("{list:?}");
    };
    ensure!(first == again && first != second, "{list:?}");
    Ok(())
}

#[test]
fn a_request_beside_a_back_off() -> Result<()> {
    let mut vm = vm(json!({"backoff": {"base": "1h", "max": "1h"}}))?;
    vm.serve(&Request {
        ending: Ending::ConnectFailed(0),
        ..get()
    })?;
    ensure!(vm.host().shared_bytes() > 0, "nothing is gated");
    let gated = calls(&mut vm, &get())?;
    check(&gated, &[&TIMED_PICK, &RETRIES], &[&ANSWERED], &[]);
    ensure_two_are_left(&mut vm)
}

#[test]
fn a_request_of_a_checked_cluster() -> Result<()> {
    let mut vm = vm(json!({}))?;
    vm.tick(ROOT)?;
    let post = vm.host().posts.pop().context("no post on the tick")?;
    let key = pointsman_filter::base::hash::backend_key("b1", "10.0.0.1:80").0;
    let answer = json!({
        "version": {"epoch": "0000000000000001", "counter": 1, "revision": "0000000000000000"},
        "full": true,
        "clusters": [{"name": CLUSTER, "unhealthy": [format!("{key:016x}")], "healthy": []}],
    });
    let ours = "application/vnd.pointsman.exchange+json";
    let headers = [(":status", "200"), ("content-type", ours)];
    vm.post_answered(ROOT, post.token, &headers, answer.to_string().as_bytes())?;
    let checked = calls(&mut vm, &get())?;
    check(&checked, &[&TIMED_PICK, &RETRIES], &[&ANSWERED], &[]);
    ensure_two_are_left(&mut vm)
}

#[test]
fn a_request_that_is_refused() -> Result<()> {
    let mut vm = vm(json!({"backends": [{"id": "b1", "address": "10.0.0.1:80"}]}))?;
    vm.serve(&Request {
        ending: Ending::ConnectFailed(1),
        ..get()
    })?;
    let refused = calls(&mut vm, &get())?;
    let answer = [
        "increment_metric pointsman_refusals_total;c=orders;r=all_backing_off",
        "get_header_map_value request x-request-id",
        "send_local_response 503",
    ];
    check(&refused, &[&TIMED_PICK[..3], &answer], &[], &[]);
    Ok(())
}

#[test]
fn a_request_with_a_body() -> Result<()> {
    let post = Request {
        has_body: true,
        ..get()
    };
    let untimed = calls(&mut vm(json!({}))?, &post)?;
    check(&untimed, &[&PICK, &RETRIES], &[&ANSWERED], &[]);

    let time = ["get_current_time_nanoseconds"];
    let mut timed = vm(json!({"loadBalancing": {"metric": "Latency"}}))?;
    check(
        &calls(&mut timed, &post)?,
        &[&TIMED_PICK, &RETRIES, &time],
        &[&ANSWERED, &time],
        &[],
    );
    Ok(())
}

#[test]
fn a_request_that_fails_over() -> Result<()> {
    let over = calls(
        &mut vm(json!({}))?,
        &Request {
            ending: Ending::Served(1),
            ..get()
        },
    )?;
    let learnt = [
        "get_property upstream.request_attempt_count",
        "increment_metric pointsman_failed_attempts_total;c=orders;r=unknown",
    ];
    check(
        &over,
        &[&PICK, &RETRIES],
        &[&ANSWERED, &learnt, &BACK_OFF],
        &[],
    );
    Ok(())
}

#[test]
fn a_client_that_goes_away() -> Result<()> {
    let gone = calls(
        &mut vm(json!({}))?,
        &Request {
            ending: Ending::Gone,
            ..get()
        },
    )?;
    let asked = [
        "get_property upstream.address",
        "get_property upstream.request_attempt_count",
    ];
    check(&gone, &[&PICK, &RETRIES], &[], &[&asked]);
    Ok(())
}

#[test]
fn an_answer_that_cools_its_backend_down() -> Result<()> {
    let limited = Request {
        ending: Ending::Status("429"),
        ..get()
    };
    let nothing_to_learn = calls(&mut vm(json!({}))?, &limited)?;
    check(&nothing_to_learn, &[&PICK, &RETRIES], &[&ANSWERED], &[]);

    let mut cooled = vm(json!({"passive": {"cooldown": {"base": "1h", "max": "1h"}}}))?;
    let learnt = calls(&mut cooled, &limited)?;
    let asked = [
        "get_property response.flags",
        "get_header_map_value response retry-after-ms",
        "get_header_map_value response retry-after",
        "get_header_map_value response grpc-retry-pushback-ms",
    ];
    let cooldown = [
        "get_current_time_nanoseconds",
        "get_shared_data 2/g",
        "set_shared_data 2/g",
        "increment_metric pointsman_cooldowns_total;c=orders;r=status",
        "log event=cooldown_started",
        "increment_metric pointsman_events_total;c=orders;r=cooldown_started",
    ];
    check(
        &learnt,
        &[&PICK, &RETRIES],
        &[&ANSWERED, &asked, &cooldown],
        &[],
    );
    let others = calls(&mut cooled, &get())?;
    check(&others, &[&TIMED_PICK, &RETRIES], &[&ANSWERED], &[]);
    ensure_two_are_left(&mut cooled)
}
