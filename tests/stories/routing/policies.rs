//! Each policy spreads requests as it promises, seen at real backends.

use std::time::Duration;

use anyhow::{Result, ensure};
use harness::registry::{backend, cluster};
use harness::{Behaviour, Envoy, Load};
use serde_json::{Value, json};

use crate::scene::{CLUSTER, Requests, answered_by, backends, in_flight, serve, shares};

fn policy(name: &str) -> Value {
    json!({"loadBalancing": {"policy": name}})
}

/// LB-1.
#[tokio::test]
async fn lb_1_round_robin_goes_in_turns() -> Result<()> {
    let [a, b, c] = backends(["a", "b", "c"])?;
    let document = cluster(CLUSTER, &[&a, &b, &c], policy("RoundRobin"));
    let envoy = serve(&document).await?;
    let order = answered_by(&mut envoy.client(), 300).await?;
    let line = order.concat();
    println!("LB-1: {:?}; it begins {}", shares(&order), &line[..9]);
    assert_eq!(shares(&order), [("a", 100), ("b", 100), ("c", 100)].into());
    ensure!("abc".repeat(101).contains(&line), "not in turns: {line}");
    Ok(())
}

/// LB-2.
#[tokio::test]
async fn lb_2_round_robin_honours_weights_smoothly() -> Result<()> {
    let [a, b, c] = backends(["a", "b", "c"])?;
    let mut document = cluster(CLUSTER, &[&a, &b, &c], policy("RoundRobin"));
    for (index, weight) in [5, 1, 1].into_iter().enumerate() {
        document["backends"][index]["weight"] = weight.into();
    }
    let envoy = serve(&document).await?;
    let order = answered_by(&mut envoy.client(), 70).await?;
    let line = order.concat();
    println!("LB-2: {:?}; it begins {}", shares(&order), &line[..14]);
    assert_eq!(shares(&order), [("a", 50), ("b", 10), ("c", 10)].into());
    ensure!(!line.contains("aaaaa"), "a run of five: {line}");
    Ok(())
}

/// LB-3. The bounds are more than five standard deviations away.
#[tokio::test]
async fn lb_3_random_draws_by_weight() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let mut document = cluster(CLUSTER, &[&a, &b], policy("Random"));
    document["backends"][0]["weight"] = 300.into();
    let envoy = serve(&document).await?;
    let order = answered_by(&mut envoy.client(), 4000).await?;
    let of_a = shares(&order)["a"];
    let changes = order.windows(2).filter(|pair| pair[0] != pair[1]).count();
    println!("LB-3: 300/100 of 4000: a {of_a}; {changes} changes from one to the other");
    ensure!((2850..=3150).contains(&of_a));
    // By chance, not in a pattern: 4000 x 2 x 0.75 x 0.25 changes, give or take.
    ensure!((1300..=1700).contains(&changes));
    Ok(())
}

/// LB-4 and LB-16: weight 0 takes nothing while another has weight, under any policy.
#[tokio::test]
async fn lb_4_lb_16_weight_0_takes_nothing() -> Result<()> {
    for name in [
        "RoundRobin",
        "Random",
        "LeastLoaded",
        "PowerOfTwo",
        "Tiered",
    ] {
        let [a, b, c] = backends(["a", "b", "c"])?;
        let mut document = cluster(CLUSTER, &[&a, &b, &c], policy(name));
        document["backends"][0]["weight"] = 0.into();
        let envoy = serve(&document).await?;
        let order = answered_by(&mut envoy.client(), 200).await?;
        println!("LB-4, {name}: weights 0/100/100: {:?}", shares(&order));
        assert_eq!(a.accepted().len(), 0, "{name}: not even a connection");
        ensure!(shares(&order).values().all(|share| *share >= 50), "{name}");
    }
    Ok(())
}

/// LB-8: weights are shares, whether one request runs at a time or fifty; 52.6 and 1.1 % are due, within
/// some five standard deviations. The model beside the policies tries the others, and more at a time.
#[tokio::test]
async fn lb_8_weights_are_shares_however_many_requests_run() -> Result<()> {
    for (name, weight, in_flight, due) in [
        ("PowerOfTwo", 1000, 1, 49.4..55.8),
        ("PowerOfTwo", 1000, 50, 48.1..57.1),
        ("LeastLoaded", 1000, 50, 47.6..57.6),
        ("PowerOfTwo", 10, 1, 0.5..1.7),
    ] {
        let ten = backends(["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"])?;
        let mut document = cluster(CLUSTER, &ten.each_ref(), policy(name));
        document["backends"][0]["weight"] = weight.into();
        if in_flight > 1 {
            let wait = Duration::from_millis(20);
            ten.iter().for_each(|each| each.set(Behaviour::Slow(wait)));
        }
        let envoy = serve(&document).await?;
        let load = Load::new(envoy.address(), 6000).connections(in_flight);
        let tally = load.run().await?;
        tally.ensure_clean()?;
        let share = tally.by("a") as f64 * 100.0 / tally.sent() as f64;
        println!("LB-8: {name}, {weight} beside nine of 100, {in_flight} at a time: {share:.1} %");
        ensure!(due.contains(&share), "{name}, {in_flight}: {share} %");
    }
    Ok(())
}

