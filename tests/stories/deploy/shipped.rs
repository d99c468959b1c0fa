//! The shipped bootstraps with the real module: does what `envoy/` holds work as it stands?

use anyhow::{Context, Result, ensure};
use harness::{
    Bootstrap, Envoy, Load, Registry, SOON, Sidecar, Upstream, artefacts, eventually, registry,
    upstream,
};
use serde_json::{Value, json};

/// Envoy can share nothing between the two files, so what they have in common is compared here: all but
/// where clusters and the filter's configuration come from.
#[test]
fn the_two_listeners_differ_only_in_where_the_filter_comes_from() -> Result<()> {
    let listener = |name: &str| -> Result<Value> {
        let text = std::fs::read_to_string(artefacts::bootstrap(name)?)?;
        let root: Value = serde_saphyr::from_str(&text)?;
        let mut listener = root["static_resources"]["listeners"][0].clone();
        let manager = &mut listener["filter_chains"][0]["filters"][0]["typed_config"];
        let filters = manager["http_filters"].as_array_mut().context("filters")?;
        ensure!(filters[0]["name"] == "pointsman", "{filters:?}");
        filters.remove(0);
        let routes = manager["route_config"].as_object_mut();
        routes.context("routes")?.remove("validate_clusters");
        ensure!(root["overload_manager"].is_object(), "{name}");
        Ok(json!([
            listener,
            root["overload_manager"],
            root["stats_config"]
        ]))
    };
    assert_eq!(listener("envoy.yaml")?, listener("static.yaml")?);
    Ok(())
}

#[tokio::test]
async fn the_ads_bootstrap_is_fed_by_the_sidecar() -> Result<()> {
    let (one, two, spare) = (
        Upstream::new("one")?,
        Upstream::new("two")?,
        Upstream::new("spare")?,
    );
    let mut registry = Registry::new(vec![registry::cluster("orders", &[&one], json!({}))])?;
    let sidecar = Sidecar::start(&registry).await?;
    let envoy = Envoy::start(Bootstrap::ads(sidecar.xds_address())?.concurrency(2)).await?;
    let mut client = envoy.client();
    eventually(SOON, "the first answer of the only backend", async || {
        let response = client.get("/").await?;
        ensure!(
            response.backend() == Some("one"),
            "{} {}",
            response.status,
            response.text()
        );
        Ok(())
    })
    .await?;

    let mut document = registry::cluster("orders", &[&one, &two], json!({}));
    document["backends"]
        .as_array_mut()
        .context("backends")?
        .push(registry::backup(&spare));
    registry.put(document)?;
    eventually(SOON, "the added backend to serve", async || {
        client.get("/").await?;
        ensure!(
            two.hits() > 0,
            "{:?}",
            upstream::hits(&[&one, &two, &spare])
        );
        Ok(())
    })
    .await?;
    assert_eq!(spare.hits(), 0);
    envoy.stop().await?;
    sidecar.stop().await
}

#[tokio::test]
async fn the_static_bootstrap_routes_by_its_inline_registry() -> Result<()> {
    let (one, two, spare) = (
        Upstream::new("one")?,
        Upstream::new("two")?,
        Upstream::new("spare")?,
    );
    let mut document = registry::cluster("orders", &[&one, &two], json!({}));
    document["backends"]
        .as_array_mut()
        .context("backends")?
        .push(registry::backup(&spare));
    let container = Registry::new(vec![document])?.container();
    let endpoints = [one.address(), two.address(), spare.address()];
    let bootstrap = Bootstrap::fixed(&container)?.endpoints("orders", &endpoints)?;
    let envoy = Envoy::start(bootstrap).await?;

    // All three have one priority here, so only the filter can be what spares the backup.
    let tally = Load::new(envoy.address(), 200).run().await?;
    tally.ensure_clean()?;
    ensure!(tally.by("one") > 0 && tally.by("two") > 0, "{tally:?}");
    assert_eq!(tally.by("spare"), 0, "{tally:?}");
    envoy.stop().await
}

#[tokio::test]
async fn filter_stats_have_the_labels_of_the_shipped_recipe() -> Result<()> {
    let (one, two) = (Upstream::new("one")?, Upstream::new("two")?);
    // Dots, dashes and slashes are what regular expressions stumble over.
    let name = "shop.eu-1/orders";
    let container =
        Registry::new(vec![registry::cluster(name, &[&one, &two], json!({}))])?.container();
    let bootstrap = Bootstrap::fixed(&container)?
        .endpoints(name, &[one.address(), two.address()])?
        .route("/", name)?;
    let envoy = Envoy::start(bootstrap).await?;
    // A backend that is gone opens a back-off, and that is counted by cluster and reason.
    one.stop().await;
    Load::new(envoy.address(), 20).run().await?.ensure_clean()?;
    eventually(
        SOON,
        "a series of the filter with both labels",
        async || {
            let page = envoy.prometheus().await?;
            let ours: Vec<&str> = page
                .lines()
                .filter(|line| line.starts_with("pointsman_"))
                .collect();
            let label = format!("pointsman_cluster=\"{name}\"");
            let labelled = ours
                .iter()
                .any(|line| line.contains(&label) && line.contains("reason=\""));
            ensure!(labelled, "{ours:#?}");
            ensure!(
                !ours.iter().any(|line| line.contains(";c=")),
                "unread tails: {ours:#?}"
            );
            Ok(())
        },
    )
    .await
}
