//! What the module's role upstream asks for, and that nobody else pays for it.

use super::*;

/// The root of the role, and its attempts' contexts from here on.
const ROLE: i32 = 9;
/// The stream whose attempts these are.
const STREAM: i32 = 2;

/// The words of a pick whose attempts are seen.
const MARK: [&str; 1] = ["set_property pointsman_stream"];
/// How an attempt finds its stream.
const FOUND: [&str; 1] = ["get_property pointsman_stream"];
/// What an attempt asks for that has nothing to tell.
const NONE: [&str; 0] = [];
const STATUS: [&str; 1] = ["get_header_map_value response :status"];

fn fields() -> Value {
    json!({
        "retry": {"on": ["ConnectFailure", "GatewayError"]},
        "passive": {"cooldown": {"base": "1h", "max": "1h"}},
    })
}

/// A VM with both roles that has served a request.
fn with_role(fields: &Value) -> Result<Vm> {
    let mut vm = new_vm(fields)?;
    vm.host().set_property("plugin_root_id", UPSTREAM_ROLE);
    vm.create_root(ROLE)?;
    ensure!(vm.configure(ROLE, b"")?, "the role was refused");
    vm.host().properties.clear();
    vm.serve(&get())?;
    vm.host().take_calls();
    Ok(vm)
}

/// What the module asks for while `tell` happens.
fn asked(vm: &mut Vm, tell: impl FnOnce(&mut Vm) -> Result<()>) -> Result<Vec<String>> {
    vm.host().take_calls();
    tell(vm)?;
    let mut calls = vm.host().take_calls();
    calls.retain(|call| !call.starts_with("define_metric "));
    let offences = std::mem::take(&mut vm.host().offences);
    ensure!(offences.is_empty(), "{offences:?}");
    Ok(calls)
}

/// An attempt begins, as the nth of its stream.
fn begin_nth(vm: &mut Vm, attempt: i32, nth: u64) -> Result<Vec<String>> {
    let begun = "upstream.request_attempt_count";
    vm.host().set_property(begun, nth.to_le_bytes());
    begin(vm, attempt)
}

fn begin(vm: &mut Vm, attempt: i32) -> Result<Vec<String>> {
    asked(vm, |vm| {
        vm.create_stream(attempt, ROLE)?;
        ensure!(vm.request_headers(attempt, true)?, "held");
        Ok(())
    })
}

fn answer(vm: &mut Vm, attempt: i32, place: usize, status: &str) -> Result<Vec<String>> {
    connect(vm, place)?;
    vm.host().response_headers = harness::vm::host::map(&[(":status", status)]);
    asked(vm, |vm| vm.response_headers(attempt, false))
}

/// An attempt goes to the endpoint at a place of its list.
fn connect(vm: &mut Vm, place: usize) -> Result<()> {
    let list = stream::list(vm.host());
    let address = list.get(place).context("the list is shorter")?.clone();
    vm.host().set_property("upstream.address", address);
    Ok(())
}

#[test]
fn a_good_attempt_reads_its_status_alone() -> Result<()> {
    let mut vm = with_role(&fields())?;
    let request = asked(&mut vm, |vm| {
        vm.create_stream(STREAM, ROOT)?;
        vm.arrive(STREAM, &get()).map(drop)
    })?;
    let (before, after) = PICK.split_at(2);
    assert_eq!(request, [before, &MARK, after, &RETRIES].concat());
    assert_eq!(begin(&mut vm, 3)?, NONE);
    assert_eq!(answer(&mut vm, 3, 0, "200")?, STATUS);
    vm.host()
        .set_property("upstream.request_attempt_count", 1u64.to_le_bytes());
    let response = asked(&mut vm, |vm| vm.response_headers(STREAM, false))?;
    assert_eq!(response, ANSWERED);
    assert_eq!(asked(&mut vm, |vm| vm.delete(3))?, NONE);
    assert_eq!(asked(&mut vm, |vm| vm.delete(STREAM))?, NONE);
    Ok(())
}

