//! What a sidecar that cannot start says, and with which exit code.

use harness::port::Port;
use harness::sidecar::run;

use super::*;

/// Runs `serve` to its end: the exit code and everything it said.
async fn fails(settings: &[(String, String)]) -> Result<(i32, String)> {
    let folder = tempfile::tempdir()?;
    let mut environment: Vec<(&str, &str)> = vec![("POINTSMAN_WASM", "/none.wasm")];
    environment.extend(
        settings
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str())),
    );
    run(&["serve"], &environment, folder.path()).await
}

#[tokio::test]
async fn rg_4_it_needs_a_namespace_and_a_way_to_the_server() -> Result<()> {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let kubernetes = pair("POINTSMAN_REGISTRY", "K8S");
    let (code, text) = fails(std::slice::from_ref(&kubernetes)).await?;
    assert_eq!(code, 2, "{text}");
    ensure!(
        text.contains("MX_METADATA_NAMESPACE or POD_NAMESPACE"),
        "{text}"
    );

    let namespace = pair("POD_NAMESPACE", "shop");
    let outside = [kubernetes.clone(), namespace.clone()];
    let (code, text) = fails(&outside).await?;
    assert_eq!(code, 1, "{text}");
    ensure!(text.contains("Kubernetes validation failed:"), "{text}");
    ensure!(text.contains("KUBECONFIG"), "{text}");

    let folder = tempfile::tempdir()?;
    let nobody = Port::reserve()?;
    let url = format!("http://{}", nobody.address());
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "c", "user": {"token": "geheim"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
    });
    let file = folder.path().join("config");
    std::fs::write(&file, config.to_string())?;
    let file = pair("KUBECONFIG", &file.display().to_string());
    let (code, text) = fails(&[kubernetes, namespace, file]).await?;
    assert_eq!(code, 1, "{text}");
    let says = format!("Failed to connect to Kubernetes at {url}");
    ensure!(text.contains(&says), "{text}");
    ensure!(!text.contains("geheim"), "{text}");
    Ok(())
}

#[tokio::test]
async fn rg_11_a_missing_kind_or_right_is_named() -> Result<()> {
    let must = "have users of few rights and none of our kind";
    let Some(kubernetes) = Kubernetes::start_bare("rg_11", must).await? else {
        return Ok(());
    };
    let (code, text) = fails(&kubernetes.settings()).await?;
    assert_eq!(code, 1, "{text}");
    let says = format!(
        "Kubernetes at {} has no backendclusters.pointsman.dev",
        kubernetes.url()?
    );
    ensure!(text.contains(&says), "{text}");

    kubernetes.install().await?;
    let (code, text) = fails(&kubernetes.settings_of_nobody()?).await?;
    assert_eq!(code, 1, "{text}");
    let says = "forbids to list backendclusters.pointsman.dev in namespace shop";
    ensure!(text.contains(says), "{text}");
    ensure!(text.contains("envoy/kubernetes/rbac.yaml"), "{text}");
    Ok(())
}
