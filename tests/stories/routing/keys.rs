//! Requests of one key go to one backend, or to the few of its shard (LB-10 to LB-12, LB-17, ST-8).

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use harness::client::{Response, get};
use harness::registry::cluster;
use harness::{Behaviour, Client, Envoy, Upstream, eventually};
use serde_json::{Value, json};

use crate::scene::{
    CLUSTER, SOON, answered_by, backends, bootstrap, figure, serve, shares, wait_for_figure,
};

const KEYS: usize = 60;
const HEADER: &str = "x-user";

fn affine(policy: &str) -> Value {
    json!({
        "loadBalancing": {"policy": policy, "affinity": {"header": HEADER}},
        "backoff": {"base": "300ms", "max": "300ms"},
    })
}

async fn send(client: &mut Client, name: &'static str, value: &str) -> Result<Response> {
    let mut request = get("/");
    request.headers_mut().insert(name, value.parse()?);
    client.send(request).await
}

/// Who answers a GET with this header.
async fn home(client: &mut Client, name: &'static str, value: &str) -> Result<String> {
    let response = send(client, name, value).await?;
    ensure!(
        response.status == 200,
        "{} {}",
        response.status,
        response.text()
    );
    Ok(response.backend().context("no backend")?.to_owned())
}

/// Who answers for each of so many keys.
async fn homes(client: &mut Client) -> Result<BTreeMap<usize, String>> {
    let mut homes = BTreeMap::new();
    for key in 0..KEYS {
        homes.insert(key, home(client, HEADER, &format!("user-{key}")).await?);
    }
    Ok(homes)
}

fn of<'a>(homes: &'a BTreeMap<usize, String>, id: &str) -> BTreeMap<&'a usize, &'a String> {
    homes.iter().filter(|(_, home)| *home == id).collect()
}

fn others<'a>(homes: &'a BTreeMap<usize, String>, id: &str) -> BTreeMap<&'a usize, &'a String> {
    homes.iter().filter(|(_, home)| *home != id).collect()
}

#[tokio::test]
async fn lb_10_11_one_key_one_backend_on_every_worker_every_envoy_and_after_a_restart() -> Result<()>
{
    for policy in ["Rendezvous", "Maglev"] {
        let five = backends(["a", "b", "c", "d", "e"])?;
        let document = cluster(CLUSTER, &five.each_ref(), affine(policy));
        let start = || async {
            let two_workers = bootstrap(&document)?.concurrency(2).exact_balance()?;
            Envoy::start(two_workers).await
        };
        let (mut envoy, other) = (start().await?, start().await?);
        let first = homes(&mut envoy.client()).await?;
        let mut order = Vec::new();
        for client in &mut envoy.pinned_clients().await? {
            assert_eq!(homes(client).await?, first, "{policy}: another worker");
            for _ in 0..25 {
                order.push(home(client, HEADER, "user-7").await?);
            }
        }
        println!("{policy}: 50 requests of one key: {:?}", shares(&order));
        assert_eq!(shares(&order).values().collect::<Vec<_>>(), [&50]);
        assert_eq!(
            homes(&mut other.client()).await?,
            first,
            "{policy}: another Envoy"
        );
        envoy.restart().await?;
        assert_eq!(
            homes(&mut envoy.client()).await?,
            first,
            "{policy}: a restart"
        );
        let all: Vec<String> = first.into_values().collect();
        println!("{policy}: {KEYS} keys: {:?}", shares(&all));
        assert_eq!(shares(&all).len(), 5, "everybody has keys");
    }
    Ok(())
}