/// LB-3 and LB-4: where nobody has a weight, all are equal.
#[tokio::test]
async fn lb_4_weights_that_are_all_0_are_even() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let mut document = cluster(CLUSTER, &[&a, &b], policy("Random"));
    for index in 0..2 {
        document["backends"][index]["weight"] = 0.into();
    }
    let envoy = serve(&document).await?;
    let order = answered_by(&mut envoy.client(), 1000).await?;
    println!("LB-4: weights 0/0 of 1000: {:?}", shares(&order));
    ensure!((400..=600).contains(&shares(&order)["a"]));
    Ok(())
}

/// LB-18: ids that share an address share one part of the traffic.
#[tokio::test]
async fn lb_18_two_ids_at_one_address_are_one_share() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let mut document = cluster(CLUSTER, &[&a, &b], policy("RoundRobin"));
    let mut twin = backend(&a);
    twin["id"] = "twin-of-a".into();
    document["backends"] = json!([backend(&a), twin, backend(&b)]);
    let envoy = serve(&document).await?;
    let order = answered_by(&mut envoy.client(), 200).await?;
    println!(
        "LB-18: two ids on a, one on b, 200 GETs: {:?}",
        shares(&order)
    );
    assert_eq!(shares(&order), [("a", 100), ("b", 100)].into());
    Ok(())
}

/// LB-5 and LB-6: the least loaded takes the next request, by requests and by streams.
#[tokio::test]
async fn lb_5_lb_6_the_least_loaded_takes_what_comes() -> Result<()> {
    for metric in ["Requests", "Connections"] {
        let [a, b] = backends(["a", "b"])?;
        let balancing = json!({"loadBalancing": {"policy": "LeastLoaded", "metric": metric}});
        let envoy = serve(&cluster(CLUSTER, &[&a, &b], balancing)).await?;
        a.set(Behaviour::Hold);
        b.set(Behaviour::Hold);
        let held = Requests::send(envoy.address(), 20);
        let even = in_flight(&[&a, &b], 20).await?;
        b.set(Behaviour::Ok);
        in_flight(&[&a, &b], 10).await?;
        let order = answered_by(&mut envoy.client(), 20).await?;
        b.set(Behaviour::Hold);
        let more = Requests::send(envoy.address(), 10);
        let uneven = in_flight(&[&a, &b], 20).await?;
        println!(
            "LB-5, {metric}: held {even:?}, b freed: {:?}, held {uneven:?}",
            shares(&order)
        );
        assert_eq!(even, [10, 10], "ties alternate");
        assert_eq!(shares(&order), [("b", 20)].into(), "a has ten in flight");
        assert_eq!(uneven, [10, 10], "the next ten went to b");
        a.set(Behaviour::Ok);
        b.set(Behaviour::Ok);
        for answers in [held, more] {
            ensure!(
                answers
                    .answers()
                    .await?
                    .iter()
                    .all(|answer| answer.status == 200)
            );
        }
    }
    Ok(())
}

/// LB-8: two choices keep held requests nearly even; one choice by chance would not, and the fold
/// of the seed would leave two of four backends empty.
#[tokio::test]
async fn lb_8_power_of_two_choices_is_nearly_even() -> Result<()> {
    let [a, b, c, d] = backends(["a", "b", "c", "d"])?;
    let all = [&a, &b, &c, &d];
    let envoy = serve(&cluster(CLUSTER, &all, policy("PowerOfTwo"))).await?;
    for backend in all {
        backend.set(Behaviour::Hold);
    }
    let held = Requests::send(envoy.address(), 400);
    let each = in_flight(&all, 400).await?;
    println!("LB-8: 400 held requests on four backends: {each:?}");
    // One choice by chance spreads them by some 9 around 100, and would often leave these bounds.
    ensure!(
        each.iter().all(|held| (95..=105).contains(held)),
        "{each:?}"
    );
    for backend in all {
        backend.set(Behaviour::Ok);
    }
    let answers = held.answers().await?;
    ensure!(answers.iter().all(|answer| answer.status == 200));
    let order = answered_by(&mut envoy.client(), 400).await?;
    println!("LB-8: 400 GETs on idle backends: {:?}", shares(&order));
    // Ties are coins: sqrt(400 x 0.25 x 0.75) is 9.
    ensure!(
        shares(&order)
            .values()
            .all(|share| (50..=150).contains(share))
    );
    Ok(())
}

/// LB-21: workers that start together do not pick together, nor does a worker repeat itself.
#[tokio::test]
async fn lb_21_workers_do_not_begin_alike() -> Result<()> {
    let all = backends(["a", "b", "c", "d", "e", "f", "g", "h"])?;
    for name in ["Random", "RoundRobin"] {
        let document = cluster(CLUSTER, &all.each_ref(), policy(name));
        let bootstrap = crate::scene::bootstrap(&document)?
            .concurrency(2)
            .exact_balance()?;
        let mut envoy = Envoy::start(bootstrap).await?;
        let mut pairs = Vec::new();
        for restart in 0..5 {
            if restart > 0 {
                envoy.restart().await?;
            }
            let mut pair = String::new();
            for client in &mut envoy.pinned_clients().await? {
                pair += &answered_by(client, 1).await?.concat();
            }
            pairs.push(pair);
        }
        println!("LB-21, {name}: first picks of two workers over restarts: {pairs:?}");
        // By chance alone each of these has 1 : 8^5 or less against it.
        ensure!(
            pairs.iter().any(|pair| pair[..1] != pair[1..]),
            "workers pick alike"
        );
        ensure!(
            pairs.iter().any(|pair| *pair != pairs[0]),
            "restarts pick alike"
        );
    }
    Ok(())
}
