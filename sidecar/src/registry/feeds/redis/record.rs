//! One record of Redis → what it says, or everything that is wrong with it.

use std::collections::BTreeMap;

use pointsman_filter::config::{BackendConfig, ClusterConfig, ConfigErrors};
use serde_json::{Map, Value, json};

use crate::model::errors::error;
use crate::model::json;
use crate::model::overrides::Override;
use crate::registry::document as documents;
use crate::registry::record::{Document, Entries, Record, Registered, Wanted, What};
use crate::stores::redis::layout::{self, Key, Layout};
use crate::stores::redis::link::Raw;

/// Longest document, bytes; the longest that the schema allows is far shorter.
const DOCUMENT_MAX: usize = 8 << 20;

/// What stands under a key.
pub fn record(layout: &Layout, key: Key, raw: Raw) -> Record {
    let place = layout.write(&key);
    let what = match key {
        Key::Status(_) if raw == Raw::WrongType => {
            What::Malformed(error(&place, "must be a hash that a sidecar wrote"))
        }
        // Whatever it says: it was found.
        Key::Status(cluster) => What::Status(cluster),
        _ if raw == Raw::Missing => What::Gone,
        Key::Cluster(name) => What::Document(Document {
            claim: Some(name.clone()),
            title: place.clone(),
            etag: match &raw {
                Raw::Text(text) => documents::etag(text),
                _ => String::new(),
            },
            overrides: Ok(BTreeMap::new()),
            object: None,
            judge: Box::new(move || document(&name, &raw).map(Wanted::from)),
        }),
        Key::Backend { cluster, id } => {
            let heartbeat = heartbeat(&raw);
            let read = registered(&cluster, &id, &raw);
            let said = Registered { read, heartbeat };
            What::Backend { cluster, id, said }
        }
        Key::Override(cluster) => {
            let read = overrides(&cluster, raw);
            What::Overrides { cluster, read }
        }
        Key::Malformed(_) => What::Malformed(error(&place, "is not the key of a cluster's record")),
    };
    // A key can stand only once: no two documents have one name.
    Record {
        place,
        rank: 0,
        what,
    }
}

/// Reads the operators' overrides.
fn overrides(cluster: &str, raw: Raw) -> Entries {
    let Raw::Hash(fields) = raw else {
        return Err(error(&format!("overrides.{cluster}"), "must be a hash"));
    };
    let entry = |(field, value): (Vec<u8>, Vec<u8>)| {
        let id = layout::text(&field);
        let place = format!("overrides.{cluster}[{id}]");
        let read = match std::str::from_utf8(&field) {
            Ok(_) => Override::parse(&place, &value),
            Err(_) => Err(error(&place, "must be the id of a backend, which is UTF-8")),
        };
        (id, read)
    };
    Ok(fields.into_iter().map(entry).collect())
}

/// Reads a cluster's document.
pub fn document(name: &str, raw: &Raw) -> Result<ClusterConfig, ConfigErrors> {
    let place = format!("clusters.{name}");
    let text = match raw {
        Raw::Text(text) if text.len() <= DOCUMENT_MAX => text,
        Raw::Text(_) => {
            return Err(error(
                &place,
                format!("must have at most {DOCUMENT_MAX} bytes"),
            ));
        }
        _ => return Err(error(&place, "must be a string that holds a JSON document")),
    };
    let value = json::read(text).map_err(|why| error(&place, format!("must be JSON: {why}")))?;
    let said = value.get("name").and_then(Value::as_str);
    if let Some(said) = said.filter(|said| *said != name) {
        let why = format!("must be {name:?}, as the key says, not {said:?}");
        return Err(error(&format!("{place}.name"), why));
    }
    documents::judge(&value).map_err(|errors| documents::moved(errors, "cluster", &place))
}

/// A hash's field that says when its backend was alive.
const HEARTBEAT: &str = "heartbeatAt";

/// When a backend says that it was alive last, to the letter.
fn heartbeat(raw: &Raw) -> Option<Vec<u8>> {
    let Raw::Hash(fields) = raw else {
        return None;
    };
    let mut fields = fields.iter();
    let found = fields.find(|(field, _)| field == HEARTBEAT.as_bytes());
    found.map(|(_, value)| value.clone())
}

/// Reads a backend's own record, but for its heartbeat.
pub fn registered(cluster: &str, id: &str, raw: &Raw) -> Result<BackendConfig, ConfigErrors> {
    let place = format!("clusters.{cluster}.backends[{id}]");
    let Raw::Hash(fields) = raw else {
        return Err(error(&place, "must be a hash"));
    };
    let mut map = Map::new();
    for (field, value) in fields {
        if field == HEARTBEAT.as_bytes() {
            continue;
        }
        let at = || format!("{place}.{}", layout::text(field));
        let (field, value) = (utf8(field, at)?, utf8(value, at)?);
        match field {
            "id" => return Err(error(&format!("{place}.id"), "stands in the key already")),
            _ => drop(map.insert(field.to_owned(), typed(field, value))),
        }
    }
    map.insert("id".to_owned(), id.into());
    // The one parser judges it, as the only backend of a document.
    let document = json!({"name": cluster, "backends": [map]});
    let parsed = ClusterConfig::parse(&document).map_err(|errors| {
        documents::moved(errors, &format!("clusters.{cluster}.backends[0]"), &place)
    })?;
    let backend = parsed.backends.into_iter().next();
    backend.ok_or_else(|| error(&place, "must be a backend"))
}

