//! Slow EndpointSlices and full readings on demand hold nobody up.

use std::time::{SystemTime, UNIX_EPOCH};

use hyper::Method;

use super::*;

#[tokio::test]
async fn slices_that_do_not_come_hold_up_no_other_change_and_no_end_of_a_word() -> Result<()> {
    let (one, pod) = (Upstream::new("one")?, Upstream::new("pod")?);
    let name = "slices_that_do_not_come";
    let Some(story) = serve_own(name, &[&one], &[]).await? else {
        return Ok(());
    };
    let kubernetes = &story.store;
    put_slice(kubernetes, "web", &pod, &json!({"ready": true})).await?;
    kubernetes.silence_for("endpointslices")?;
    let from = json!({"backendsFrom": [{"service": {"name": "web", "port": "http"}}]});
    let with_service = registry::cluster("orders", &[&one], from.clone());
    kubernetes.put(&with_service).await?;
    kubernetes
        .put(&registry::cluster("shop", &[], from))
        .await?;
    let other = registry::cluster("other", &[&one, &pod], json!({}));
    kubernetes.put(&other).await?;
    // What lacks its Service serves as before, or not yet; everything else is as it is wanted.
    story.sidecar.serves(&["orders", "other"]).await?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    let end = u64::try_from(now)? + 2000;
    let word = json!({"pod": {"state": "Cordoned", "expiresAt": end}});
    kubernetes.annotate("other", Some(&word)).await?;
    for words in [1, 0] {
        eventually(SOON, &format!("{words} words to be obeyed"), async || {
            let cluster = story.sidecar.get("/v1/clusters/other").await?;
            let served = story.sidecar.status().await?.to_string();
            let seen = served.matches("Cordoned").count();
            ensure!((seen > 0) == (words > 0), "{seen}: {}", cluster.text());
            Ok(())
        })
        .await?;
    }
    story.sidecar.serves(&["orders", "other"]).await?;
    only(&mut story.envoy.client(), &["one"]).await?;

    kubernetes.mend()?;
    only(&mut story.envoy.client(), &["one", "pod"]).await?;
    story.sidecar.serves(&["orders", "other", "shop"]).await?;
    end_well(story).await
}

#[tokio::test]
async fn ad_2_a_reload_answers_when_it_serves_and_is_one_list_for_all_who_wait() -> Result<()> {
    let (one, two) = (Upstream::new("one")?, Upstream::new("two")?);
    let Some(mut story) = serve_own("a_reload_answers", &[&one], &[]).await? else {
        return Ok(());
    };
    let reload = async |story: &Story| -> Result<Value> {
        let sidecar = &story.sidecar;
        let answer = sidecar
            .ask(Method::POST, "/reload", &[], &Value::Null)
            .await?;
        ensure!(answer.status == 200, "{}", answer.text());
        answer.json()
    };
    for round in 0..20 {
        let backends: &[&Upstream] = if round % 2 == 0 {
            &[&one, &two]
        } else {
            &[&one]
        };
        let document = registry::cluster("orders", backends, json!({}));
        story.store.put(&document).await?;
        let changes = &reload(&story).await?["changes"];
        let turned = if round % 2 == 0 { "added" } else { "removed" };
        assert_eq!(changes[turned], json!(["orders/two"]), "{round}: {changes}");
    }
    // The next session lists once, whatever was wished before.
    let listings = story.sidecar.listings().await?;
    story.store.kill()?;
    story.sidecar.health(503).await?;
    story.store.restart().await?;
    story.sidecar.health(200).await?;
    reload(&story).await?;
    assert_eq!(story.sidecar.listings().await?, listings + 2);
    Ok(())
}
