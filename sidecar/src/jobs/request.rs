//! What somebody asks for → a job, or everything that is wrong with it.

use std::collections::BTreeSet;

use pointsman_filter::config::ConfigErrors;
use serde_json::{Map, Value};

use super::Job;
use crate::model::errors::error;
use crate::registry::document;
use crate::registry::edit::Draft;

const FIELDS: [&str; 3] = ["id", "act", "documents"];
const ID_MAX: usize = 64;

/// Reads a request; `id` is the job's when it names none.
pub fn read(body: &Value, id: &str) -> Result<Job, ConfigErrors> {
    let object = body
        .as_object()
        .ok_or_else(|| error("job", "must be an object"))?;
    if let Some(odd) = object.keys().find(|it| !FIELDS.contains(&it.as_str())) {
        return Err(error(&format!("job.{odd}"), "is not a known field"));
    }
    let id = text(object, "id")?.unwrap_or(id);
    let good = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if id.is_empty() || id.len() > ID_MAX || !id.bytes().all(good) {
        let why = format!("must be 1 to {ID_MAX} letters, digits and . _ -");
        return Err(error("job.id", why));
    }
    if text(object, "act")? != Some("apply") {
        return Err(error("job.act", "must be apply"));
    }
    Ok(Job {
        id: id.to_owned(),
        documents: documents(object)?,
    })
}

fn documents(object: &Map<String, Value>) -> Result<Vec<Draft>, ConfigErrors> {
    let documents = object.get("documents").and_then(Value::as_array);
    let documents = documents
        .filter(|documents| !documents.is_empty())
        .ok_or_else(|| error("job.documents", "must be a list of clusters' documents"))?;
    let (mut names, mut drafts, mut errors) = (BTreeSet::new(), Vec::new(), Vec::new());
    for document in documents {
        let name = document.get("name").and_then(Value::as_str).unwrap_or("");
        match Draft::judge(name, document.clone(), document::judge) {
            Ok(_) if !names.insert(name) => {
                let why = "must be unique, but the name stands above";
                errors.extend(error(&format!("clusters.{name}.name"), why).0);
            }
            Ok(draft) => drafts.push(draft),
            Err(wrong) => errors.extend(wrong.0),
        }
    }
    match errors.is_empty() {
        true => Ok(drafts),
        false => Err(ConfigErrors(errors)),
    }
}

fn text<'a>(object: &'a Map<String, Value>, field: &str) -> Result<Option<&'a str>, ConfigErrors> {
    match object.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(error(&format!("job.{field}"), "must be a text")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn documents_are_judged_before_they_are_taken_on() {
        let body = json!({"act": "apply", "documents": [{"name": "a"}, {"name": "b"}]});
        assert_eq!(read(&body, "x").unwrap().documents.len(), 2);
        let body = json!({"act": "apply", "documents": [
            {"name": "a"}, {"name": "a"}, {"name": "c", "x": 1},
        ]});
        let errors = read(&body, "x").unwrap_err();
        let places: Vec<&str> = errors.0.iter().map(|it| it.path.as_str()).collect();
        assert_eq!(places, ["clusters.a.name", "clusters.c.x"]);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (body, place) in [
            (json!([]), "job"),
            (json!({"act": "dance"}), "job.act"),
            (json!({"act": "apply"}), "job.documents"),
            (json!({"act": "apply", "documents": []}), "job.documents"),
            (json!({"act": "cordon"}), "job.act"),
            (json!({"act": "apply", "at": 1}), "job.at"),
            (json!({"id": "a/b", "act": "apply"}), "job.id"),
        ] {
            let error = read(&body, "x").unwrap_err();
            assert_eq!(error.0[0].path, place, "{body}");
        }
    }
}
