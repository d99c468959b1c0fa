//! Changes through the sidecar end up in objects and annotations, where kubectl finds them.

use harness::sidecar::operate;
use hyper::Method;

use super::*;

const ORDERS: &str = "/v1/clusters/orders";
const OVERRIDES: &str = "pointsman.dev/overrides";

/// A list of a namespace for each edit is a load that grows with the square of what is applied.
#[tokio::test]
async fn documents_are_applied_without_a_list() -> Result<()> {
    const MANY: usize = 200;
    let roles = ["pointsman", "pointsman-editor"];
    let Some(kubernetes) = Kubernetes::start_for("applied_without_a_list", &roles).await? else {
        return Ok(());
    };
    if !kubernetes.is_own() {
        return Ok(());
    }
    let reconcile = ("POINTSMAN_RECONCILE_INTERVAL", "1h");
    let sidecar = Sidecar::start_with(&kubernetes, &[reconcile]).await?;
    // Whoever writes statuses reads first what stands there.
    let first = registry::cluster("first", &[], json!({}));
    kubernetes.apply("first", &first).await?.ok()?;
    condition(&kubernetes, "first", "Programmed", "NoProxies").await?;
    let lists = kubernetes.lists().await?;
    let backend = json!({"address": "10.0.0.1:80"});
    let document = |i| json!({"name": format!("c{i}"), "backends": [backend]});
    let documents: Vec<Value> = (0..MANY).map(document).collect();
    let file = json!({"schema": 1, "clusters": documents}).to_string();
    for _ in ["made", "looked at"] {
        let applied = operate(&sidecar, &["apply", "-f", "-"], &file).await?;
        assert_eq!((applied.code, applied.errors.as_str()), (0, ""));
    }
    // Its name is found under an object of another one too.
    let odd = registry::cluster("odd", &[], json!({}));
    kubernetes.apply("even", &odd).await?.ok()?;
    eventually(SOON, "the object to be found by its cluster", async || {
        let read = sidecar.get("/v1/clusters/odd").await?;
        ensure!(read.status == 200, "{}", read.text());
        Ok(())
    })
    .await?;
    let deleted = sidecar
        .ask(Method::DELETE, "/v1/clusters/odd", &[], &Value::Null)
        .await?;
    ensure!(deleted.status.is_success(), "{}", deleted.text());
    assert_eq!(kubernetes.lists().await?, lists);
    Ok(())
}

#[tokio::test]
async fn documents_and_words_are_written_to_the_api_server() -> Result<()> {
    let roles = ["pointsman", "pointsman-editor"];
    let Some(kubernetes) = Kubernetes::start_for("documents_and_words", &roles).await? else {
        return Ok(());
    };
    let (one, two) = (Upstream::new("one")?, Upstream::new("two")?);
    let first = registry::cluster("orders", &[&one], json!({}));
    kubernetes.put(&first).await?;
    let sidecar = Sidecar::start_with(&kubernetes, &[]).await?;

    let read = sidecar.get(ORDERS).await?;
    let etag = read.header("etag").context("no ETag")?.to_owned();
    assert_eq!(read.json()?, first);
    // Whoever comes with an old ETag is told so; with the right one it is written.
    let both = registry::cluster("orders", &[&one, &two], json!({}));
    let stale = [("if-match", "\"0000000000000000\"")];
    let refused = sidecar.ask(Method::PUT, ORDERS, &stale, &both).await?;
    assert_eq!(refused.status, 412, "{}", refused.text());
    let fresh = [("if-match", etag.as_str())];
    let written = sidecar.ask(Method::PUT, ORDERS, &fresh, &both).await?;
    assert_eq!(written.status, 200, "{}", written.text());
    assert_eq!(written.json()?["served"], true, "{}", written.text());
    let object = kubernetes.get("orders").await?;
    assert_eq!(object["spec"]["backends"], both["backends"]);

    words_are_annotations(&kubernetes, &sidecar, &first).await?;

    // The object that a cluster would have is another one's: that is no matter of trying again.
    let elsewhere = registry::cluster("elsewhere", &[&one], json!({}));
    kubernetes.apply("shop", &elsewhere).await?;
    let shop = registry::cluster("shop", &[&one], json!({}));
    let taken = sidecar
        .ask(Method::PUT, "/v1/clusters/shop", &[], &shop)
        .await?;
    ensure!(
        taken.text().contains("its cluster is elsewhere"),
        "{}",
        taken.text()
    );
    kubernetes.delete(&kubernetes.clusters(), "shop").await?;

    // A name that Kubernetes does not take gets an object that has it.
    let odd = json!({"name": "a|B", "backends": []});
    let made = sidecar
        .ask(Method::PUT, "/v1/clusters/a%7CB", &[], &odd)
        .await?;
    ensure!(made.status.is_success(), "{}", made.text());
    let deleted = sidecar
        .ask(Method::DELETE, ORDERS, &[], &Value::Null)
        .await?;
    ensure!(deleted.status.is_success(), "{}", deleted.text());
    eventually(SOON, "only the odd one to be served", async || {
        let status = sidecar.status().await?;
        let clusters = status["clusters"].as_array().context("clusters")?;
        ensure!(
            clusters.len() == 1 && clusters[0]["name"] == "a|B",
            "{clusters:?}"
        );
        Ok(())
    })
    .await?;
    sidecar.stop().await?;
    let refused = kubernetes.refused();
    ensure!(refused.is_empty(), "{refused:?}");
    Ok(())
}

