//! Operators' words over HTTP: cordon, drain, uncordon, and the list of those in force.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use pointsman_filter::config::{State as BackendState, duration};
use serde_json::{Map, Value};

use super::Admin;
use super::failure::Failure;
use crate::api;
use crate::model::clock::is_plausible;
use crate::model::json;
use crate::model::overrides::{Edit, Override};
use crate::registry::Registry;

/// Longest id of a backend, bytes.
const ID_MAX: usize = 253;

/// What is said of a backend.
enum Act {
    Say(BackendState),
    TakeBack,
}

impl Act {
    fn of(name: &str) -> Option<Self> {
        match name {
            "cordon" => Some(Act::Say(BackendState::Cordoned)),
            "drain" => Some(Act::Say(BackendState::Draining)),
            "uncordon" => Some(Act::TakeBack),
            _ => None,
        }
    }
}

/// Every word in force, and every one that is to follow: its `startsAt` has not come.
pub async fn list(State(admin): State<Arc<Admin>>) -> Json<api::Overrides> {
    let registry = admin.sources.registry.borrow().clone();
    let words = registry.iter().flat_map(|registry| {
        let words = registry.overrides.in_force();
        let words = words.chain(registry.overrides.planned());
        words.map(|(cluster, backend, word)| entry(registry, cluster, backend, word))
    });
    let overrides = words.collect();
    Json(api::Overrides { overrides })
}

/// Says a word, or takes it back.
pub async fn say(
    State(admin): State<Arc<Admin>>,
    Path((cluster, backend, act)): Path<(String, String, String)>,
    body: Bytes,
) -> Result<Json<api::Overridden>, Failure> {
    let act = Act::of(&act)
        .ok_or_else(|| Failure::missing(format!("{act}: must be cordon, drain or uncordon")))?;
    if backend.is_empty() || backend.len() > ID_MAX {
        return Err(Failure::request("that cannot be a backend's id"));
    }
    let registry = admin.sources.registry.borrow().clone();
    let fields = fields(&body)?;
    let now = admin.editor.now().await?;
    let edit = match act {
        Act::TakeBack => take_back(fields, now)?,
        Act::Say(_) if !registry.as_ref().is_some_and(|it| has(it, &cluster)) => {
            return Err(Failure::missing(format!("there is no cluster {cluster}")));
        }
        Act::Say(state) => {
            let place = format!("overrides.{cluster}[{backend}]");
            Edit::Set(word(&place, state, fields, now)?)
        }
    };
    let word = admin
        .editor
        .edit_override(&cluster, &backend, &edit)
        .await?;
    let serving = admin.serving(|it| {
        let all = &it.overrides;
        let found = [all.get(&cluster, &backend), all.next(&cluster, &backend)];
        match &word {
            Some(word) => found.contains(&Some(word)),
            None => found == [None, None],
        }
    });
    let serving = Some(serving.await);
    Ok(Json(api::Overridden {
        present: registry.is_some_and(|it| is_there(&it, &cluster, &backend)),
        cluster,
        backend,
        word: word.as_ref().map(api::Override::from).unwrap_or_default(),
        serving,
    }))
}

fn entry(registry: &Registry, cluster: &str, backend: &str, word: &Override) -> api::Overridden {
    api::Overridden {
        cluster: cluster.to_owned(),
        backend: backend.to_owned(),
        present: is_there(registry, cluster, backend),
        word: word.into(),
        serving: None,
    }
}

fn has(registry: &Registry, cluster: &str) -> bool {
    registry.config.clusters.iter().any(|it| it.name == cluster)
}

fn is_there(registry: &Registry, cluster: &str, backend: &str) -> bool {
    let mut clusters = registry
        .config
        .clusters
        .iter()
        .filter(|it| it.name == cluster);
    clusters.any(|it| it.backends.iter().any(|it| it.id == backend))
}

fn fields(body: &Bytes) -> Result<Map<String, Value>, Failure> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Map::new());
    }
    let wrong = |why: &dyn Display| Failure::request(format!("must be a JSON object: {why}"));
    match json::read(body) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(wrong(&"it is another value")),
        Err(why) => Err(wrong(&why)),
    }
}

/// The word that a request's fields make: as they stand in the registry, but `startsIn` may stand for
/// `startsAt`, and `expiresIn`, from its start on, for `expiresAt`.
fn word(
    place: &str,
    state: BackendState,
    mut fields: Map<String, Value>,
    now: u64,
) -> Result<Override, Failure> {
    if fields.contains_key("state") {
        return Err(Failure::request("state: is said by the address"));
    }
    fields.insert("state".to_owned(), state.name().into());
    let start = moment(&mut fields, "starts", now)?;
    let end = moment(&mut fields, "expires", start.unwrap_or(now))?;
    for (field, at) in [("startsAt", start), ("expiresAt", end)] {
        if let Some(at) = at {
            fields.insert(field.to_owned(), at.into());
        }
    }
    Ok(Override::read(place, &Value::Object(fields))?)
}

