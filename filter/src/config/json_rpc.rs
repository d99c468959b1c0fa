//! How the bodies of JSON-RPC requests are read.

use serde_json::{Map, Value};

use super::policy::{insert, name_of};
use super::reader::{Object, Path, Report, kind};

const BATCH_DEFAULT: u32 = 100;
const BATCH_MAX: u32 = 10_000;
const BODY_DEFAULT: u32 = 262_144;
const BODY_MAX: u32 = 16_777_216;
const METHODS_MAX: usize = 100;
const METHOD_MAX: usize = 64;
/// What requests are counted as that are none of the methods.
const RESERVED: &[&str] = &[METHOD_OTHER, METHOD_BATCH, METHOD_UNKNOWN];
/// A request of a method that the document does not name.
pub const METHOD_OTHER: &str = "other";
/// Several requests at once.
pub const METHOD_BATCH: &str = "batch";
/// A request without a method.
pub const METHOD_UNKNOWN: &str = "unknown";

/// A cluster's `jsonRpc`: the bodies of its JSON POSTs are read before they are sent anywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonRpc {
    /// Most requests of a batch.
    pub max_batch: u32,
    /// Most bytes of a body that are held, and the longest that a request may say it has.
    pub max_body_bytes: u32,
    /// Answers that are no results become errors of JSON-RPC (RL-11).
    pub maps_errors: bool,
    /// What is counted by its name, sorted.
    pub methods: Vec<String>,
}

const ERRORS: &[(&str, bool)] = &[("Pass", false), ("Map", true)];

impl JsonRpc {
    pub(super) fn read(value: &Value, path: &Path<'_>, report: &Report) -> Option<Self> {
        let object = Object::of(value, path, report)?;
        Some(JsonRpc {
            max_batch: object.number("maxBatch", BATCH_DEFAULT, 1, BATCH_MAX),
            max_body_bytes: object.number("maxBodyBytes", BODY_DEFAULT, 1, BODY_MAX),
            maps_errors: object.choice("errors", false, ERRORS),
            methods: read_methods(&object, report),
        })
    }

    pub(super) fn write(&self) -> Value {
        let mut map = Map::new();
        insert(&mut map, "maxBatch", self.max_batch);
        insert(&mut map, "maxBodyBytes", self.max_body_bytes);
        insert(&mut map, "errors", name_of(ERRORS, self.maps_errors));
        insert(&mut map, "methods", self.methods.clone());
        Value::Object(map)
    }

    /// What a method is counted as.
    pub fn label(&self, method: Option<&str>) -> &str {
        let Some(method) = method else {
            return METHOD_UNKNOWN;
        };
        let place = self
            .methods
            .binary_search_by(|own| own.as_str().cmp(method));
        let own = place.ok().and_then(|place| self.methods.get(place));
        own.map_or(METHOD_OTHER, String::as_str)
    }
}

fn read_methods(object: &Object<'_>, report: &Report) -> Vec<String> {
    let list = object.at("methods");
    let mut methods: Vec<String> = Vec::new();
    for (index, value) in object.list("methods", METHODS_MAX).iter().enumerate() {
        let place = Path::Item(&list, index);
        let Some(method) = value.as_str().filter(|text| is_method(text)) else {
            let shown = kind(value);
            let why = format!(
                "must be 1 to {METHOD_MAX} of letters, digits and . _ - / $, and none of {}, not {shown}",
                RESERVED.join(", ")
            );
            report.unknown(&place, why);
            continue;
        };
        match methods.binary_search_by(|own| own.as_str().cmp(method)) {
            Ok(_) => report.error(&place, "must be unique, but it stands above"),
            Err(place) => methods.insert(place, method.to_owned()),
        }
    }
    methods
}

fn is_method(text: &str) -> bool {
    let ok = |b: u8| b.is_ascii_alphanumeric() || b"._-/$".contains(&b);
    (1..=METHOD_MAX).contains(&text.len()) && text.bytes().all(ok) && !RESERVED.contains(&text)
}
