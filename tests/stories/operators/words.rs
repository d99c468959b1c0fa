//! Cordon, drain, uncordon (RG-23, invariant 9).

use std::time::{SystemTime, UNIX_EPOCH};

use harness::Behaviour;

use super::*;

fn say(backend: &str, act: &str) -> String {
    format!("/v1/clusters/orders/backends/{backend}/{act}")
}

async fn wait_until_back(clients: &mut [Client], backend: &str) -> Result<()> {
    eventually(SOON, "it to be back", async || {
        let backends = answered_by(clients, 20).await?;
        ensure!(backends.iter().any(|it| it == backend), "{backends:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_cordoned_backend_gets_not_one_more_request() -> Result<()> {
    for kind in Kind::all("a_cordoned_backend_gets_not_one_more_request")? {
        let (one, two) = (Upstream::new("one")?, Upstream::new("two/2")?);
        let mut story = start(kind, &[&one, &two]).await?;
        let mut clients = story.clients().await?;
        let body = json!({"reason": "disk", "actor": "me"});
        story
            .sidecar
            .write(Method::POST, &say("two%2F2", "cordon"), body)
            .await?;
        story.wait_for_the_workers().await?;
        let hits = two.hits();
        answered_by(&mut clients, 200).await?;
        assert_eq!(two.hits(), hits, "{kind:?}");
        // Neither the document written again nor a restart undoes it.
        let document = registry::cluster("orders", &[&one, &two], json!({"http2": false}));
        story
            .sidecar
            .write(Method::PUT, "/v1/clusters/orders", document)
            .await?;
        story.wait_for_the_workers().await?;
        story.sidecar.restart().await?;
        let list = story.sidecar.get("/v1/overrides").await?.json()?;
        let word = json!({"cluster": "orders", "backend": "two/2", "state": "Cordoned",
            "reason": "disk", "actor": "me", "present": true});
        assert_eq!(list["overrides"], json!([word]), "{kind:?}");
        answered_by(&mut clients, 100).await?;
        assert_eq!(two.hits(), hits, "{kind:?}");

        story
            .sidecar
            .write(Method::POST, &say("two%2F2", "uncordon"), Value::Null)
            .await?;
        wait_until_back(&mut clients, "two/2").await?;
        story.envoy.stop().await?;
        story.sidecar.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_cordoned_backend_with_a_planned_drain_serves_nothing_in_between() -> Result<()> {
    for kind in Kind::all("a_cordoned_backend_with_a_planned_drain_serves_nothing_in_between")? {
        let (one, two) = (Upstream::new("one")?, Upstream::new("two")?);
        let mut story = start(kind, &[&one, &two]).await?;
        let mut clients = story.clients().await?;
        story
            .sidecar
            .write(Method::POST, &say("two", "cordon"), Value::Null)
            .await?;
        story.wait_for_the_workers().await?;
        let hits = two.hits();
        let plan = json!({"startsIn": "3s", "expiresIn": "2s"});
        story
            .sidecar
            .write(Method::POST, &say("two", "drain"), plan)
            .await?;
        // The plan is the store's: nobody has to be there for it.
        story.sidecar.restart().await?;
        let mut seen = Vec::new();
        eventually(SOON, "the drain to begin and to end", async || {
            let list = story.sidecar.get("/v1/overrides").await?.json()?;
            let words = list["overrides"].as_array().context("a list")?.iter();
            let states = words.filter_map(|it| it["state"].as_str());
            let states = states.collect::<Vec<_>>().join(" ");
            if seen.last() != Some(&states) {
                seen.push(states.clone());
            }
            if states.is_empty() {
                return Ok(());
            }
            answered_by(&mut clients, 20).await?;
            let list = story.sidecar.get("/v1/overrides").await?.json()?;
            // Whatever was answered while a word held was answered by the other one.
            if list["overrides"] != json!([]) {
                assert_eq!(two.hits(), hits, "{kind:?}: {list}");
            }
            anyhow::bail!("{list}")
        })
        .await?;
        assert_eq!(seen, ["Cordoned Draining", "Draining", ""], "{kind:?}");
        wait_until_back(&mut clients, "two").await?;
        story.envoy.stop().await?;
        story.sidecar.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_drained_backend_ends_what_it_has_begun() -> Result<()> {
    let (one, two) = (Upstream::new("one")?, Upstream::new("two")?);
    let story = start(Kind::Redis, &[&one, &two]).await?;
    let mut clients = story.clients().await?;
    // With the other one cordoned for a moment, the held request is at this one.
    story
        .sidecar
        .write(Method::POST, &say("one", "cordon"), Value::Null)
        .await?;
    story.wait_for_the_workers().await?;
    two.set(Behaviour::Hold);
    let mut client = story.envoy.client();
    let held = tokio::spawn(async move { client.get("/held").await });
    eventually(SOON, "a held request", async || {
        ensure!(two.in_flight() == 1, "{}", two.in_flight());
        Ok(())
    })
    .await?;
    story
        .sidecar
        .write(Method::POST, &say("one", "uncordon"), Value::Null)
        .await?;
    story
        .sidecar
        .write(Method::POST, &say("two", "drain"), Value::Null)
        .await?;
    story.wait_for_the_workers().await?;
    let hits = two.hits();
    let backends = answered_by(&mut clients, 100).await?;
    assert!(backends.iter().all(|it| it == "one"), "{backends:?}");
    assert_eq!((two.hits(), two.in_flight()), (hits, 1));
    two.set(Behaviour::Ok);
    let answer = held.await??;
    answer.ensure_from("two")
}

#[tokio::test]
async fn a_cordon_ends_by_itself_when_it_was_said_to() -> Result<()> {
    for kind in Kind::all("a_cordon_ends_by_itself_when_it_was_said_to")? {
        let (one, two) = (Upstream::new("one")?, Upstream::new("two")?);
        let story = start(kind, &[&one, &two]).await?;
        let mut clients = story.clients().await?;
        let body = json!({"expiresIn": "5s", "actor": "me"});
        let answer = story
            .sidecar
            .write(Method::POST, &say("two", "cordon"), body)
            .await?;
        let end = answer["expiresAt"].as_u64().context("it has no end")?;
        let end = UNIX_EPOCH + Duration::from_millis(end);
        story.wait_for_the_workers().await?;
        two.forget();
        eventually(SOON, "the end of the cordon", async || {
            answered_by(&mut clients, 5).await?;
            ensure!(two.hits() > 0, "no request");
            Ok(())
        })
        .await?;
        let first = two.requests()[0].at.elapsed();
        let early = end.duration_since(SystemTime::now() - first);
        ensure!(
            early.is_err(),
            "{kind:?}: a request {early:?} before the end"
        );
        eventually(SOON, "no overrides", async || {
            let list = story.sidecar.get("/v1/overrides").await?.json()?;
            ensure!(list == json!({"overrides": []}), "{kind:?}: {list}");
            Ok(())
        })
        .await?;
        for event in ["override_set", "override_expired"] {
            story.sidecar.event(event, 1).await?;
        }
        // It stands in the store for another day: a clock that was set may have ended it.
        story
            .sidecar
            .write(Method::POST, &say("one", "cordon"), Value::Null)
            .await?;
        if let Store::Redis(redis) = &story.store {
            let key = "pointsman:override:orders";
            let held = redis.ask(&["HGETALL", key]).await?;
            ensure!(held.field("two").is_some(), "{held:?}");
            let day = r#"{"state":"Cordoned","expiresAt":1000000000000}"#;
            redis.ask(&["HSET", key, "two", day]).await?;
            story
                .sidecar
                .write(Method::POST, &say("one", "cordon"), Value::Null)
                .await?;
            let held = redis.ask(&["HGETALL", key]).await?;
            ensure!(held.field("two").is_none(), "{held:?}");
            ensure!(held.field("one").is_some(), "{held:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_word_on_a_backend_that_is_not_there_holds_once_it_comes() -> Result<()> {
    for kind in Kind::all("a_word_on_a_backend_that_is_not_there_holds_once_it_comes")? {
        let (one, late) = (Upstream::new("one")?, Upstream::new("late")?);
        let story = start(kind, &[&one]).await?;
        let mut clients = story.clients().await?;
        let answer = story
            .sidecar
            .write(Method::POST, &say("late", "cordon"), Value::Null)
            .await?;
        assert_eq!(answer["present"], false);
        let document = registry::cluster("orders", &[&one, &late], json!({}));
        story
            .sidecar
            .write(Method::PUT, "/v1/clusters/orders", document)
            .await?;
        story.wait_for_the_workers().await?;
        answered_by(&mut clients, 100).await?;
        assert_eq!(late.hits(), 0, "{kind:?}");
    }
    Ok(())
}
