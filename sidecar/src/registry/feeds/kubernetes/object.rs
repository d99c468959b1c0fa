//! One object of the API server → what it says, or everything that is wrong with it.

use std::collections::BTreeMap;

use kube::api::DynamicObject;
use pointsman_filter::config::{ClusterConfig, ConfigErrors, is_cluster_name};
use serde_json::{Map, Value};

use crate::model::errors::error;
use crate::model::json;
use crate::model::overrides::read_each;
use crate::registry::document;
use crate::registry::feeds::crd;
use crate::registry::feeds::crd::status::BackendClusterStatus;
use crate::registry::record::{self, Document, Entries, Record, Wanted, What};
use crate::registry::services::read_refs;

/// A BackendCluster as it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// The object's name.
    pub name: String,
    /// Tells it from another one of the same name, before or after it.
    pub uid: String,
    /// Counts the changes of its spec.
    pub generation: i64,
    /// Its user has deleted it, and it stands there still: why.
    pub deleting: Option<String>,
    /// When it was made, s since 1970; of two that claim one name the older wins.
    pub created: i64,
    /// What its user wants.
    pub spec: Value,
    /// The operators' overrides.
    pub overrides: Option<String>,
    /// What was last written about it; `None` where that is nothing we would write.
    pub status: Option<BackendClusterStatus>,
}

impl Object {
    /// Takes what is needed of an object.
    pub fn of(object: DynamicObject) -> Self {
        let DynamicObject { metadata, data, .. } = object;
        let mut data = match data {
            Value::Object(data) => data,
            _ => Map::new(),
        };
        let status = data.remove("status");
        let deleting = metadata.deletion_timestamp.as_ref();
        let deleting = deleting.map(|_| deleting_because(metadata.finalizers.as_deref()));
        let mut annotations = metadata.annotations.unwrap_or_default();
        Object {
            name: metadata.name.unwrap_or_default(),
            uid: metadata.uid.unwrap_or_default(),
            generation: metadata.generation.unwrap_or_default(),
            deleting,
            created: metadata
                .creation_timestamp
                .map_or(0, |time| time.0.as_second()),
            spec: data.remove("spec").unwrap_or(Value::Null),
            overrides: annotations.remove(crd::OVERRIDES),
            status: status.and_then(|status| serde_json::from_value(status).ok()),
        }
    }

    /// The name of the cluster that it claims; what it says is not judged yet.
    pub fn claim(&self) -> Option<&str> {
        let said = self.spec.get("name").filter(|name| !name.is_null());
        let name = said.map_or(Some(self.name.as_str()), Value::as_str);
        name.filter(|name| is_cluster_name(name))
    }

    /// Where its errors are placed.
    pub fn place(&self) -> String {
        match self.claim() {
            Some(name) => format!("clusters.{name}"),
            None => format!("backendclusters.{}", self.name),
        }
    }

    /// The document that its spec is, with its name.
    pub fn text(&self) -> Value {
        let Value::Object(spec) = &self.spec else {
            return self.spec.clone();
        };
        let mut document = spec.clone();
        if document.get("name").is_none_or(Value::is_null) {
            document.insert("name".to_owned(), self.name.clone().into());
        }
        Value::Object(document)
    }

    /// Whether it wants a Service's endpoints as backends.
    pub fn names_a_service(&self) -> bool {
        let from = self.spec.get("backendsFrom");
        from.is_some_and(|from| !from.is_null())
    }

    /// What stands there.
    pub fn record(self) -> Record {
        let (text, place, overrides) = (self.text(), self.place(), self.overrides());
        let what = Document {
            claim: self.claim().map(str::to_owned),
            title: format!("the older BackendCluster {}", self.name),
            etag: document::etag(text.to_string().as_bytes()),
            overrides,
            judge: Box::new(move || read(text, &place)),
            object: Some(record::Object {
                name: self.name.clone(),
                uid: self.uid,
                generation: self.generation,
                deleting: self.deleting,
                status: self.status,
            }),
        };
        Record {
            place: format!("backendclusters.{}", self.name),
            rank: self.created,
            what: What::Document(what),
        }
    }

    /// Nothing stands there any more.
    pub fn gone(self) -> Record {
        Record {
            place: format!("backendclusters.{}", self.name),
            rank: 0,
            what: What::Gone,
        }
    }

    /// Reads the operators' overrides, by backend id.
    pub fn overrides(&self) -> Entries {
        let Some(text) = &self.overrides else {
            return Ok(BTreeMap::new());
        };
        let name = self.claim().unwrap_or(&self.name);
        let wrong = |why: String| error(&format!("overrides.{name}"), why);
        let overrides: Value =
            json::read(text.as_bytes()).map_err(|why| wrong(format!("must be JSON: {why}")))?;
        let Value::Object(overrides) = overrides else {
            return Err(wrong("must be an object: backend id to state".to_owned()));
        };
        Ok(read_each(name, &overrides))
    }
}

