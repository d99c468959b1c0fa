//! Kinds that every real cluster has and the API server here has not: they become custom resources.

use serde_json::{Value, json};

/// A kind of Kubernetes' own, with whatever fields it has.
pub fn definition(group: &str, plural: &str, kind: &str) -> Value {
    let free = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": format!("{plural}.{group}"),
            // Groups of Kubernetes' own are guarded.
            "annotations": {"api-approved.kubernetes.io": "https://github.com/kubernetes/kubernetes"},
        },
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": plural, "singular": kind.to_lowercase(), "kind": kind,
                "listKind": format!("{kind}List")},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": free},
            }],
        },
    })
}

/// EndpointSlices and Leases.
pub fn all() -> [Value; 2] {
    [
        definition("discovery.k8s.io", "endpointslices", "EndpointSlice"),
        definition("coordination.k8s.io", "leases", "Lease"),
    ]
}
