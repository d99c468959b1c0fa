//! The custom resource `BackendCluster`.
//!
//! What an object says is judged by the one parser, which is given its `spec` as it stands. The
//! definition refuses at once what the parser would refuse later, as far as patterns, limits and
//! CEL rules can say it.

pub mod status;

use kube::core::{ApiResource, GroupVersionKind};

/// The definition, as `pointsman crd` prints it.
pub const YAML: &str = include_str!("../../../../envoy/kubernetes/crd.yaml");
/// The annotation that holds the operators' overrides.
pub const OVERRIDES: &str = "pointsman.dev/overrides";

/// What the API server is asked for.
pub fn resource() -> ApiResource {
    let kind = GroupVersionKind::gvk("pointsman.dev", "v1alpha1", "BackendCluster");
    ApiResource::from_gvk_with_plural(&kind, "backendclusters")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::status::{BackendClusterStatus, Impaired};
    use super::*;

    fn definition() -> Value {
        serde_saphyr::from_str(YAML).expect("YAML")
    }

    #[test]
    fn rg_10_it_is_namespaced_with_a_status_and_columns() {
        let spec = &definition()["spec"];
        let asked = resource();
        assert_eq!(spec["group"], asked.group);
        assert_eq!(spec["names"]["kind"], asked.kind);
        assert_eq!(spec["names"]["plural"], asked.plural);
        assert_eq!(spec["scope"], "Namespaced");
        assert_eq!(spec["names"]["shortNames"], json!(["bcl"]));
        let version = &spec["versions"][0];
        assert_eq!(version["name"], asked.version);
        assert_eq!(version["subresources"], json!({"status": {}}));
        let columns = version["additionalPrinterColumns"].as_array().unwrap();
        assert!(columns.iter().any(|column| column["name"] == "Accepted"));
    }

    /// The fields that a schema describes, or that a value has, each by its path.
    fn fields(value: &Value, path: &str, schema: bool, into: &mut Vec<String>) {
        let inner = if schema { &value["properties"] } else { value };
        for (name, value) in inner.as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            // Conditions are Kubernetes' own.
            if name != "conditions" {
                let item = if schema { &value["items"] } else { &value[0] };
                fields(
                    if item.is_null() { value } else { item },
                    &path,
                    schema,
                    into,
                );
            }
            into.push(path);
        }
    }

    #[test]
    fn the_server_keeps_every_field_of_the_status_that_is_written() {
        let impaired = Impaired {
            id: "a".to_owned(),
            address: "10.0.0.1:80".to_owned(),
            state: "Draining".to_owned(),
            healthy: false,
            reason: Some("refused".to_owned()),
        };
        let status = BackendClusterStatus {
            cluster: Some("orders".to_owned()),
            impaired: vec![impaired],
            ..BackendClusterStatus::default()
        };
        let (mut written, mut kept) = (Vec::new(), Vec::new());
        fields(&json!(status), "", false, &mut written);
        let schema = "/spec/versions/0/schema/openAPIV3Schema/properties/status";
        let definition = definition();
        fields(definition.pointer(schema).unwrap(), "", true, &mut kept);
        written.sort();
        kept.sort();
        assert_eq!(written, kept);
    }
}
