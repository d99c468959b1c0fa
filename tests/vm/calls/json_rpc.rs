//! Requests of clusters that read the bodies of JSON-RPC requests.

use super::*;

/// What tells whether a body is read.
const ASKED: [&str; 2] = [
    "get_property xds.cluster_name",
    "get_header_map_pairs request",
];
const READ: [&str; 1] = ["get_buffer_bytes request body"];
/// The pick of a request that was held, so a POST.
const DECISION: [&str; 2] = [
    "get_shared_data 2/g",
    "replace_header_map_value request x-gateway-destination-endpoint",
];

fn counted(method: &str) -> [String; 1] {
    [format!(
        "increment_metric pointsman_json_rpc_requests_total;c=orders;r={method}"
    )]
}

fn cluster_with(fields: Value) -> Result<Vm> {
    vm(json!({"jsonRpc": fields}))
}

#[test]
fn rl_13_a_single_request_is_picked_at_its_method() -> Result<()> {
    let mut vm = cluster_with(json!({"methods": ["a"]}))?;
    for (method, label) in [("a", "a"), ("b", "other")] {
        let body = format!(r#"{{"method":"{method}","params":[1,2,3]}}"#);
        let good = calls(&mut vm, &Request::post(CLUSTER, &body))?;
        let [counted] = counted(label);
        let counted = [counted.as_str()];
        let request = [&ASKED[..], &READ, &counted, &DECISION, &RETRIES];
        check(&good, &request, &[&ANSWERED], &[]);
    }
    Ok(())
}

#[test]
fn rl_4_a_batch_takes_its_length_from_the_bucket() -> Result<()> {
    let limit = json!({"perSecond": 1, "burst": 20});
    let backends = json!([{"id": "b1", "address": "10.0.0.1:80"}]);
    let mut vm = vm(json!({"jsonRpc": {}, "rateLimit": limit, "backends": backends}))?;
    let batch = |length: usize| format!("[{}1]", "1,".repeat(length - 1));
    // The VM's first request has taken one of 20.
    for (length, answer) in [
        (11, None),
        (9, Some(429)),
        (8, None),
        (1, Some(429)),
        (21, Some(413)),
    ] {
        vm.serve(&Request::post(CLUSTER, &batch(length)))?;
        let answered = vm.host().local_answer;
        assert_eq!(answered, answer, "a batch of {length}");
    }
    assert_eq!(
        vm.host()
            .metric("pointsman_bodies_refused_total;c=orders;r=batch_over_burst"),
        1
    );
    Ok(())
}

#[test]
fn rl_5_bodies_that_are_not_taken() -> Result<()> {
    let mut vm = cluster_with(json!({"maxBatch": 3, "maxBodyBytes": 100}))?;
    let long = format!("[{}]", " ".repeat(99));
    for (body, status, reason) in [
        ("[]", 400, "empty_batch"),
        ("garbage", 400, "not_json"),
        ("7 ", 400, "no_request"),
        ("[1,2,3,4]", 413, "batch_too_long"),
        (&long, 413, "body_too_large"),
        ("[1,2", 400, "not_json"),
    ] {
        vm.serve(&Request::post(CLUSTER, body))?;
        assert_eq!(vm.host().local_answer, Some(status), "{body}");
        let metric = format!("pointsman_bodies_refused_total;c=orders;r={reason}");
        ensure!(vm.host().metric(&metric) > 0, "{metric}");
    }
    let mut told = Request::post(CLUSTER, "[1]");
    told.headers.push(("content-length", "101"));
    let refused = calls(&mut vm, &told)?;
    let answer = [
        "increment_metric pointsman_bodies_refused_total;c=orders;r=body_too_large",
        "send_local_response 413",
    ];
    check(&refused, &[&ASKED, &answer], &[], &[]);
    // What was answered goes nowhere, whatever of it still comes.
    for (request, body) in [(told, ""), (Request::post(CLUSTER, "[]"), "[]")] {
        vm.create_stream(5, ROOT)?;
        vm.arrive(5, &request)?;
        for body in [body, "[1]"] {
            ensure!(!vm.send_body(5, body.as_bytes(), false)?, "it goes on");
        }
        ensure!(!vm.request_trailers(5)?, "it goes on");
        vm.delete(5)?;
    }
    Ok(())
}

#[test]
fn others_are_picked_at_the_headers() -> Result<()> {
    let mut vm = cluster_with(json!({}))?;
    let json = ("content-type", "application/json");
    for headers in [
        vec![],
        vec![("content-type", "text/plain")],
        vec![json, ("upgrade", "websocket")],
        vec![json, ("content-encoding", "gzip")],
    ] {
        let other = Request {
            headers,
            ..Request::post(CLUSTER, "[]")
        };
        let other = calls(&mut vm, &other)?;
        let request = [&ASKED[..], &PICK[1..], &RETRIES];
        check(&other, &request, &[&ANSWERED], &[]);
    }
    // What ends at its headers is not even asked.
    let good = calls(&mut vm, &get())?;
    check(&good, &[&PICK, &RETRIES], &[&ANSWERED], &[]);
    let get = Request {
        headers: vec![json],
        ..get()
    };
    check(
        &calls(&mut vm, &get)?,
        &[&PICK, &RETRIES],
        &[&ANSWERED],
        &[],
    );
    Ok(())
}

#[test]
fn rl_11_errors_are_mapped_where_the_document_says_so() -> Result<()> {
    let mut vm = cluster_with(json!({"errors": "Map"}))?;
    let status = "get_header_map_value response :status";
    let body = r#"{"method":"a","id":7}"#;
    let good = calls(&mut vm, &Request::post(CLUSTER, body))?;
    check(
        &Calls {
            request: Vec::new(),
            ..good
        },
        &[],
        &[&ANSWERED, &[status]],
        &[],
    );
    let failed = Request {
        ending: Ending::Status("429"),
        ..Request::post(CLUSTER, body)
    };
    let failed = calls(&mut vm, &failed)?;
    let mapped = [
        status,
        "increment_metric pointsman_errors_mapped_total;c=orders;r=limited",
        "send_local_response 200",
    ];
    assert_eq!(failed.response, [&ANSWERED[..], &mapped].concat());
    // Nobody else's.
    let other = Request {
        ending: Ending::Status("429"),
        ..get()
    };
    assert_eq!(calls(&mut vm, &other)?.response, ANSWERED);
    // What the module refuses itself is one, too.
    let mut vm = super::vm(json!({"jsonRpc": {"errors": "Map"}, "backends": []}))?;
    vm.serve(&Request::post(CLUSTER, body))?;
    assert_eq!(vm.host().local_answer, Some(200));
    Ok(())
}

/// How long a client takes to send its body is not the backend's time, whether its end is what decides or
/// comes after that.
#[test]
fn lb_7_the_end_of_a_body_is_noted_where_a_time_is_weighed() -> Result<()> {
    let balancing = json!({"metric": "Latency"});
    let mut vm = vm(json!({"jsonRpc": {}, "loadBalancing": balancing}))?;
    let time = ["get_current_time_nanoseconds"];
    for (body, method, before, after) in [
        (r#"{"method":"a","x":1}"#, "other", &READ[..0], &time[..]),
        ("[1]", "batch", &READ, &[]),
    ] {
        let [counted] = counted(method);
        let pick = [&[counted.as_str()], &TIMED_PICK[1..3], &DECISION[1..]].concat();
        let request = [&ASKED[..], &READ, before, &pick, &RETRIES, after];
        let timed = calls(&mut vm, &Request::post(CLUSTER, body))?;
        check(&timed, &request, &[&ANSWERED, &time], &[]);
    }
    // Its end comes with all of it, and most is not read any more; or what decides is behind a window.
    let long = "x".repeat(40_000);
    for body in [
        format!(r#"{{"method":"a","x":"{long}"}}"#),
        format!(r#"{{"x":"{long}","method":"a"}}"#),
    ] {
        vm.create_stream(5, ROOT)?;
        ensure!(vm.arrive(5, &Request::post(CLUSTER, &body))?, "refused");
        ensure!(vm.send_body(5, body.as_bytes(), true)?, "held");
        vm.host().take_calls();
        vm.respond(5, Ending::Served(0))?;
        assert_eq!(vm.host().take_calls(), [&ANSWERED[..], &time].concat());
        vm.delete(5)?;
    }
    Ok(())
}

#[test]
fn rl_10_a_request_counts_once_for_its_client_however_long_it_is_held() -> Result<()> {
    let limits = json!({"maxStreamsPerClient": 1});
    let mut vm = vm(json!({"jsonRpc": {"errors": "Map"}, "limits": limits}))?;
    let body = r#"{"method":"a","id":1}"#;
    let request = Request::post(CLUSTER, body);
    vm.create_stream(5, ROOT)?;
    ensure!(vm.arrive(5, &request)?, "refused");
    let refused = calls(&mut vm, &request)?;
    let answer = [
        "get_property source.address",
        "increment_metric pointsman_refusals_total;c=orders;r=too_many_streams",
        "send_local_response 200",
    ];
    check(&refused, &[&ASKED, &answer], &[], &[]);
    ensure!(
        vm.send_body(5, body.as_bytes(), true)?,
        "it is one too many"
    );
    vm.delete(5)?;
    calls(&mut vm, &request)?;
    assert_eq!(vm.host().local_answer, None);
    Ok(())
}

#[test]
fn a_body_ends_with_its_trailers_too() -> Result<()> {
    let mut vm = cluster_with(json!({"errors": "Map"}))?;
    for (body, goes_on) in [(r#"{"method":"a"}"#, true), (r#"{"method":"a""#, false)] {
        vm.create_stream(5, ROOT)?;
        ensure!(vm.arrive(5, &Request::post(CLUSTER, body))?, "refused");
        vm.send_body(5, body.as_bytes(), false)?;
        assert_eq!(vm.request_trailers(5)?, goes_on, "{body}");
        let answer = vm.host().local_answer;
        assert_eq!(answer, (!goes_on).then_some(400));
        vm.delete(5)?;
    }
    Ok(())
}

#[test]
fn a_body_that_never_comes_is_counted_and_told_of_once() -> Result<()> {
    let mut vm = cluster_with(json!({}))?;
    let missed = |vm: &mut Vm| -> Result<(u64, usize)> {
        vm.create_stream(5, ROOT)?;
        ensure!(vm.arrive(5, &Request::post(CLUSTER, "[]"))?, "refused");
        vm.delete(5)?;
        let lines = vm.host().log.iter();
        let told = lines.filter(|(_, line)| line.starts_with("event=body_missed "));
        let told = told.count();
        let count = vm.host().metric("pointsman_bodies_missed_total;c=orders");
        Ok((count, told))
    };
    assert_eq!(missed(&mut vm)?, (1, 1));
    assert_eq!(missed(&mut vm)?, (2, 1));
    // Where bodies come, it was a client that left.
    let mut vm = cluster_with(json!({}))?;
    vm.serve(&Request::post(CLUSTER, "[1]"))?;
    assert_eq!(missed(&mut vm)?, (1, 0));
    Ok(())
}