/// What taking a word back means: at once, or at the time that the fields say.
fn take_back(mut fields: Map<String, Value>, now: u64) -> Result<Edit, Failure> {
    let end = moment(&mut fields, "expires", now)?;
    match fields.keys().next() {
        Some(odd) => Err(Failure::request(format!("{odd}: is not a known field"))),
        None => Ok(end.map_or(Edit::TakeBack, Edit::EndAt)),
    }
}

/// Takes out of the fields the moment, ms, of which `…At` says when it is and `…In` how long it is
/// after `from`. It has not passed.
fn moment(fields: &mut Map<String, Value>, what: &str, from: u64) -> Result<Option<u64>, Failure> {
    let [at, within] = ["At", "In"].map(|end| format!("{what}{end}"));
    let moment = match (fields.remove(&at), fields.remove(&within)) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => {
            let why = format!("{within}: cannot stand beside {at}");
            return Err(Failure::request(why));
        }
        (Some(moment), None) => {
            let why = || Failure::request(format!("{at}: must be a time in ms since 1970"));
            let moment = moment.as_u64().filter(|it| is_plausible(*it));
            moment.ok_or_else(why)?
        }
        (None, Some(span)) => {
            let span = span.as_str().and_then(duration::parse);
            let span = span.filter(|it| *it > Duration::ZERO);
            let why = || {
                let why = "must be a duration such as 30s, 10m or 2h";
                Failure::request(format!("{within}: {why}"))
            };
            let millis = span.ok_or_else(why)?.as_millis();
            from.saturating_add(u64::try_from(millis).unwrap_or(u64::MAX))
        }
    };
    match moment > from {
        true if is_plausible(moment) => Ok(Some(moment)),
        true => Err(Failure::request(format!("{within}: is too long"))),
        false => Err(Failure::request(format!("{at}: has passed by then"))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: u64 = 1_700_000_000_000;
    fn object(value: Value) -> Map<String, Value> {
        serde_json::from_value(value).expect("an object")
    }

    #[test]
    fn ad_1_a_word_is_made_of_what_the_request_says() {
        let made = |fields: Value| word("o", BackendState::Cordoned, object(fields), NOW);
        let end = |fields| made(fields).unwrap().expires_at;
        assert_eq!(end(json!({})), None);
        assert_eq!(end(json!({"expiresIn": "2s"})), Some(NOW + 2000));
        assert_eq!(end(json!({"expiresAt": NOW + 1})), Some(NOW + 1));
        // From when it begins, not from when it was asked for.
        assert_eq!(
            end(json!({"startsIn": "1s", "expiresIn": "2s"})),
            Some(NOW + 3000)
        );
        let start = made(json!({"startsAt": NOW + 1})).unwrap().starts_at;
        assert_eq!(start, Some(NOW + 1));
        let said = made(json!({"reason": "disk", "actor": "me"})).unwrap();
        assert_eq!((said.reason.as_str(), said.actor.as_str()), ("disk", "me"));
        for wrong in [
            json!({"state": "Draining"}),
            json!({"expiresIn": "0s"}),
            json!({"expiresIn": 5}),
            json!({"expiresIn": "1s", "expiresAt": NOW + 5000}),
            json!({"expiresAt": NOW}),
            json!({"expiresAt": NOW / 1000 + 60}),
            json!({"expiresAt": NOW * 1000}),
            json!({"startsAt": NOW}),
            json!({"startsAt": NOW + 1, "startsIn": "1s"}),
            json!({"startsAt": NOW + 2000, "expiresAt": NOW + 2000}),
            json!({"why": "x"}),
            json!({"reason": 5}),
        ] {
            assert!(made(wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_word_is_taken_back_now_or_at_a_time() {
        let back = |fields: Value| take_back(object(fields), NOW);
        assert_eq!(back(json!({})).unwrap(), Edit::TakeBack);
        let end = Edit::EndAt(NOW + 2000);
        assert_eq!(back(json!({"expiresIn": "2s"})).unwrap(), end);
        assert!(back(json!({"startsAt": NOW + 1})).is_err());
        assert!(back(json!({"expiresAt": NOW})).is_err());
        assert!(back(json!({"expiresAt": NOW * 1000})).is_err());
        assert!(back(json!({"expiresIn": "9000000000h"})).is_err());
    }
}