/// Why an object that was deleted stands there still.
fn deleting_because(finalizers: Option<&[String]>) -> String {
    let by = finalizers.unwrap_or_default().join(", ");
    format!("is being deleted and not served; its finalizers hold it: {by}")
}

/// Reads a document; `place` is where its errors are.
fn read(mut document: Value, place: &str) -> Result<Wanted, ConfigErrors> {
    let Value::Object(fields) = &mut document else {
        return Err(error(place, "must have a spec that is an object"));
    };
    // The one parser knows clusters, not where else their backends come from.
    let from = fields.remove("backendsFrom").unwrap_or_default();
    // Both are judged, so that all that is wrong is said at once.
    let from = read_refs(&from, &format!("{place}.backendsFrom"));
    match (document::judge(&document), from) {
        (Ok(cluster), Ok(from)) => Ok(Wanted { cluster, from }),
        (Ok(_), Err(wrong)) | (Err(wrong), Ok(_)) => Err(wrong),
        (Err(mut wrong), Err(more)) => {
            wrong.0.extend(more.0);
            Err(wrong)
        }
    }
}

/// The judgement on a document that is to be an object: it may name Services.
pub fn judge(document: &Value) -> Result<ClusterConfig, ConfigErrors> {
    let name = document.get("name").and_then(Value::as_str);
    let place = name.map_or_else(|| "cluster".to_owned(), |name| format!("clusters.{name}"));
    read(document.clone(), &place).map(|it| it.cluster)
}

#[cfg(test)]
mod tests {
    use pointsman_filter::config::State;
    use serde_json::json;

    use super::*;
    use crate::registry::services::Port;

    fn wanted(name: &str, spec: Value) -> Result<Wanted, ConfigErrors> {
        let text = json!({"metadata": {"name": name}, "spec": spec});
        let object = Object::of(serde_json::from_value(text).expect("an object"));
        read(object.text(), &object.place())
    }

    #[test]
    fn a_document_has_its_objects_name_unless_it_says_another() {
        let plain = wanted("orders", json!({})).unwrap();
        assert_eq!(plain.cluster.name, "orders");
        let said = wanted("orders", json!({"name": "a|b"})).unwrap();
        assert_eq!(said.cluster.name, "a|b");
        let equal = ClusterConfig::parse(&json!({"name": "a|b"})).unwrap();
        assert_eq!(said.cluster, equal);
    }

    #[test]
    fn services_are_named_with_a_port_or_none() {
        let spec = json!({"backendsFrom": [
            {"service": {"name": "a"}}, {"service": {"name": "b", "port": "http"}},
            {"service": {"name": "c", "port": 8080}},
        ]});
        let from = wanted("o", spec).unwrap().from;
        let ports: Vec<Option<Port>> = from.into_iter().map(|it| it.port).collect();
        let named = Some(Port::Name("http".to_owned()));
        assert_eq!(ports, [None, named, Some(Port::Number(8080))]);
    }

    #[test]
    fn rg_9_what_is_wrong_is_said_with_its_path() {
        for (spec, expected) in [
            (json!(3), "clusters.o: must have a spec that is an object"),
            (
                json!({"weight": 1, "backendsFrom": [{"service": {}}]}),
                "clusters.o.weight: is not a known field; clusters.o.backendsFrom[0].service.name: \
                 is required: a Service of this namespace",
            ),
            (
                json!({"backendsFrom": [{"service": {"name": "a", "port": 0}}, {"pods": 1}]}),
                "clusters.o.backendsFrom[0].service.port: must be a port's name or a number from 1 \
                 to 65535; clusters.o.backendsFrom[1].pods: is not a known field",
            ),
            (
                json!({"name": "pointsman_sidecar"}),
                "clusters.pointsman_sidecar.name: must be another: this one is the way to the \
                 sidecar",
            ),
            (
                json!({"backends": [{"address": "10.0.0.1:80", "weight": -1}]}),
                "clusters.o.backends[0].weight: must be a whole number from 0 to 65535, not -1",
            ),
        ] {
            let errors = wanted("o", spec.clone()).unwrap_err();
            assert_eq!(errors.to_string(), expected, "{spec}");
        }
    }

    #[test]
    fn words_stand_in_the_annotation() {
        let overrides = |text: &str| {
            let annotations = json!({crd::OVERRIDES: text});
            let value = json!({"metadata": {"name": "o", "annotations": annotations}});
            Object::of(serde_json::from_value(value).expect("an object")).overrides()
        };
        let read = overrides(
            r#"{"a": "Cordoned", "b": {"state": "Draining", "expiresAt": 1700000000000}}"#,
        );
        let read = read.unwrap();
        assert_eq!(read["a"].as_ref().unwrap().state, State::Cordoned);
        assert_eq!(
            read["b"].as_ref().unwrap().expires_at,
            Some(1_700_000_000_000)
        );
        assert!(overrides(r#"{"a": "Normal"}"#).unwrap()["a"].is_err());
        for bad in ["", "[]", "3", r#"{"a": "Cordoned", "a": "Draining"}"#] {
            assert!(overrides(bad).is_err(), "{bad:?}");
        }
    }
}
