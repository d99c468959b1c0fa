//! The custom resource `BackendCluster`, as `pointsman crd` prints it.
//!
//! The types of [`spec`] mirror the registry's schema and are there for the definition alone: what
//! an object says is judged by the one parser, which is given its `spec` as it stands. The
//! definition refuses at once what the parser would refuse later, as far as patterns, limits and
//! CEL rules can say it.

pub mod spec;
pub mod status;

use kube::CustomResourceExt;
use kube::core::ApiResource;
use serde_json::Value;

pub use spec::BackendCluster;

/// The annotation that holds the operators' overrides.
pub const OVERRIDES: &str = "pointsman.dev/overrides";

/// What the API server is asked for.
pub fn resource() -> ApiResource {
    BackendCluster::api_resource()
}

/// The definition as YAML.
pub fn yaml() -> String {
    let mut definition = serde_json::to_value(BackendCluster::crd()).unwrap_or_default();
    tidy(&mut definition);
    let text = serde_saphyr::to_string(&definition).unwrap_or_default();
    format!("# Written by `pointsman crd`.\n{text}")
}

/// What the derivation adds beyond the schema: `null` is no value here, formats that Kubernetes
/// does not know only earn a warning, and a limit of whole numbers is one itself.
fn tidy(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.remove("nullable");
            if map.get("default").is_some_and(Value::is_null) {
                map.remove("default");
            }
            let foreign = |format: &Value| format.as_str().is_some_and(|it| it.starts_with("uint"));
            if map.get("format").is_some_and(foreign) {
                map.remove("format");
            }
            map.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        Value::Number(number) => {
            let float = number.as_f64().filter(|_| number.is_f64());
            if let Some(float) = float.filter(|float| float.fract() == 0.0 && float.abs() < 1e15) {
                // Exact: it is whole and far below 2^53.
                *value = Value::from(float as i64);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;

    #[test]
    fn the_committed_definition_is_the_derived_one() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../envoy/kubernetes/crd.yaml");
        let committed = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(
            committed == yaml(),
            "run `pointsman crd > envoy/kubernetes/crd.yaml`; derived:\n{}",
            yaml()
        );
    }

    #[test]
    fn rg_10_it_is_namespaced_with_a_status_and_columns() {
        let definition: Value = serde_saphyr::from_str(&yaml()).expect("YAML");
        let spec = &definition["spec"];
        assert_eq!(spec["group"], "pointsman.dev");
        assert_eq!(spec["scope"], "Namespaced");
        assert_eq!(spec["names"]["shortNames"], json!(["bcl"]));
        let version = &spec["versions"][0];
        assert_eq!(version["name"], "v1alpha1");
        assert_eq!(version["subresources"], json!({"status": {}}));
        let columns = version["additionalPrinterColumns"].as_array().unwrap();
        assert!(columns.iter().any(|column| column["name"] == "Accepted"));
    }
}
