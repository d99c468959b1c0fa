//! One object of the API server → what it says, or everything that is wrong with it.

use std::collections::BTreeMap;

use kube::api::DynamicObject;
use pointsman_filter::config::{ClusterConfig, ConfigErrors, is_cluster_name};
use serde_json::{Map, Value};

use crate::model::errors::error;
use crate::model::overrides::Override;
use crate::registry::document;
use crate::registry::feeds::crd;
use crate::registry::feeds::crd::status::BackendClusterStatus;

/// Most entries of `backendsFrom`.
const REFS_MAX: usize = 16;
/// Longest name of a Service, bytes.
const SERVICE_NAME_MAX: usize = 253;

/// A BackendCluster as it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// The object's name.
    pub name: String,
    /// Tells it from another one of the same name, before or after it.
    pub uid: String,
    /// Counts the changes of its spec.
    pub generation: i64,
    /// When it was made, s since 1970; of two that claim one name the older wins.
    pub created: i64,
    /// What its user wants.
    pub spec: Value,
    /// The operators' overrides.
    pub overrides: Option<String>,
    /// What was last written about it; `None` where that is nothing we would write.
    pub status: Option<BackendClusterStatus>,
}

/// What a spec says.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// The cluster, without the backends of Services.
    pub cluster: ClusterConfig,
    /// Where more backends come from.
    pub from: Vec<ServiceRef>,
}

/// A Service whose endpoints are backends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceRef {
    /// Its name.
    pub name: String,
    /// Which of its ports; `None`: the only one.
    pub port: Option<Port>,
}

/// A port of a Service's endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Port {
    /// By name.
    Name(String),
    /// As the endpoints have it.
    Number(u16),
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
        let mut annotations = metadata.annotations.unwrap_or_default();
        Object {
            name: metadata.name.unwrap_or_default(),
            uid: metadata.uid.unwrap_or_default(),
            generation: metadata.generation.unwrap_or_default(),
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

    /// Reads the spec.
    pub fn document(&self) -> Result<Document, ConfigErrors> {
        let place = self.place();
        if !self.spec.is_object() {
            return Err(error(&place, "must have a spec that is an object"));
        }
        Document::judge(self.text(), &place)
    }

    /// Reads the operators' overrides, by backend id.
    pub fn overrides(
        &self,
    ) -> Result<BTreeMap<String, Result<Override, ConfigErrors>>, ConfigErrors> {
        let Some(text) = &self.overrides else {
            return Ok(BTreeMap::new());
        };
        let name = self.claim().unwrap_or(&self.name);
        let wrong = |why: String| error(&format!("overrides.{name}"), why);
        let overrides: Value =
            serde_json::from_str(text).map_err(|why| wrong(format!("must be JSON: {why}")))?;
        let Value::Object(overrides) = overrides else {
            return Err(wrong("must be an object: backend id to state".to_owned()));
        };
        let entry = |(id, value): (String, Value)| {
            let read = Override::read(&format!("overrides.{name}[{id}]"), &value);
            (id, read)
        };
        Ok(overrides.into_iter().map(entry).collect())
    }
}

impl Document {
    /// Judges a document; `place` is where its errors are.
    fn judge(mut document: Value, place: &str) -> Result<Self, ConfigErrors> {
        // The one parser knows clusters, not where else their backends come from.
        let from = document
            .as_object_mut()
            .and_then(|it| it.remove("backendsFrom"));
        // Both are judged, so that all that is wrong is said at once.
        let from = read_refs(&from.unwrap_or_default(), &format!("{place}.backendsFrom"));
        match (document::judge(&document), from) {
            (Ok(cluster), Ok(from)) => Ok(Document { cluster, from }),
            (Ok(_), Err(wrong)) | (Err(wrong), Ok(_)) => Err(wrong),
            (Err(mut wrong), Err(more)) => {
                wrong.0.extend(more.0);
                Err(wrong)
            }
        }
    }
}

