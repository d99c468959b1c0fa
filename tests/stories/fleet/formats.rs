//! One registry in three formats: the filters get the same bytes (invariant 6).

use anyhow::{Context, Result, ensure};
use harness::{Envoy, Registry, Sidecar, eventually};
use serde_json::Value;

use super::scene::{SOON, bootstrap};

const YAML: &str = r#"
# Written by hand, in an order of its own.
clusters:
- name: zeta
- backends:
  - address: "127.0.0.1:8081"
    id: orders-1
  - {id: orders-2, address: "127.0.0.1:8082", weight: 50, backup: true}
  healthCheck:
    interval: 2000ms
    http: {path: /healthz, expectedStatuses: [200, "204-299"]}
  sticky: {cookie: POINTSMAN}
  loadBalancing: {policy: LeastLoaded}
  name: orders
schema: 1
"#;

const JSON: &str = r#"{
  "schema": 1,
  "clusters": [
    {"name": "orders", "loadBalancing": {"policy": "LeastLoaded", "metric": "Requests"},
     "sticky": {"cookie": "POINTSMAN", "httpOnly": true},
     "healthCheck": {"http": {"path": "/healthz", "expectedStatuses": [200, "204-299"]},
                     "interval": "2s", "healthyThreshold": 3},
     "backends": [
       {"id": "orders-1", "address": "127.0.0.1:8081", "weight": 100, "state": "Normal"},
       {"weight": 50, "id": "orders-2", "backup": true, "address": "127.0.0.1:8082"}]},
    {"name": "zeta", "backends": []}
  ]
}"#;

const TOML: &str = r#"
schema = 1

[[clusters]]
name = "orders"
[clusters.loadBalancing]
policy = "LeastLoaded"
[clusters.sticky]
cookie = "POINTSMAN"
sameSite = "Lax"
[clusters.healthCheck]
interval = "2s"
http = { path = "/healthz", expectedStatuses = [200, "204-299"] }
[[clusters.backends]]
id = "orders-1"
address = "127.0.0.1:8081"
[[clusters.backends]]
id = "orders-2"
address = "127.0.0.1:8082"
weight = 50
backup = true

[[clusters]]
name = "zeta"
"#;

/// The filter's configuration as Envoy has it.
async fn configuration(name: &str, text: &str) -> Result<String> {
    let registry = Registry::of_text(name, text)?;
    let sidecar = Sidecar::start(&registry).await?;
    let rejected = sidecar.status().await?["registry"]["rejected"].take();
    ensure!(rejected == serde_json::json!([]), "{name}: {rejected}");
    let envoy = Envoy::start(bootstrap(&sidecar)?).await?;
    eventually(SOON, "the filter's configuration", async || {
        found(&envoy.config_dump().await?)
    })
    .await
}

fn found(dump: &Value) -> Result<String> {
    let sections = dump["configs"].as_array().context("configs")?;
    let filters = sections
        .iter()
        .flat_map(|section| section["ecds_filters"].as_array());
    let mut values = filters.flatten().filter_map(|filter: &Value| {
        let value = &filter["ecds_filter"]["typed_config"]["config"]["configuration"]["value"];
        value.as_str()
    });
    Ok(values
        .next()
        .with_context(|| format!("no filter in {dump}"))?
        .to_owned())
}

#[tokio::test]
async fn equal_documents_in_yaml_json_and_toml_give_byte_equal_filter_configurations() -> Result<()>
{
    let yaml = configuration("clusters.yaml", YAML).await?;
    let json = configuration("clusters.json", JSON).await?;
    let toml = configuration("clusters.toml", TOML).await?;
    println!("{} bytes: {yaml}", yaml.len());
    ensure!(yaml == json, "JSON: {json}");
    ensure!(yaml == toml, "TOML: {toml}");
    let value: Value = serde_json::from_str(&yaml)?;
    ensure!(
        value["revision"]
            .as_str()
            .is_some_and(|revision| revision.len() == 16)
    );
    ensure!(
        value["clusters"]
            .as_array()
            .is_some_and(|clusters| clusters.len() == 2)
    );
    Ok(())
}
