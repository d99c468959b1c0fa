//! What ranks and averages ask for.

use super::*;
use crate::clients::pass_on;

#[test]
fn lb_22_a_request_of_a_cluster_with_ranks() -> Result<()> {
    let mut vm = vm(json!({"loadBalancing": {"policy": "Tiered"}}))?;
    let tier = ["increment_metric pointsman_picks_total;c=orders;r=tier_1"];
    let time = ["get_current_time_nanoseconds"];
    let good = calls(&mut vm, &get())?;
    let request: [&[&str]; 3] = [&TIMED_PICK, &RETRIES, &tier];
    check(&good, &request, &[&ANSWERED, &time], &[]);
    Ok(())
}

/// What one worker's requests met the others know with its heartbeat, until they have asked themselves.
#[test]
fn lb_15_another_workers_averages_count() -> Result<()> {
    let backend = |i: u32| json!({"address": format!("10.0.0.{i}:80"), "weight": 60});
    let fields = json!({
        "loadBalancing": {"policy": "Tiered", "initialLatency": "0s"},
        "backends": [backend(1), backend(2), backend(3)],
        "retry": {"attempts": 1},
    });
    let mut one = new_vm(&fields)?;
    let ending = Ending::Status("503");
    one.serve(&Request { ending, ..get() })?;
    let failed = stream::list(one.host());
    one.tick(ROOT)?;
    one.tick(ROOT)?;
    for has_heard in [true, false] {
        let mut other = new_vm(&fields)?;
        if has_heard {
            pass_on(&mut one, &mut other);
        }
        let mut avoids = true;
        for _ in 0..6 {
            other.serve(&get())?;
            avoids &= stream::list(other.host()) != failed;
        }
        assert_eq!(avoids, has_heard);
    }
    Ok(())
}
