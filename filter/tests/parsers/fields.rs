//! The fields of the schema, as its one parser tells them: offered alone, a field that it knows is
//! not refused as unknown. What may be a field's name is every word of the parser's own source.

use std::collections::BTreeSet;
use std::path::Path;

use pointsman_filter::config::FilterConfig;
use serde_json::{Value, json};

/// No field has this name.
const UNKNOWN: &str = "?";

/// Every field of a container, each by its path, such as `clusters[].backends[].weight`.
pub fn of_the_parser() -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../filter/src");
    read_words(&source, &mut words);
    let mut fields = BTreeSet::new();
    add_fields(&[], &words, &mut fields);
    fields
}

/// Every field that this container says something about, by the same paths.
pub fn of_document(value: &Value) -> BTreeSet<String> {
    let mut fields = BTreeSet::new();
    add_said(value, "", &mut fields);
    fields
}

fn read_words(folder: &Path, words: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).expect("the filter's sources") {
        let path = entry.expect("a file").path();
        if path.is_dir() {
            read_words(&path, words);
        } else {
            let source = std::fs::read_to_string(&path).expect("a source file");
            let split = source.split(|c: char| !c.is_ascii_alphanumeric());
            words.extend(split.filter(|word| !word.is_empty()).map(str::to_owned));
        }
    }
}

/// One step on the way to an object.
#[derive(Clone)]
enum Step {
    Field(String),
    First,
}

/// The fields of the object at the end of this way, and of the objects below it.
fn add_fields(way: &[Step], words: &BTreeSet<String>, fields: &mut BTreeSet<String>) {
    for word in words {
        if is_unknown(way, word) {
            continue;
        }
        let field = [way, &[Step::Field(word.clone())]].concat();
        let list = [field.as_slice(), &[Step::First]].concat();
        for object in [&field, &list] {
            if is_unknown(object, UNKNOWN) {
                add_fields(object, words, fields);
            }
        }
        fields.insert(shown(&field, "[]"));
    }
}

/// Whether the parser refuses a field of this name as unknown, in the object at the end of the way.
fn is_unknown(way: &[Step], name: &str) -> bool {
    let mut value = json!({name: 1});
    for step in way.iter().rev() {
        value = match step {
            Step::Field(name) => json!({name.as_str(): value}),
            Step::First => json!([value]),
        };
    }
    if value.get("schema").is_none() {
        value["schema"] = json!(1);
    }
    let path = shown(&[way, &[Step::Field(name.to_owned())]].concat(), "[0]");
    let refused = |error: &pointsman_filter::config::ConfigError| {
        error.path == path && error.why == "is not a known field"
    };
    let config = FilterConfig::parse(value.to_string().as_bytes());
    config.is_err_and(|errors| errors.0.iter().any(refused))
}

fn shown(way: &[Step], first: &str) -> String {
    let parts = way.iter().map(|step| match step {
        Step::Field(name) => format!(".{name}"),
        Step::First => first.to_owned(),
    });
    let path = parts.collect::<String>();
    path.trim_start_matches('.').to_owned()
}

fn add_said(value: &Value, path: &str, fields: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (name, inner) in map {
                let path = format!("{path}.{name}").trim_start_matches('.').to_owned();
                add_said(inner, &path, fields);
                fields.insert(path);
            }
        }
        Value::Array(items) => {
            for item in items {
                add_said(item, &format!("{path}[]"), fields);
            }
        }
        _ => {}
    }
}