/// A hash knows only texts; the schema knows numbers and flags.
fn typed(field: &str, text: &str) -> Value {
    let typed = match field {
        "weight" => text.parse::<i64>().ok().map(Value::from),
        "backup" => text.parse::<bool>().ok().map(Value::from),
        _ => None,
    };
    typed.unwrap_or_else(|| text.into())
}

fn utf8(bytes: &[u8], place: impl Fn() -> String) -> Result<&str, ConfigErrors> {
    std::str::from_utf8(bytes).map_err(|_| error(&place(), "must be UTF-8"))
}

#[cfg(test)]
mod tests {
    use pointsman_filter::config::State;
    use proptest::collection::vec;
    use proptest::prelude::{any, proptest};

    use super::documents::SIDECAR_CLUSTER;
    use super::*;

    proptest! {
        /// Whatever stands in Redis is judged: it is a record, or an error that says something.
        #[test]
        fn any_bytes_are_judged(
            bytes in vec(any::<u8>(), 0..200),
            fields in vec((vec(any::<u8>(), 0..9), vec(any::<u8>(), 0..9)), 1..4),
        ) {
            let key = [b"pm:backend:", bytes.as_slice()].concat();
            drop(Layout::new("pm").parse(&key));
            let said = [
                document("a", &Raw::Text(bytes.clone())).err(),
                registered("a", "b", &Raw::Hash(fields)).err(),
            ];
            for errors in said.into_iter().flatten() {
                assert!(errors.0.iter().all(|error| !error.why.is_empty()), "{errors}");
            }
        }
    }

    fn text(text: &str) -> Raw {
        Raw::Text(text.as_bytes().to_vec())
    }

    fn hash(fields: &[(&str, &str)]) -> Raw {
        let bytes = |text: &str| text.as_bytes().to_vec();
        Raw::Hash(fields.iter().map(|(f, v)| (bytes(f), bytes(v))).collect())
    }

    #[test]
    fn a_document_says_its_keys_name() {
        assert_eq!(document("a", &text(r#"{"name":"a"}"#)).unwrap().name, "a");
        for (raw, expected) in [
            (
                text(r#"{"name":"b"}"#),
                r#"clusters.a.name: must be "a", as the key says, not "b""#,
            ),
            (text("{}"), "clusters.a.name: is required"),
            (text("3"), "clusters.a: must be an object, not 3"),
            (
                hash(&[("x", "y")]),
                "clusters.a: must be a string that holds a JSON document",
            ),
            (
                Raw::WrongType,
                "clusters.a: must be a string that holds a JSON document",
            ),
            (
                text(r#"{"name":"a","backends":[{"address":"x"}]}"#),
                "clusters.a.backends[0].address: must be ip:port or [ipv6]:port (host names and \
                 URLs are not supported yet), not \"x\"",
            ),
        ] {
            let error = document("a", &raw).unwrap_err().to_string();
            assert_eq!(error, expected, "{raw:?}");
        }
        let error = document("a", &text("{")).unwrap_err().to_string();
        assert!(error.starts_with("clusters.a: must be JSON: "), "{error}");
        let twice = text(r#"{"backends":[{"weight":1,"weight":2}]}"#);
        let error = document("a", &twice).unwrap_err().to_string();
        let why = r#"clusters.a: must be JSON: the key "weight" stands twice"#;
        assert!(error.starts_with(why), "{error}");
        let taken = text(r#"{"name":"pointsman_sidecar"}"#);
        assert!(document(SIDECAR_CLUSTER, &taken).is_err());
    }

    #[test]
    fn a_backend_registers_itself_with_texts() {
        let raw = hash(&[
            ("address", "10.0.0.1:80"),
            ("weight", "7"),
            ("backup", "true"),
            ("stickyId", "s"),
            ("state", "Draining"),
            ("heartbeatAt", "12"),
        ]);
        assert_eq!(heartbeat(&raw), Some(b"12".to_vec()));
        let backend = registered("a", "10.0.0.1:80", &raw).unwrap();
        assert_eq!((backend.weight, backend.backup), (7, true));
        assert_eq!(backend.state, State::Draining);
        assert_eq!(
            (backend.id.as_str(), backend.id_given),
            ("10.0.0.1:80", true)
        );
        for (fields, expected) in [
            (
                &[("weight", "1")][..],
                "clusters.a.backends[b].address: is required",
            ),
            (
                &[("address", "10.0.0.1:80"), ("weight", "many")],
                "clusters.a.backends[b].weight: must be a whole number from 0 to 65535, not \
                 \"many\"",
            ),
            (
                &[("address", "10.0.0.1:80"), ("port", "1")],
                "clusters.a.backends[b].port: is not a known field",
            ),
            (
                &[("id", "c")],
                "clusters.a.backends[b].id: stands in the key already",
            ),
        ] {
            let error = registered("a", "b", &hash(fields)).unwrap_err().to_string();
            assert_eq!(error, expected, "{fields:?}");
        }
        assert!(registered("a", "b", &Raw::WrongType).is_err());
    }
}
