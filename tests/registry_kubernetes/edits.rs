//! Changes through the sidecar end up in objects and annotations, where kubectl finds them.

use hyper::Method;

use super::*;

const ORDERS: &str = "/v1/clusters/orders";

#[tokio::test]
async fn documents_and_words_are_written_to_the_api_server() -> Result<()> {
    let roles = ["pointsman", "pointsman-editor"];
    let Some(kubernetes) = Kubernetes::start_for("documents_and_words", &roles).await? else {
        return Ok(());
    };
    let (one, two) = (Upstream::new("one")?, Upstream::new("two")?);
    let first = registry::cluster("orders", &[&one], json!({}));
    kubernetes.put(&first).await?;
    let sidecar = sidecar(&kubernetes, &[]).await?;

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

    // A word is an annotation of its own manager: applying the document leaves it alone.
    let say = json!({"reason": "disk", "actor": "me"});
    let cordon = format!("{ORDERS}/backends/one/cordon");
    let said = sidecar.ask(Method::POST, &cordon, &[], &say).await?;
    ensure!(said.status.is_success(), "{}", said.text());
    kubernetes.put(&first).await?;
    let object = kubernetes.get("orders").await?;
    let words = object["metadata"]["annotations"]["pointsman.dev/overrides"].as_str();
    let words: Value = serde_json::from_str(words.context("no annotation")?)?;
    let expected = json!({"one": {"state": "Cordoned", "reason": "disk", "actor": "me"}});
    assert_eq!(words, expected);
    let uncordon = format!("{ORDERS}/backends/one/uncordon");
    let said = sidecar
        .ask(Method::POST, &uncordon, &[], &Value::Null)
        .await?;
    ensure!(said.status.is_success(), "{}", said.text());

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
