//! `POST /reload` (AD-1 to 4, AD-8, AD-11), and who may write.

use harness::{Load, Registry};

use super::*;

const WHOLE: [&str; 4] = ["added", "removed", "modified", "config_updated"];

#[tokio::test]
async fn ad_2_a_reload_tells_what_changed_since_the_last_one() -> Result<()> {
    let (one, two) = (Upstream::new("one")?, Upstream::new("two")?);
    for kind in Kind::all("ad_2_a_reload_tells_what_changed")? {
        let document = registry::cluster("orders", &[&one], json!({}));
        let (sidecar, mut store) = start_sidecar(kind, &document, &[]).await?;
        let mut next = registry::cluster("orders", &[&one, &two], json!({}));
        next["backends"][0]["weight"] = json!(7);
        store.keep(&next).await?;
        let answer = sidecar
            .ask(Method::POST, "/reload", &[], &Value::Null)
            .await?;
        let expected = json!({"success": true, "message": "Configuration reloaded",
            "changes": {"added": ["orders/two"], "removed": [], "modified": ["orders/one"],
                "config_updated": true, "client_rebuilt": false}});
        assert_eq!(
            (answer.status.as_u16(), answer.json()?),
            (200, expected),
            "{kind:?}"
        );
        let again = sidecar
            .ask(Method::POST, "/reload", &[], &Value::Null)
            .await?
            .json()?;
        let changes = WHOLE.map(|field| again["changes"][field].clone());
        let nothing = [json!([]), json!([]), json!([]), json!(false)];
        assert_eq!(changes, nothing, "AD-11, {kind:?}");
    }
    Ok(())
}

#[tokio::test]
async fn ad_3_a_reload_that_fails_says_why_and_changes_nothing() -> Result<()> {
    let one = Upstream::new("one")?;
    let document = registry::cluster("orders", &[&one], json!({}));
    let registry = Registry::new(vec![document.clone()])?;
    let sidecar = Sidecar::start(&registry).await?;
    let revision = sidecar.status().await?["registry"]["revision"].clone();
    std::fs::remove_file(registry.file())?;
    let failed = sidecar
        .ask(Method::POST, "/reload", &[], &Value::Null)
        .await?;
    assert_eq!(failed.status, 500, "AD-8: {}", failed.text());
    assert_eq!(failed.json()?["success"], false);
    assert_eq!(sidecar.status().await?["registry"]["revision"], revision);

    let (sidecar, mut store) = start_sidecar(Kind::Redis, &document, &[]).await?;
    store.redis()?.kill();
    let failed = sidecar
        .ask(Method::POST, "/reload", &[], &Value::Null)
        .await?;
    assert_eq!(failed.status, 500, "{}", failed.text());
    let error = failed.json()?["error"].to_string();
    ensure!(error.contains("Redis at redis://"), "{error}");
    Ok(())
}

#[tokio::test]
async fn ad_1_requests_do_not_notice_reloads() -> Result<()> {
    let (one, two) = (Upstream::new("one")?, Upstream::new("two")?);
    let mut story = start(Kind::File, &[&one, &two]).await?;
    drop(story.clients().await?);
    let load = Load::new(story.envoy.address(), 4000)
        .per_second(1000)
        .start();
    for round in 0..5 {
        let extra = json!({"retry": {"attempts": 2 + round}});
        let document = registry::cluster("orders", &[&one, &two], extra);
        story.store.keep(&document).await?;
        let answer = story
            .sidecar
            .ask(Method::POST, "/reload", &[], &Value::Null)
            .await?;
        assert_eq!(answer.status, 200, "{}", answer.text());
        load.reach(600 * (round + 1), SOON).await?;
    }
    load.finish().await?.ensure_clean()
}

#[tokio::test]
async fn ad_4_a_reload_comes_from_the_address_that_was_set() -> Result<()> {
    let one = Upstream::new("one")?;
    let document = registry::cluster("orders", &[&one], json!({}));
    let settings = [("RELOAD_ALLOWED_IP", "192.0.2.7")];
    let (sidecar, _store) = start_sidecar(Kind::File, &document, &settings).await?;
    let denied = sidecar
        .ask(Method::POST, "/reload", &[], &Value::Null)
        .await?;
    let expected = json!({"success": false, "message": "Access denied",
        "error": "a reload is allowed from 192.0.2.7 only (RELOAD_ALLOWED_IP)"});
    assert_eq!((denied.status.as_u16(), denied.json()?), (403, expected));
    Ok(())
}

#[tokio::test]
async fn writes_need_the_token_where_one_is_set() -> Result<()> {
    let one = Upstream::new("one")?;
    let document = registry::cluster("orders", &[&one], json!({}));
    let settings = [("POINTSMAN_ADMIN_TOKEN", "s3cret-word")];
    let (sidecar, _store) = start_sidecar(Kind::File, &document, &settings).await?;
    let path = "/v1/clusters/orders";
    for shown in [&[][..], &[("authorization", "Bearer s3cret-worb")]] {
        let refused = sidecar.ask(Method::PUT, path, shown, &document).await?;
        assert_eq!(refused.status, 401, "{}", refused.text());
    }
    let shown = [("authorization", "Bearer s3cret-word")];
    let written = sidecar.ask(Method::PUT, path, &shown, &document).await?;
    assert_eq!(written.status, 200, "{}", written.text());
    assert_eq!(
        sidecar.get("/status").await?.status,
        200,
        "reading is free on this machine"
    );
    ensure!(!sidecar.process().log().contains("s3cret-word"));
    Ok(())
}
