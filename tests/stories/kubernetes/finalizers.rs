//! An object that was deleted and that a finalizer holds is served no more, and says so everywhere.

use harness::sidecar::operate;
use hyper::Method;

use super::*;

#[tokio::test]
async fn what_is_deleted_is_not_served_while_a_finalizer_holds_it() -> Result<()> {
    let roles = ["pointsman", "pointsman-editor"];
    let Some(kubernetes) = Kubernetes::start_for("held_by_a_finalizer", &roles).await? else {
        return Ok(());
    };
    let one = Upstream::new("one")?;
    let document = registry::cluster("orders", &[&one], json!({}));
    let spec = registry::cluster("other", &[&one], json!({}));
    kubernetes.put(&spec).await?;
    let object = json!({
        "apiVersion": "pointsman.dev/v1alpha1", "kind": "BackendCluster",
        "metadata": {"name": "orders", "finalizers": ["example.com/hold"]}, "spec": document,
    });
    let clusters = kubernetes.clusters();
    kubernetes.apply_object(&clusters, &object).await?.ok()?;
    let sidecar = Sidecar::start_with(&kubernetes, &[]).await?;
    let served = async |count: usize| {
        eventually(SOON, &format!("{count} clusters"), async || {
            let status = sidecar.status().await?;
            let clusters = status["clusters"].as_array().context("no list")?.len();
            ensure!(clusters == count, "{clusters}");
            Ok(status)
        })
        .await
    };
    served(2).await?;
    let why = "is being deleted and not served; its finalizers hold it: example.com/hold";
    // Nobody is told that it is gone, now or later.
    for _ in 0..2 {
        let deleted = operate(&sidecar, &["delete", "orders"], "").await?;
        ensure!(deleted.code == 1, "{deleted:?}");
        ensure!(deleted.errors.contains(why), "{deleted:?}");
    }
    let status = served(1).await?;
    let rejected = &status["registry"]["rejected"][0]["error"];
    let expected = format!("clusters.orders: {why}");
    ensure!(*rejected == expected, "{rejected}");
    eventually(SOON, "its status to say so", async || {
        let object = kubernetes.get("orders").await?;
        let conditions = object["status"]["conditions"].as_array();
        let conditions = conditions.context("no conditions")?;
        let accepted = conditions.iter().find(|it| it["type"] == "Accepted");
        let accepted = accepted.context("not Accepted")?;
        let said = (&accepted["status"], &accepted["reason"]);
        ensure!(said == (&json!("False"), &json!("Deleting")), "{accepted}");
        ensure!(accepted["message"] == expected, "{accepted}");
        Ok(())
    })
    .await?;
    let file = json!({"schema": 1, "clusters": [document]}).to_string();
    let refused = operate(&sidecar, &["apply", "-f", "-"], &file).await?;
    ensure!(refused.code == 1, "{refused:?}");
    ensure!(refused.errors.contains(why), "{refused:?}");
    let cordon = operate(&sidecar, &["cordon", "orders", "one"], "").await?;
    ensure!(cordon.code == 1, "{cordon:?}");
    let free = json!({"metadata": {"finalizers": null}});
    let path = format!("{clusters}/orders");
    let freed = kubernetes
        .ask(
            Method::PATCH,
            &path,
            Some(("application/merge-patch+json", &free)),
        )
        .await?;
    freed.ok()?;
    let applied = operate(&sidecar, &["apply", "-f", "-"], &file).await?;
    ensure!(applied.code == 0, "{applied:?}");
    served(2).await.map(drop)
}