async fn words_are_annotations(
    kubernetes: &Kubernetes,
    sidecar: &Sidecar,
    first: &Value,
) -> Result<()> {
    // A word is an annotation of its own manager: applying the document leaves it alone.
    let say = json!({"reason": "disk", "actor": "me"});
    let cordon = format!("{ORDERS}/backends/one/cordon");
    let said = sidecar.ask(Method::POST, &cordon, &[], &say).await?;
    ensure!(said.status.is_success(), "{}", said.text());
    kubernetes.put(first).await?;
    let object = kubernetes.get("orders").await?;
    let words = object["metadata"]["annotations"][OVERRIDES].as_str();
    let words: Value = serde_json::from_str(words.context("no annotation")?)?;
    let expected = json!({"one": {"state": "Cordoned", "reason": "disk", "actor": "me"}});
    assert_eq!(words, expected);
    let uncordon = format!("{ORDERS}/backends/one/uncordon");
    // What nobody can read is left as it is, until somebody repairs it.
    let odd = json!("Cordoned");
    kubernetes.annotate("orders", Some(&odd)).await?;
    let refused = sidecar
        .ask(Method::POST, &uncordon, &[], &Value::Null)
        .await?;
    assert_eq!(refused.status, 500, "{}", refused.text());
    ensure!(refused.text().contains("repair or remove it first"));
    let object = kubernetes.get("orders").await?;
    assert_eq!(
        object["metadata"]["annotations"][OVERRIDES],
        odd.to_string()
    );
    kubernetes.annotate("orders", Some(&expected)).await?;
    let said = sidecar
        .ask(Method::POST, &uncordon, &[], &Value::Null)
        .await?;
    ensure!(said.status.is_success(), "{}", said.text());
    Ok(())
}

/// Waits until the one cluster has exactly these backends.
async fn serves(sidecar: &Sidecar, ids: &[&str]) -> Result<()> {
    eventually(SOON, &format!("{ids:?} to be served"), async || {
        let body = sidecar.get("/v1/clusters").await?.json()?;
        let backends = body["clusters"][0]["backends"].as_array();
        let seen = backends.context("backends")?.iter().map(|it| &it["id"]);
        ensure!(seen.eq(ids.iter().copied()), "{body}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn services_are_named_and_dropped_through_the_sidecar() -> Result<()> {
    let roles = ["pointsman", "pointsman-editor"];
    let name = "services_are_named";
    let Some(kubernetes) = Kubernetes::start_for(name, &roles).await? else {
        return Ok(());
    };
    if !takes_endpoints(&kubernetes, name).await? {
        return Ok(());
    }
    let (one, pod) = (Upstream::new("one")?, Upstream::new("pod")?);
    let plain = registry::cluster("orders", &[&one], json!({}));
    kubernetes.put(&plain).await?;
    let ready = json!({"ready": true});
    put_slice(&kubernetes, "web", &pod, &ready).await?;
    let sidecar = Sidecar::start_with(&kubernetes, &[]).await?;

    let etag = sidecar.get(ORDERS).await?.header("etag").map(str::to_owned);
    let from = json!([{"service": {"name": "web", "port": "http"}}]);
    let patch = json!({"backendsFrom": from});
    let written = sidecar.ask(Method::PATCH, ORDERS, &[], &patch).await?;
    let body = written.json()?;
    assert_eq!(written.status, 200, "{body}");
    assert_eq!(
        (&body["served"], &body["changes"]["config_updated"]),
        (&json!(true), &json!(true)),
        "{body}"
    );
    serves(&sidecar, &["one", "pod"]).await?;
    assert_eq!(
        kubernetes.get("orders").await?["spec"]["backendsFrom"],
        from
    );
    let read = sidecar.get(ORDERS).await?;
    assert_eq!(read.json()?["backendsFrom"], from);
    ensure!(
        read.header("etag").map(str::to_owned) != etag,
        "the same ETag"
    );
    // What is printed can be applied.
    let get = ["get", "cluster", "orders", "-o", "yaml"];
    let text = operate(&sidecar, &get, "").await?.out;
    let again = operate(&sidecar, &["apply", "-f", "-"], &text).await?;
    assert_eq!(again.out, "cluster orders unchanged\n", "{again:?}");

    let mut wrong = plain.clone();
    wrong["backendsFrom"] = json!([{"service": {"port": 80}}]);
    let refused = sidecar.ask(Method::PUT, ORDERS, &[], &wrong).await?;
    assert_eq!(refused.status, 422, "{}", refused.text());
    let path = refused.json()?["errors"][0]["path"].take();
    assert_eq!(path, "clusters.orders.backendsFrom[0].service.name");

    // What is put is all there is.
    let written = sidecar.ask(Method::PUT, ORDERS, &[], &plain).await?;
    let body = written.json()?;
    assert_eq!(
        (&body["served"], written.status.as_u16()),
        (&json!(true), 200)
    );
    assert_eq!(body["changes"]["config_updated"], true, "{body}");
    serves(&sidecar, &["one"]).await?;
    let object = kubernetes.get("orders").await?;
    assert_eq!(object["spec"]["backendsFrom"], Value::Null);
    sidecar.stop().await?;
    let refused = kubernetes.refused();
    ensure!(refused.is_empty(), "{refused:?}");
    Ok(())
}
