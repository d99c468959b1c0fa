//! Half of a large cluster is dead, and two workers find out for each other.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Result, ensure};
use harness::{Behaviour, Envoy, Load, Upstream};
use serde_json::{Value, json};

use super::attempts::connect_failures;
use crate::fleet::scene::answered_by;
use crate::scene::{self, CLUSTER, figure, wait_for_figure};

const BACKENDS: u32 = 10_000;
const REQUESTS: u64 = 4_000;
/// Backends in turn: the worker that has half of the requests meets so many that are dead, or the other
/// has met them before.
const DEAD_MET: u64 = REQUESTS / 4;
/// On each worker eight failures may be under way.
const CONNECTIONS: usize = 16;

/// Every second backend is dead. A failure holds one back for longer than the story lasts, and is its last
/// counted one: each is told once.
fn document(good: &Upstream, dead: &Upstream) -> Value {
    let backend = |number: u32| {
        let ip = Ipv4Addr::from_bits(Ipv4Addr::new(127, 1, 0, 0).to_bits() + number);
        let at = if number.is_multiple_of(2) { good } else { dead };
        let address = SocketAddr::from((ip, at.address().port()));
        json!({"id": format!("b-{number}"), "address": address.to_string()})
    };
    json!({
        "name": CLUSTER,
        "loadBalancing": {"policy": "RoundRobin"},
        "backoff": {"base": "600s", "max": "600s", "maxTries": 1},
        "backends": (0..BACKENDS).map(backend).collect::<Vec<Value>>(),
    })
}

/// RT-19: what one worker ran into gates both. Nothing of it is lost, also where the other worker was
/// faster four times in a row: whoever was tried in vain is held back.
#[tokio::test]
async fn rt_19_of_ten_thousand_backends_the_dead_ones_are_held_back_on_both_workers() -> Result<()>
{
    let (good, dead) = (Upstream::everywhere("good")?, Upstream::everywhere("dead")?);
    // As many connections as backends would be more than a process may have.
    good.set(Behaviour::GoAway);
    dead.stop().await;
    let bootstrap = scene::bootstrap(&document(&good, &dead))?;
    let envoy = Envoy::start(bootstrap.concurrency(2).exact_balance()?).await?;
    let load = Load::new(envoy.address(), REQUESTS).connections(CONNECTIONS);
    load.run().await?.ensure_clean()?;

    let tried = connect_failures(&envoy).await?;
    let in_vain = tried.iter().filter(|count| **count > 0).count();
    let (in_vain, attempts) = (u64::try_from(in_vain)?, tried.iter().sum::<u64>());
    wait_for_figure(&envoy, "events_total", "backoff_opened", in_vain).await?;
    wait_for_figure(&envoy, "events_total", "backend_down", in_vain).await?;
    let left = u64::from(BACKENDS) - in_vain;
    wait_for_figure(&envoy, "available_backends", "", left).await?;
    let late = figure(&envoy, "state_conflicts_total", "").await?;
    println!("{attempts} attempts at {in_vain} dead backends in vain, {late} changes late");
    ensure!(in_vain >= DEAD_MET);
    // Each worker may meet one before it hears of the other's failure, and never again.
    ensure!(tried.iter().all(|count| *count <= 2), "one is tried again");

    let mut clients = envoy.pinned_clients().await?;
    let order = answered_by(&mut clients, 400).await?;
    ensure!(order.iter().all(|backend| backend == good.id()));
    let again = connect_failures(&envoy).await?;
    let mut both = tried.iter().zip(&again);
    ensure!(both.all(|(before, now)| *before == 0 || now == before));
    Ok(())
}
