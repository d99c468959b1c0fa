//! The README's object and annotation do what it says.

use harness::artefacts;
use harness::kubernetes::CLUSTERS;

use super::*;

/// What stands between two marks of the README.
fn between(readme: &str, start: &str, end: &str) -> Result<String> {
    let (_, rest) = readme.split_once(start).with_context(|| start.to_owned())?;
    let (text, _) = rest.split_once(end).with_context(|| end.to_owned())?;
    Ok(text.to_owned())
}

#[tokio::test]
async fn the_readmes_object_is_served_as_described() -> Result<()> {
    let Some(kubernetes) = Kubernetes::start("the_readmes_object").await? else {
        return Ok(());
    };
    let readme = std::fs::read_to_string(artefacts::root().join("README.md"))?;
    let object = between(&readme, "apply -f - <<'YAML'\n", "\nYAML\n")?;
    let object: Value = serde_saphyr::from_str(&object)?;
    kubernetes.apply_object(CLUSTERS, &object).await?.ok()?;
    let words = between(
        &readme,
        "annotate bcl orders 'pointsman.dev/overrides=",
        "'\n",
    )?;
    kubernetes
        .annotate("orders", Some(&serde_json::from_str(&words)?))
        .await?;
    let sidecar = sidecar(&kubernetes, &[]).await?;
    let status = sidecar.status().await?;
    let cluster = &status["clusters"][0];
    assert_eq!(cluster["name"], "orders");
    assert_eq!(cluster["backends"][0]["id"], "orders-1");
    assert_eq!(cluster["backends"][0]["state"], "Draining");
    condition(&kubernetes, "orders", "ResolvedRefs", "NotFound").await?;
    sidecar.stop().await
}