/// An answer without a body may be a gRPC error.
#[test]
fn a_good_attempt_whose_answer_ends_with_its_headers() -> Result<()> {
    let mut vm = with_role(&fields())?;
    vm.create_stream(STREAM, ROOT)?;
    vm.arrive(STREAM, &get())?;
    begin(&mut vm, 3)?;
    vm.host().response_headers = harness::vm::host::map(&[(":status", "200")]);
    let told = asked(&mut vm, |vm| vm.response_headers(3, true))?;
    let grpc = ["get_header_map_value response grpc-status"];
    assert_eq!(told, [STATUS, grpc].concat());
    Ok(())
}

/// Only where attempts have a timeout it matters when they begin.
#[test]
fn a_good_attempt_that_has_a_timeout() -> Result<()> {
    let mut vm = with_role(&json!({
        "retry": {"on": ["Reset", "GatewayError"], "perTryTimeout": "1s"},
    }))?;
    vm.create_stream(STREAM, ROOT)?;
    vm.arrive(STREAM, &get())?;
    assert_eq!(begin(&mut vm, 3)?, ["get_current_time_nanoseconds"]);
    assert_eq!(answer(&mut vm, 3, 0, "200")?, STATUS);
    assert_eq!(asked(&mut vm, |vm| vm.delete(3))?, NONE);
    Ok(())
}

/// Nothing more is read of an error that says nothing.
#[test]
fn an_error_in_a_cluster_that_counts_no_answers() -> Result<()> {
    let mut vm = with_role(&json!({"retry": {"on": [503]}}))?;
    vm.create_stream(STREAM, ROOT)?;
    vm.arrive(STREAM, &get())?;
    begin(&mut vm, 3)?;
    assert_eq!(answer(&mut vm, 3, 0, "503")?, [STATUS, FOUND].concat());
    assert_eq!(asked(&mut vm, |vm| vm.delete(3))?, NONE);
    Ok(())
}

/// The attempt after one that was not answered makes evidence of that, and those of other streams look
/// whether they are it.
#[test]
fn an_attempt_without_an_answer_is_told_by_the_next() -> Result<()> {
    let mut vm = with_role(&json!({
        "retry": {"on": ["Reset", 503]}, "passive": {"failures": ["Reset"]},
    }))?;
    vm.create_stream(STREAM, ROOT)?;
    vm.arrive(STREAM, &get())?;
    begin_nth(&mut vm, 3, 1)?;
    connect(&mut vm, 0)?;
    let ended = asked(&mut vm, |vm| vm.delete(3))?;
    let count = ["get_property upstream.request_attempt_count"];
    let end = [
        "get_property upstream.address",
        "get_property upstream.transport_failure_reason",
    ];
    assert_eq!(ended, [&FOUND[..], &end, &count].concat());
    let mark = vm.host().properties.remove("pointsman_stream");
    assert_eq!(begin(&mut vm, 4)?, FOUND);
    let mark = mark.context("no mark")?;
    vm.host().set_property("pointsman_stream", mark);
    let told = begin_nth(&mut vm, 5, 2)?;
    assert!(told.iter().take(1).eq(&FOUND), "{told:?}");
    let failed = "pointsman_failed_attempts_total;c=orders;r=reset";
    assert_eq!(vm.host().metric(failed), 1);
    assert_eq!(begin_nth(&mut vm, 6, 3)?, NONE, "nobody awaits anything");
    Ok(())
}