#[tokio::test]
async fn lb_10_11_one_of_five_goes_down_and_its_keys_alone_move_and_return() -> Result<()> {
    for policy in ["Rendezvous", "Maglev"] {
        let five = backends(["a", "b", "c", "d", "e"])?;
        let envoy = serve(&cluster(CLUSTER, &five.each_ref(), affine(policy))).await?;
        let mut client = envoy.client();
        let before = homes(&mut client).await?;
        let [_, _, victim, ..] = &five;
        victim.stop().await;
        // Retries while it is found out, and no request at it while it is left alone: all the same.
        for _ in 0..3 {
            let down = homes(&mut client).await?;
            assert_eq!(of(&down, "c").len(), 0);
            let own = of(&before, "c");
            let moved: BTreeSet<&String> = own.keys().map(|key| &down[*key]).collect();
            ensure!(moved.len() > 1, "{policy}: all its keys went to {moved:?}");
            let kept = down
                .iter()
                .filter(|(key, _)| !own.contains_key(key))
                .collect();
            assert_eq!(others(&before, "c"), kept, "{policy}");
        }
        victim.start()?;
        eventually(SOON, "its keys to return", async || {
            let after = homes(&mut envoy.client()).await?;
            ensure!(after == before, "{after:?}");
            Ok(())
        })
        .await?;
        println!(
            "{policy}: {} of {KEYS} keys moved and returned",
            of(&before, "c").len()
        );
    }
    Ok(())
}

#[tokio::test]
async fn lb_12_the_key_is_a_cookies_value_and_the_backend_sees_the_cookie() -> Result<()> {
    let five = backends(["a", "b", "c", "d", "e"])?;
    let settings = json!({"loadBalancing": {"policy": "Maglev", "affinity": {"cookie": "user"}}});
    let envoy = serve(&cluster(CLUSTER, &five.each_ref(), settings)).await?;
    let mut client = envoy.client();
    let mut homes = BTreeSet::new();
    for user in 0..20 {
        let first = home(&mut client, "cookie", &format!("x=1; user=u{user}; y=2")).await?;
        let again = home(&mut client, "cookie", &format!("user=u{user}")).await?;
        assert_eq!(first, again);
        homes.insert(first);
    }
    ensure!(homes.len() >= 3, "{homes:?}");
    let seen = five.iter().flat_map(Upstream::requests);
    let whole = seen.filter(|it| it.header("cookie") == Some("x=1; user=u7; y=2"));
    assert_eq!(whole.count(), 1);
    assert_eq!(figure(&envoy, "picks_total", "key_missing").await?, 0);
    // Without the cookie the client's address decides.
    let order = answered_by(&mut client, 20).await?;
    assert_eq!(shares(&order).len(), 1);
    wait_for_figure(&envoy, "picks_total", "key_missing", 20).await
}

/// A client's own word on its address counts only where the listener is told that a proxy says it.
#[tokio::test]
async fn lb_12_the_clients_address_is_the_one_that_envoy_trusts() -> Result<()> {
    let five = backends(["a", "b", "c", "d", "e"])?;
    let settings = json!({"loadBalancing": {"policy": "Rendezvous"}});
    let document = cluster(CLUSTER, &five.each_ref(), settings);
    for (hops, spread) in [(0, 1..=1), (1, 3..=5)] {
        let mut bootstrap = bootstrap(&document)?;
        bootstrap.manager_mut()?["xff_num_trusted_hops"] = hops.into();
        let envoy = Envoy::start(bootstrap).await?;
        let mut seen = BTreeMap::new();
        for connection in 0..2 {
            let mut client = envoy.client();
            for host in 1..=20 {
                let address = format!("10.7.0.{host}");
                let home = home(&mut client, "x-forwarded-for", &address).await?;
                let known = seen.entry(host).or_insert_with(|| home.clone());
                assert_eq!(
                    *known, home,
                    "connection {connection}: another port, the same client"
                );
            }
        }
        let homes: BTreeSet<&String> = seen.values().collect();
        println!("LB-12: {hops} trusted hops: 20 forwarded addresses at {homes:?}");
        ensure!(
            spread.contains(&homes.len()),
            "{hops} trusted hops: {homes:?}"
        );
    }
    Ok(())
}

const EIGHT: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

fn sharded(all: &[Upstream; 8], exhausted: &str) -> Value {
    let settings = json!({
        "loadBalancing": {
            "affinity": {"header": HEADER},
            "shuffleShard": {"percent": 25, "whenExhausted": exhausted},
        },
        "backoff": {"base": "1h", "max": "1h"},
    });
    cluster(CLUSTER, &all.each_ref(), settings)
}

/// Everybody who answers for a key.
async fn shard(client: &mut Client, key: &str) -> Result<BTreeSet<String>> {
    let mut shard = BTreeSet::new();
    for _ in 0..40 {
        shard.insert(home(client, HEADER, key).await?);
    }
    Ok(shard)
}

