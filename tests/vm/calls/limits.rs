//! Requests of clusters whose backends have limits.

use super::*;

/// What every pick of a limited backend asks for, up to its list.
const LIMITED: [&str; 7] = [
    "get_property xds.cluster_name",
    "get_shared_data 2/g",
    "get_shared_data 2/b",
    "get_current_time_nanoseconds",
    "set_shared_data 2/b",
    "get_header_map_value request :method",
    "replace_header_map_value request x-gateway-destination-endpoint",
];

#[test]
fn a_request_of_a_limited_cluster() -> Result<()> {
    let mut full = vm(json!({"rateLimit": {"perSecond": 1, "burst": 10}}))?;
    let good = calls(&mut full, &get())?;
    check(&good, &[&LIMITED, &RETRIES], &[&ANSWERED], &[]);
    assert_eq!(good.total(), 11, "three more than without a limit");
    // The VM's first request has taken the only token.
    let backends = json!([{"id": "b1", "address": "10.0.0.1:80"}]);
    let limit = json!({"perSecond": 1, "burst": 1});
    let mut empty = vm(json!({"backends": backends, "rateLimit": limit}))?;
    let refused = calls(&mut empty, &get())?;
    let answer = [
        "increment_metric pointsman_refusals_total;c=orders;r=all_limited",
        "get_header_map_value request x-request-id",
        "send_local_response 429",
    ];
    check(&refused, &[&LIMITED[..4], &answer], &[], &[]);
    Ok(())
}

/// The VM's first request has taken tokens for those that follow, until the next tick.
#[test]
fn requests_of_a_cluster_with_plenty_of_tokens() -> Result<()> {
    let backends = json!([{"id": "b1", "address": "10.0.0.1:80"}]);
    let limit = json!({"perSecond": 1, "burst": 2000});
    let mut vm = vm(json!({"backends": backends, "rateLimit": limit}))?;
    let ahead = 32;
    for _ in 0..ahead {
        let paid = calls(&mut vm, &get())?;
        check(&paid, &[&TIMED_PICK, &RETRIES], &[&ANSWERED], &[]);
    }
    // None is left. They were seen a while ago, so the record is read when that is known.
    let (clock, record) = (&LIMITED[3..4], &LIMITED[2..3]);
    let before = [&LIMITED[..2], clock, record].concat();
    let anew = calls(&mut vm, &get())?;
    check(
        &anew,
        &[&before[..], &LIMITED[4..], &RETRIES],
        &[&ANSWERED],
        &[],
    );

    let written = |vm: &mut Vm| -> Result<usize> {
        vm.host().calls.clear();
        vm.tick(ROOT)?;
        let calls = vm.host().calls.iter();
        Ok(calls.filter(|call| *call == "set_shared_data 2/b").count())
    };
    assert_eq!(written(&mut vm)?, 1, "what is left goes back");
    assert_eq!(written(&mut vm)?, 0, "once");
    let good = calls(&mut vm, &get())?;
    check(&good, &[&LIMITED, &RETRIES], &[&ANSWERED], &[]);
    Ok(())
}

/// Others have what a worker took in advance and did not need.
#[test]
fn rl_1_all_tokens_are_given_away() -> Result<()> {
    let backends = json!([{"id": "b1", "address": "10.0.0.1:80"}]);
    let limit = json!({"perSecond": 1, "burst": 1000});
    let mut vm = vm(json!({"backends": backends, "rateLimit": limit}))?;
    let mut served = 1;
    for request in 0.. {
        vm.serve(&get())?;
        if vm.host().local_answer.take().is_some() {
            break;
        }
        served += 1;
        if request % 7 == 0 {
            vm.tick(ROOT)?;
        }
    }
    assert_eq!(served, 1000);
    Ok(())
}

#[test]
fn a_request_that_a_limited_backend_would_have_had() -> Result<()> {
    let backend = |i: u32| json!({"id": format!("b{i}"), "address": format!("10.0.0.{i}:80")});
    let mut limited = backend(1);
    limited["rateLimit"] = json!({"perSecond": 1, "burst": 1});
    let mut spare = backend(2);
    spare["backup"] = json!(true);
    // The VM's first request has taken the only token.
    let mut vm = vm(json!({"backends": [limited, spare]}))?;
    let over = calls(&mut vm, &get())?;
    let counted = [
        "increment_metric pointsman_picks_total;c=orders;r=backup",
        "increment_metric pointsman_picks_total;c=orders;r=deferred",
    ];
    // Who serves then has no limit: nothing is written.
    let mut pick = LIMITED.to_vec();
    pick.retain(|call| *call != "set_shared_data 2/b");
    check(&over, &[&pick, &RETRIES, &counted], &[&ANSWERED], &[]);
    Ok(())
}

#[test]
fn a_request_that_fails_over_to_a_limited_backend() -> Result<()> {
    let mut vm = vm(json!({"rateLimit": {"perSecond": 1, "burst": 10}}))?;
    let over = Request {
        ending: Ending::Served(1),
        ..get()
    };
    let over = calls(&mut vm, &over)?;
    let learnt = [
        "get_property upstream.request_attempt_count",
        "increment_metric pointsman_failed_attempts_total;c=orders;r=unknown",
    ];
    let paid = ["get_shared_data 2/b", "set_shared_data 2/b"];
    check(
        &over,
        &[&LIMITED, &RETRIES],
        &[&ANSWERED, &learnt, &BACK_OFF, &paid],
        &[],
    );
    Ok(())
}

/// Requests in flight are counted in the VM: nobody is asked.
#[test]
fn a_request_of_a_cluster_with_max_in_flight() -> Result<()> {
    let backend = |i: u32| {
        let address = format!("10.0.0.{i}:80");
        json!({"id": format!("b{i}"), "address": address, "maxInFlight": 9})
    };
    let backends: Vec<Value> = (1..=3).map(backend).collect();
    let good = calls(&mut vm(json!({"backends": backends}))?, &get())?;
    check(&good, &[&PICK, &RETRIES], &[&ANSWERED], &[]);
    Ok(())
}

#[test]
fn a_request_of_a_client_that_may_have_so_many_streams() -> Result<()> {
    let mut vm = vm(json!({"limits": {"maxStreamsPerClient": 1}}))?;
    let (cluster, pick) = PICK.split_at(1);
    let asked = ["get_property source.address"];
    let good = calls(&mut vm, &get())?;
    check(&good, &[cluster, &asked, pick, &RETRIES], &[&ANSWERED], &[]);
    vm.create_stream(7, ROOT)?;
    ensure!(vm.arrive(7, &get())?, "the first is refused");
    let refused = calls(&mut vm, &get())?;
    let answer = [
        "increment_metric pointsman_refusals_total;c=orders;r=too_many_streams",
        "get_header_map_value request x-request-id",
        "send_local_response 429",
    ];
    check(&refused, &[cluster, &asked, &pick[..1], &answer], &[], &[]);
    vm.delete(7)?;
    check(
        &calls(&mut vm, &get())?,
        &[cluster, &asked, pick, &RETRIES],
        &[&ANSWERED],
        &[],
    );
    Ok(())
}
