//! What somebody asks for → a job, or everything that is wrong with it.

use std::collections::BTreeSet;

use pointsman_filter::config::{ConfigErrors, duration, is_cluster_name};
use serde_json::{Map, Value, json};

use super::{Act, Job};
use crate::model::errors::error;
use crate::model::overrides::Override;
use crate::registry::document;
use crate::registry::edit::Draft;

const FIELDS: [&str; 11] = [
    "id",
    "act",
    "at",
    "in",
    "cluster",
    "backend",
    "reason",
    "actor",
    "expiresIn",
    "expiresAt",
    "documents",
];
const ID_MAX: usize = 64;

/// Reads a request; `id` is the job's when it names none, `now` is the store's clock in ms.
pub fn read(body: &Value, id: &str, now: u64) -> Result<Job, ConfigErrors> {
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
    let at = moment(object, ("at", "in"), now)?;
    let act = match text(object, "act")? {
        Some("cordon") => say(object, Some("Cordoned"), at.unwrap_or(now))?,
        Some("drain") => say(object, Some("Draining"), at.unwrap_or(now))?,
        Some("uncordon") => say(object, None, at.unwrap_or(now))?,
        Some("apply") => apply(object)?,
        _ => return Err(error("job.act", "must be cordon, drain, uncordon or apply")),
    };
    Ok(Job {
        id: id.to_owned(),
        at: at.unwrap_or(0),
        act,
    })
}

fn say(object: &Map<String, Value>, state: Option<&str>, from: u64) -> Result<Act, ConfigErrors> {
    let required = |field: &str| {
        let given = text(object, field)?.filter(|it| !it.is_empty());
        given.ok_or_else(|| error(&format!("job.{field}"), "is required"))
    };
    let (cluster, backend) = (required("cluster")?, required("backend")?);
    if !is_cluster_name(cluster) {
        return Err(error("job.cluster", "must be the name of a cluster"));
    }
    let word = match state {
        None => None,
        Some(state) => {
            let mut word = json!({"state": state});
            for field in ["reason", "actor"] {
                if let Some(text) = text(object, field)? {
                    word[field] = text.into();
                }
            }
            if let Some(end) = moment(object, ("expiresAt", "expiresIn"), from)? {
                if end <= from {
                    return Err(error("job.expiresAt", "must be later than it begins"));
                }
                word["expiresAt"] = end.into();
            }
            Some(Override::read("job", &word)?)
        }
    };
    Ok(Act::Say {
        cluster: cluster.to_owned(),
        backend: backend.to_owned(),
        word,
    })
}

fn apply(object: &Map<String, Value>) -> Result<Act, ConfigErrors> {
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
        true => Ok(Act::Apply(drafts)),
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

/// A moment, said as such in ms or as a duration from another one.
fn moment(
    object: &Map<String, Value>,
    (absolute, relative): (&str, &str),
    from: u64,
) -> Result<Option<u64>, ConfigErrors> {
    let wrong = |field: &str, why: &str| error(&format!("job.{field}"), why);
    match (object.get(absolute), text(object, relative)?) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(wrong(absolute, &format!("cannot stand beside {relative}"))),
        (Some(at), None) => match at.as_u64() {
            Some(at) => Ok(Some(at)),
            None => Err(wrong(absolute, "must be a time in ms since 1970")),
        },
        (None, Some(span)) => {
            let must = "must be a duration such as 90s or 10m";
            let span = duration::parse(span).ok_or_else(|| wrong(relative, must))?;
            let span = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
            Ok(Some(from.saturating_add(span)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_000_000;

    #[test]
    fn a_word_at_its_time_and_for_a_while() {
        let body = json!({
            "act": "cordon", "cluster": "a", "backend": "b", "reason": "disk", "in": "1m",
            "expiresIn": "10s",
        });
        let job = read(&body, "x1", NOW).unwrap();
        assert_eq!((job.id.as_str(), job.at), ("x1", NOW + 60_000));
        let Act::Say {
            word: Some(word), ..
        } = job.act
        else {
            panic!("no word: {:?}", job.act);
        };
        // From when it is said, not from when it was asked for.
        assert_eq!(word.expires_at, Some(NOW + 70_000));
        assert_eq!(word.reason, "disk");
        let body = json!({"id": "mine", "act": "uncordon", "cluster": "a", "backend": "b"});
        let job = read(&body, "x1", NOW).unwrap();
        assert_eq!((job.id.as_str(), job.at), ("mine", 0));
        assert!(matches!(job.act, Act::Say { word: None, .. }));
    }

    #[test]
    fn documents_are_judged_before_they_are_taken_on() {
        let body = json!({"act": "apply", "documents": [{"name": "a"}, {"name": "b"}]});
        assert_eq!(read(&body, "x", NOW).unwrap().act.total(), 2);
        let body = json!({"act": "apply", "documents": [
            {"name": "a"}, {"name": "a"}, {"name": "c", "x": 1},
        ]});
        let errors = read(&body, "x", NOW).unwrap_err();
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
            (json!({"act": "cordon", "backend": "b"}), "job.cluster"),
            (
                json!({"act": "cordon", "cluster": "a:b", "backend": "b"}),
                "job.cluster",
            ),
            (json!({"act": "cordon", "cluster": "a"}), "job.backend"),
            (json!({"act": "cordon", "when": 1}), "job.when"),
            (json!({"act": "cordon", "at": 1, "in": "1s"}), "job.at"),
            (json!({"act": "cordon", "at": "noon"}), "job.at"),
            (json!({"act": "cordon", "in": "soon"}), "job.in"),
            (json!({"id": "a/b", "act": "cordon"}), "job.id"),
            (
                json!({"act": "cordon", "cluster": "a", "backend": "b", "at": 9, "expiresAt": 9}),
                "job.expiresAt",
            ),
        ] {
            let error = read(&body, "x", NOW).unwrap_err();
            assert_eq!(error.0[0].path, place, "{body}");
        }
    }
}
