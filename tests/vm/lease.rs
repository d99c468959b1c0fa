//! Who posts to the sidecar: a VM beside others, which hold the lease.

use anyhow::{Context, Result};
use harness::artefacts;
use harness::vm::stream::Request;
use harness::vm::{Program, ROOT, Vm};
use pointsman_filter::base::keys;
use pointsman_filter::base::time::WallTime;
use pointsman_filter::fleet::exchange;
use pointsman_filter::fleet::identity::Identity;
use pointsman_filter::fleet::lease::{IDLE_NS, LEASE_NS, Lease};
use serde_json::json;

const CLUSTER: &str = "orders";
/// The other VM, which began before this one.
const OTHER: Identity = Identity { vm: 1, process: 9 };

/// The second VM of its Envoy, configured for longer than the first may go without a pick.
fn second_vm() -> Result<Vm> {
    let exchange = json!({"cluster": "pointsman_sidecar", "verdictTtl": "30s"});
    let clusters = json!([{"name": CLUSTER, "backends": [{"address": "10.0.0.1:80"}]}]);
    let container = json!({"schema": 1, "exchange": exchange, "clusters": clusters});
    let mut vm = Program::load(&artefacts::module()?)?.configured(&container.to_string())?;
    let host = vm.host();
    host.write_shared(keys::IDENTITY, OTHER.encode());
    host.now_ns += 2 * IDLE_NS;
    Ok(vm)
}

/// The other VM renews its lease, which runs another revision and has picked last so long ago.
fn renew(vm: &mut Vm, picked_ago_ns: u64) {
    let host = vm.host();
    let lease = Lease {
        vm: OTHER.vm,
        until: WallTime::from_ns(host.now_ns + LEASE_NS),
        revision: 77,
        picked_at: WallTime::from_ns(host.now_ns - picked_ago_ns),
    };
    host.write_shared(keys::LEASE, lease.encode());
}

/// Whether the next tick posts, and who holds the lease then.
fn tick(vm: &mut Vm) -> Result<(bool, Option<u64>)> {
    vm.tick(ROOT)?;
    let host = vm.host();
    let (record, _) = host.shared.get(keys::LEASE).context("no lease")?;
    let holder = Lease::decode(record).map(|lease| lease.vm);
    Ok((host.posts.pop().is_some(), holder))
}

#[test]
fn a_vm_takes_the_lease_from_an_older_one_that_picks_no_more() -> Result<()> {
    let mut vm = second_vm()?;
    renew(&mut vm, IDLE_NS - 1);
    assert_eq!(tick(&mut vm)?, (false, Some(OTHER.vm)));
    renew(&mut vm, IDLE_NS);
    assert_eq!(tick(&mut vm)?, (true, Some(OTHER.vm + 1)));
    Ok(())
}

#[test]
fn a_post_names_the_process_which_the_first_vm_has_drawn() -> Result<()> {
    let mut vm = second_vm()?;
    vm.tick(ROOT)?;
    let post = vm.host().posts.pop().context("no post")?;
    assert_eq!(
        exchange::Request::parse(&post.body)?.process,
        Some(OTHER.process)
    );
    Ok(())
}

#[test]
fn a_vm_that_lost_the_lease_posts_no_more() -> Result<()> {
    let mut vm = second_vm()?;
    assert_eq!(tick(&mut vm)?, (true, Some(OTHER.vm + 1)));
    vm.host().now_ns += 2 * IDLE_NS;
    renew(&mut vm, 0);
    assert_eq!(tick(&mut vm)?, (false, Some(OTHER.vm)));
    Ok(())
}

#[test]
fn a_vm_that_lost_the_lease_posts_no_more_when_its_post_is_answered() -> Result<()> {
    for loses in [false, true] {
        let mut vm = second_vm()?;
        vm.tick(ROOT)?;
        let post = vm.host().posts.pop().context("no post")?;
        if loses {
            renew(&mut vm, 0);
        }
        let headers = [(":status", "200"), ("content-type", exchange::CONTENT_TYPE)];
        let body = exchange::Answer::default().to_json();
        vm.post_answered(ROOT, post.token, &headers, body.as_bytes())?;
        assert_eq!(vm.host().posts.is_empty(), loses);
    }
    Ok(())
}

/// Otherwise nobody takes it from a VM that lives on for a stream alone.
#[test]
fn a_lease_says_when_its_holder_picked_last() -> Result<()> {
    let mut vm = second_vm()?;
    vm.serve(&Request::get(CLUSTER))?;
    let picked_ns = vm.host().now_ns;
    for _ in 0..3 {
        vm.tick(ROOT)?;
        vm.host().now_ns += 1;
        let lease = vm.host().shared.get(keys::LEASE).context("no lease")?;
        let lease = Lease::decode(&lease.0).context("no lease")?;
        assert_eq!(lease.picked_at, WallTime::from_ns(picked_ns));
    }
    Ok(())
}

#[test]
fn a_lease_that_cannot_be_read_is_held_until_nobody_renews_it() -> Result<()> {
    let mut vm = second_vm()?;
    for _ in 0..3 {
        vm.host().write_shared(keys::LEASE, b"newer".to_vec());
        assert_eq!(tick(&mut vm)?, (false, None));
        vm.host().now_ns += LEASE_NS - 1;
        assert_eq!(tick(&mut vm)?, (false, None));
    }
    vm.host().now_ns += 1;
    assert_eq!(tick(&mut vm)?, (true, Some(OTHER.vm + 1)));
    Ok(())
}
