//! Batches: whole to one backend, at their price.

use anyhow::{Context, Result, ensure};
use harness::clock::Clock;
use harness::registry::backend;
use harness::{Behaviour, Envoy, Upstream};
use serde_json::{Value, json};

use super::{ask, batch, document};
use crate::scene::{backends, bootstrap, figure, wait_for_figure};

/// Each backend with a bucket of so many tokens, which fills slowly.
fn limited(upstreams: &[(&Upstream, u32)], fields: Value) -> Value {
    let entry = |(upstream, burst): &(&Upstream, u32)| {
        let mut entry = backend(upstream);
        entry["rateLimit"] = json!({"perSecond": 1, "burst": burst});
        entry
    };
    let mut document = document(&[], fields);
    document["backends"] = upstreams.iter().map(entry).collect();
    document
}

/// An Envoy whose clock stands still: no token comes.
async fn start(document: &Value, clock: &Clock) -> Result<Envoy> {
    Envoy::start_by(bootstrap(document)?, clock).await
}

/// RL-4: above every burst a batch is refused at once; it would never pass.
#[tokio::test]
async fn rl_4_a_batch_above_every_burst_is_refused_at_once() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let envoy = start(&limited(&[(&a, 10), (&b, 7)], json!({})), &Clock::new()?).await?;
    let mut client = envoy.client();
    let refused = ask(&mut client, batch(11)).await?;
    let told = refused.json()?;
    ensure!(refused.status == 413, "{told}");
    let message = told["error"]["message"].as_str().context("no message")?;
    ensure!(message.contains("rate limit"), "{told}");
    wait_for_figure(&envoy, "bodies_refused_total", "batch_over_burst", 1).await?;
    ensure!(a.hits() + b.hits() == 0, "it was sent on");
    // Only one of them has as many tokens.
    ask(&mut client, batch(10)).await?.ensure_from("a")?;
    ask(&mut client, batch(7)).await?.ensure_from("b")?;
    Ok(())
}

/// RL-4: a batch takes as many tokens as it has requests; RL-6: it is one request to one backend.
#[tokio::test]
async fn rl_4_and_rl_6_a_batch_of_11_takes_11_of_20_tokens() -> Result<()> {
    const BURST: usize = 20;
    let [a] = backends(["a"])?;
    let clock = Clock::new()?;
    let envoy = start(&limited(&[(&a, 20)], json!({})), &clock).await?;
    let mut client = envoy.client();
    ask(&mut client, batch(11)).await?.ensure_from("a")?;
    ensure!(a.hits() == 1, "{} requests of one batch", a.hits());
    let mut served = 11;
    loop {
        let answer = client.get("/").await?;
        if answer.status != 200 {
            ensure!(answer.status == 429, "{}", answer.status);
            break;
        }
        served += 1;
    }
    println!("{served} of {BURST} tokens");
    // One more a second comes, were the machine that slow.
    ensure!((BURST..BURST + 3).contains(&served), "{served}");
    let refused = ask(&mut client, batch(11)).await?;
    ensure!(refused.status == 429, "{}", refused.status);
    let seconds: u64 = refused
        .header("retry-after")
        .context("no Retry-After")?
        .parse()?;
    println!("a batch of 11 may come again after {seconds} s");
    ensure!((10..=11).contains(&seconds), "{seconds}");
    clock.step_to(1000 * i64::try_from(seconds)?)?;
    ask(&mut client, batch(11)).await?.ensure_from("a")
}

/// RL-2 and RL-4: who has not enough tokens for all of it is passed by.
#[tokio::test]
async fn rl_2_a_batch_goes_where_there_are_tokens_for_all_of_it() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let envoy = start(&limited(&[(&a, 10), (&b, 100)], json!({})), &Clock::new()?).await?;
    let mut client = envoy.client();
    for _ in 0..8 {
        ask(&mut client, batch(11)).await?.ensure_from("b")?;
    }
    let deferred = figure(&envoy, "picks_total", "deferred").await?;
    ensure!(deferred > 0, "{deferred}");
    Ok(())
}

/// RL-1 and RL-4: a retry of a batch costs its length as well.
#[tokio::test]
async fn rl_4_a_retried_batch_is_charged_where_it_went() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    a.set(Behaviour::status(503));
    let mut document = limited(&[(&a, 20), (&b, 20)], json!({}));
    document["retry"] = json!({"on": [503]});
    document["backends"][1]["backup"] = json!(true);
    let envoy = start(&document, &Clock::new()?).await?;
    let mut client = envoy.client();
    ask(&mut client, batch(11)).await?.ensure_from("b")?;
    ensure!(
        a.hits() == 1 && b.hits() == 1,
        "{} and {}",
        a.hits(),
        b.hits()
    );
    let both = [&a, &b].map(|it| it.requests().pop().map(|it| it.body));
    ensure!(both[0] == both[1], "another body");
    a.set(Behaviour::Ok);
    // Nine are left of each; a second or two may bring one.
    let refused = ask(&mut client, batch(13)).await?;
    ensure!(
        refused.status == 429,
        "{}: {}",
        refused.status,
        refused.text()
    );
    for id in ["a", "b"] {
        ask(&mut client, batch(8)).await?.ensure_from(id)?;
    }
    Ok(())
}