/// Takes the shard of a client down, and says who is in it.
async fn poison(client: &mut Client, all: &[Upstream; 8], key: &str) -> Result<BTreeSet<String>> {
    let shard = shard(client, key).await?;
    assert_eq!(shard.len(), 2, "8 backends, 25 %: {shard:?}");
    for backend in all.iter().filter(|backend| shard.contains(backend.id())) {
        backend.stop().await;
    }
    // The first request meets both; then they are left alone.
    send(client, HEADER, key).await?;
    Ok(shard)
}

#[tokio::test]
async fn lb_17_a_key_reaches_its_shard_alone_and_is_refused_when_that_is_down() -> Result<()> {
    let all = backends(EIGHT)?;
    let envoy = serve(&sharded(&all, "Refuse")).await?;
    let mut client = envoy.client();
    let shard = poison(&mut client, &all, "evil").await?;
    let refused = eventually(SOON, "a refusal", async || {
        let refused = send(&mut envoy.client(), HEADER, "evil").await?;
        let body = refused.json()?;
        ensure!(body["reason"] == "shard_exhausted", "{body}");
        Ok(refused)
    })
    .await?;
    assert_eq!(refused.status, 503);
    ensure!(refused.header("retry-after").is_some(), "no Retry-After");
    // Whoever has another in its shard is served.
    let mut served = 0;
    for key in 0..40 {
        let response = send(&mut client, HEADER, &format!("user-{key}")).await?;
        let by = response.backend().map(str::to_owned);
        ensure!(by.is_none_or(|by| !shard.contains(&by)));
        served += usize::from(response.status == 200);
    }
    println!("LB-17: {shard:?} down: {served} of 40 other keys are served");
    ensure!((30..=40).contains(&served), "{served}");
    assert_eq!(figure(&envoy, "picks_total", "shard_spill").await?, 0);
    Ok(())
}

#[tokio::test]
async fn lb_17_an_exhausted_shard_spills_and_counts_it() -> Result<()> {
    let all = backends(EIGHT)?;
    let envoy = serve(&sharded(&all, "Spill")).await?;
    let mut client = envoy.client();
    let down = poison(&mut client, &all, "evil").await?;
    eventually(SOON, "the others to serve", async || {
        home(&mut envoy.client(), HEADER, "evil").await?;
        Ok(())
    })
    .await?;
    let before = figure(&envoy, "picks_total", "shard_spill").await?;
    let others = shard(&mut client, "evil").await?;
    println!("LB-17: {down:?} down: {others:?} serve their client");
    ensure!(others.is_disjoint(&down) && others.len() > 3, "{others:?}");
    wait_for_figure(&envoy, "picks_total", "shard_spill", before + 40).await
}

#[tokio::test]
async fn st_8_the_cookie_beats_the_key_and_behind_it_stands_the_keys_own_backend() -> Result<()> {
    let five = backends(["a", "b", "c", "d", "e"])?;
    let mut settings = affine("Rendezvous");
    settings["sticky"] = json!({"cookie": "P"});
    let envoy = serve(&cluster(CLUSTER, &five.each_ref(), settings)).await?;
    let mut client = envoy.client();
    let own = home(&mut client, HEADER, "user-1").await?;
    let named = five
        .iter()
        .find(|backend| backend.id() != own)
        .context("another")?;
    let both = |id: &str| -> Result<_> {
        let mut request = get("/");
        request.headers_mut().insert(HEADER, "user-1".parse()?);
        request
            .headers_mut()
            .insert("cookie", format!("P={id}").parse()?);
        Ok(request)
    };
    for _ in 0..20 {
        let response = client.send(both(named.id())?).await?;
        assert_eq!(response.backend(), Some(named.id()));
    }
    named.set(Behaviour::ResetOnAccept);
    named.disconnect().await;
    let response = client.send(both(named.id())?).await?;
    assert_eq!(
        (response.status.as_u16(), response.backend()),
        (200, Some(&*own))
    );
    let cookie = response.header("set-cookie").context("no new cookie")?;
    ensure!(cookie.starts_with(&format!("P={own};")), "{cookie}");
    Ok(())
}