/// The judgement on a document that is to be an object: it may name Services.
pub fn judge(document: &Value) -> Result<ClusterConfig, ConfigErrors> {
    let name = document.get("name").and_then(Value::as_str);
    let place = name.map_or_else(|| "cluster".to_owned(), |name| format!("clusters.{name}"));
    Document::judge(document.clone(), &place).map(|it| it.cluster)
}

fn read_refs(value: &Value, place: &str) -> Result<Vec<ServiceRef>, ConfigErrors> {
    let items = match value {
        Value::Null => return Ok(Vec::new()),
        Value::Array(items) if items.len() <= REFS_MAX => items,
        Value::Array(_) => return Err(error(place, format!("must have at most {REFS_MAX}"))),
        _ => return Err(error(place, "must be a list")),
    };
    let mut errors = Vec::new();
    let mut refs = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        match read_ref(item, &format!("{place}[{index}]")) {
            Ok(read) => refs.push(read),
            Err(wrong) => errors.extend(wrong.0),
        }
    }
    match errors.is_empty() {
        true => Ok(refs),
        false => Err(ConfigErrors(errors)),
    }
}

fn read_ref(item: &Value, place: &str) -> Result<ServiceRef, ConfigErrors> {
    let outer = fields(item, place, &["service"])?;
    let place = format!("{place}.service");
    let service = outer.get("service").unwrap_or(&Value::Null);
    if service.is_null() {
        return Err(error(&place, "is required"));
    }
    let service = fields(service, &place, &["name", "port"])?;
    let name = service.get("name").and_then(Value::as_str).unwrap_or("");
    if name.is_empty() || name.len() > SERVICE_NAME_MAX {
        let why = "is required: a Service of this namespace";
        return Err(error(&format!("{place}.name"), why));
    }
    let number = |port: &Value| port.as_u64().and_then(|it| u16::try_from(it).ok());
    let port = match service.get("port") {
        None | Some(Value::Null) => None,
        Some(Value::String(name)) if !name.is_empty() => Some(Port::Name(name.clone())),
        Some(port) => match number(port).filter(|port| *port > 0) {
            Some(port) => Some(Port::Number(port)),
            None => {
                let why = "must be a port's name or a number from 1 to 65535";
                return Err(error(&format!("{place}.port"), why));
            }
        },
    };
    Ok(ServiceRef {
        name: name.to_owned(),
        port,
    })
}

fn fields<'a>(
    value: &'a Value,
    place: &str,
    known: &[&str],
) -> Result<&'a Map<String, Value>, ConfigErrors> {
    let Value::Object(map) = value else {
        return Err(error(place, "must be an object"));
    };
    match map.keys().find(|name| !known.contains(&name.as_str())) {
        Some(name) => Err(error(&format!("{place}.{name}"), "is not a known field")),
        None => Ok(map),
    }
}

#[cfg(test)]
mod tests {
    use pointsman_filter::config::State;
    use serde_json::json;

    use super::*;

    fn object(name: &str, spec: Value) -> Object {
        let text = json!({"metadata": {"name": name}, "spec": spec});
        Object::of(serde_json::from_value(text).expect("an object"))
    }

    #[test]
    fn a_document_has_its_objects_name_unless_it_says_another() {
        let plain = object("orders", json!({})).document().unwrap();
        assert_eq!(plain.cluster.name, "orders");
        let said = object("orders", json!({"name": "a|b"})).document().unwrap();
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
        let from = object("o", spec).document().unwrap().from;
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
            let errors = object("o", spec.clone()).document().unwrap_err();
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
        let read = overrides(r#"{"a": "Cordoned", "b": {"state": "Draining", "expiresAt": 5}}"#);
        let read = read.unwrap();
        assert_eq!(read["a"].as_ref().unwrap().state, State::Cordoned);
        assert_eq!(read["b"].as_ref().unwrap().expires_at, Some(5));
        assert!(overrides(r#"{"a": "Normal"}"#).unwrap()["a"].is_err());
        for bad in ["", "[]", "3"] {
            assert!(overrides(bad).is_err(), "{bad:?}");
        }
    }
}
