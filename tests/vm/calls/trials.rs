//! What it takes that one request tries a backend for all others.

use super::*;

#[test]
fn gt_3_a_request_that_tries_a_backend_for_all_others() -> Result<()> {
    let mut vm = vm(json!({"loadBalancing": {"policy": "RoundRobin"}}))?;
    vm.serve(&Request {
        ending: Ending::ConnectFailed(0),
        ..get()
    })?;
    vm.host().now_ns += 1_000_000_000;
    let begin = ["set_shared_data 2/g"];
    let counted = ["increment_metric pointsman_picks_total;c=orders;r=trial"];
    let closed = [
        "get_current_time_nanoseconds",
        "get_shared_data 2/g",
        "set_shared_data 2/g",
        "log event=backoff_closed",
        "increment_metric pointsman_events_total;c=orders;r=backoff_closed",
    ];
    let (pick, list) = TIMED_PICK.split_at(3);
    for nth in 0..3 {
        let seen = calls(&mut vm, &get())?;
        if seen.request.iter().any(|call| call == begin[0]) {
            let request = [pick, &begin, list, &RETRIES, &counted];
            check(&seen, &request, &[&ANSWERED, &closed], &[]);
            return Ok(());
        }
        ensure!(nth < 2, "nobody tries it");
    }
    Ok(())
}