#[test]
fn a_retried_answer_cools_down_at_once_and_the_next_attempt_is_as_cheap() -> Result<()> {
    let mut vm = with_role(&json!({
        "retry": {"on": [429]}, "passive": {"cooldown": {"base": "1h", "max": "1h"}},
    }))?;
    vm.create_stream(STREAM, ROOT)?;
    vm.arrive(STREAM, &get())?;
    begin(&mut vm, 3)?;
    let told = answer(&mut vm, 3, 0, "429")?;
    let learnt = [
        "get_property upstream.address",
        "get_header_map_value response retry-after-ms",
        "get_header_map_value response retry-after",
        "get_header_map_value response grpc-retry-pushback-ms",
        "get_property upstream.request_attempt_count",
        "get_current_time_nanoseconds",
        "get_shared_data 2/g",
        "set_shared_data 2/g",
        "increment_metric pointsman_cooldowns_total;c=orders;r=status",
        "log event=cooldown_started",
        "increment_metric pointsman_events_total;c=orders;r=cooldown_started",
    ];
    assert_eq!(told, [&STATUS[..], &FOUND, &learnt].concat());
    assert_eq!(asked(&mut vm, |vm| vm.delete(3))?, NONE);
    assert_eq!(begin(&mut vm, 4)?, NONE);
    assert_eq!(answer(&mut vm, 4, 1, "200")?, STATUS);
    Ok(())
}

/// Streams have marks of their own: one that ends takes no other's.
#[test]
fn the_attempts_of_two_streams_are_told_apart() -> Result<()> {
    let mut vm = with_role(&fields())?;
    vm.create_stream(STREAM, ROOT)?;
    vm.arrive(STREAM, &get())?;
    let first = vm.host().properties.clone();
    vm.create_stream(5, ROOT)?;
    vm.arrive(5, &get())?;
    vm.delete(5)?;
    vm.host().properties = first;
    begin(&mut vm, 3)?;
    answer(&mut vm, 3, 0, "429")?;
    let cooldowns = "pointsman_cooldowns_total;c=orders;r=status";
    assert_eq!(vm.host().metric(cooldowns), 1);
    Ok(())
}

/// Nothing stays of a stream that is over, whether it was answered or its client left.
#[test]
fn marks_take_no_memory() -> Result<()> {
    const STREAMS: usize = 5000;
    let mut vm = with_role(&fields())?;
    let serve = |vm: &mut Vm| -> Result<()> {
        for ending in [Ending::Served(0), Ending::Gone] {
            for _ in 0..STREAMS {
                vm.serve(&Request { ending, ..get() })?;
            }
        }
        Ok(())
    };
    serve(&mut vm)?;
    let before = vm.memory()?;
    serve(&mut vm)?;
    assert_eq!(vm.memory()?, before);
    Ok(())
}

/// A shadow's attempt has no mark, and asks for nothing more.
#[test]
fn an_attempt_without_a_mark() -> Result<()> {
    let mut vm = with_role(&fields())?;
    vm.create_stream(STREAM, ROOT)?;
    vm.arrive(STREAM, &get())?;
    vm.host().properties.remove("pointsman_stream");
    assert_eq!(begin(&mut vm, 3)?, NONE);
    assert_eq!(answer(&mut vm, 3, 0, "429")?, [STATUS, FOUND].concat());
    assert_eq!(asked(&mut vm, |vm| vm.delete(3))?, NONE);
    Ok(())
}

/// What counts answers but retries none is without the role, and so are all others: their lists, which stand
/// in the other files here, are the same in a VM that has it.
#[test]
fn a_cluster_without_the_role_pays_nothing_for_others() -> Result<()> {
    let all = [
        json!({}),
        json!({"passive": {"failures": ["ServerError"], "cooldown": {}}}),
        json!({"retry": {"attempts": 1, "on": [429]}}),
        json!({"backoff": {"halfOpen": false}, "retry": {"on": ["ConnectFailure", "Reset"]}}),
    ];
    for fields in all {
        let (mut without, mut with) = (vm(fields.clone())?, with_role(&fields)?);
        let [without, with] = [&mut without, &mut with].map(|vm| calls(vm, &get()));
        let (without, with) = (without?, with?);
        assert_eq!(without, with, "{fields}");
        let is_mark = |call: &String| call.contains("pointsman_stream");
        ensure!(!with.request.iter().any(is_mark), "{fields}");
    }
    Ok(())
}
