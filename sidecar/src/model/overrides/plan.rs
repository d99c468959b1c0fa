//! What an operator's act makes of the overrides of a cluster, as they stand in a store.
//!
//! An override that is to begin later stands beside the one in force, under the backend's id with
//! [`NEXT`], and takes its place at its time: nothing has to be running then.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::Override;

/// What stands behind a backend's id where its next override is kept.
pub const NEXT: &str = "@next";

/// How long one is kept in its store after its end, ms: the clock that ended it may have been wrong.
const KEPT_MS: u64 = 86_400_000;

/// The overrides of one cluster as they stand in a store, by field.
pub type Held = BTreeMap<String, Override>;

/// What an operator does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// Sets this override, now or from its start.
    Set(Override),
    /// Takes back the one in force, and the one that is to follow.
    TakeBack,
    /// Lets the one in force, else the next one, end then, ms of the store's clock.
    EndAt(u64),
}

/// What an edit comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edited {
    /// The fields that are others from now on; absent ones are to be taken out.
    pub fields: BTreeMap<String, Option<Override>>,
    /// What the act was on, as it is now.
    pub entry: Option<Override>,
}

/// Whether a field holds what is to follow.
pub fn is_next(field: &str, entry: &Override) -> bool {
    entry.starts_at.is_some() && field.ends_with(NEXT)
}

/// Whether its end is so long ago that it may be forgotten at `now`.
pub fn ended_long_ago(entry: &Override, now: u64) -> bool {
    entry
        .expires_at
        .is_some_and(|end| end.saturating_add(KEPT_MS) <= now)
}

/// Lets what has begun take the place of what was in force, and forgets what has ended.
pub fn settle(held: &mut Held, now: u64) {
    let turn = |(field, entry): (&String, &Override)| {
        let later = entry.starts_at.is_some_and(|start| start > now);
        let to = match (field.strip_suffix(NEXT), later) {
            (Some(id), false) if entry.starts_at.is_some() => id.to_owned(),
            // Written by hand where those in force stand.
            (None, true) => format!("{field}{NEXT}"),
            _ => return None,
        };
        Some((field.clone(), to))
    };
    let turns: Vec<(String, String)> = held.iter().filter_map(turn).collect();
    for (from, to) in turns {
        if let Some(entry) = held.remove(&from) {
            held.insert(to, entry);
        }
    }
    held.retain(|_, entry| entry.holds(now));
}

/// What an act on a backend at `now`, ms of the store's clock, makes of what is held; `None`: there is
/// nothing that could end.
pub fn edit(held: &Held, backend: &str, edit: &Edit, now: u64) -> Option<Edited> {
    let next = format!("{backend}{NEXT}");
    // Those of other backends are left as they are, but for what ended long ago.
    let ours = |field: &String| field == backend || *field == next;
    let (mut own, mut after): (Held, Held) =
        held.clone().into_iter().partition(|(field, _)| ours(field));
    after.retain(|_, entry| !ended_long_ago(entry, now));
    settle(&mut own, now);
    after.append(&mut own);
    let entry = match edit {
        Edit::Set(entry) => {
            let later = entry.starts_at.is_some_and(|start| start > now);
            let field = if later { &next } else { backend };
            after.insert(field.to_owned(), entry.clone());
            Some(entry.clone())
        }
        Edit::TakeBack => {
            after.remove(backend);
            after.remove(&next);
            None
        }
        Edit::EndAt(end) => {
            let field = [backend, &next]
                .into_iter()
                .find(|it| after.contains_key(*it))?;
            let entry = after.get_mut(field)?;
            entry.expires_at = Some(*end);
            Some(entry.clone())
        }
    };
    let mut fields: BTreeMap<String, Option<Override>> = BTreeMap::new();
    let changed = held.keys().chain(after.keys());
    for field in changed.filter(|it| held.get(*it) != after.get(*it)) {
        fields.insert(field.clone(), after.get(field).cloned());
    }
    // Also where something stands that cannot be read.
    for field in [backend, &next] {
        fields.insert(field.to_owned(), after.get(field).cloned());
    }
    Some(Edited { fields, entry })
}

/// The same on overrides as they are written, `{backend: override}`; returns what the act was on, as it
/// is now. One that cannot be read by itself is left as it is, unless the act is on it.
pub fn edit_values(
    overrides: &mut Map<String, Value>,
    backend: &str,
    act: &Edit,
    now: u64,
) -> Option<Option<Override>> {
    let held = overrides.iter();
    let held = held.filter_map(|(id, value)| Some((id.clone(), Override::read(id, value).ok()?)));
    let edited = edit(&held.collect(), backend, act, now)?;
    for (field, entry) in edited.fields {
        match entry {
            Some(entry) => drop(overrides.insert(field, entry.to_value())),
            None => drop(overrides.remove(&field)),
        }
    }
    Some(edited.entry)
}

#[cfg(test)]
mod tests {
    use pointsman_filter::config::State;
    use serde_json::json;

    use super::*;

    const START: u64 = 1_700_000_000_000;

    /// An override of this state from then to then.
    fn of(state: State, starts_at: Option<u64>, expires_at: Option<u64>) -> Override {
        Override {
            state,
            reason: String::new(),
            actor: String::new(),
            starts_at,
            expires_at,
        }
    }

    fn act(held: &mut Held, act: &Edit, now: u64) -> Option<Override> {
        let edited = edit(held, "a", act, now).expect("something to do");
        for (field, entry) in edited.fields {
            match entry {
                Some(entry) => drop(held.insert(field, entry)),
                None => drop(held.remove(&field)),
            }
        }
        edited.entry
    }

    /// What is held at `now`, field by field.
    fn at(held: &Held, now: u64) -> Vec<String> {
        let mut held = held.clone();
        settle(&mut held, now);
        let line = |(field, entry): (&String, &Override)| format!("{field} {}", entry.state.name());
        held.iter().map(line).collect()
    }

    #[test]
    fn a_planned_drain_takes_the_place_of_a_cordon_with_nothing_in_between() {
        let mut held = Held::new();
        act(&mut held, &Edit::Set(of(State::Cordoned, None, None)), 1);
        let drain = of(State::Draining, Some(10), Some(20));
        act(&mut held, &Edit::Set(drain), 2);
        assert_eq!(at(&held, 9), ["a Cordoned", "a@next Draining"]);
        assert_eq!(at(&held, 10), ["a Draining"]);
        // It replaced the cordon, and its end is the end.
        assert_eq!(at(&held, 20), [""; 0]);
    }

    #[test]
    fn what_has_begun_is_what_an_act_is_on() {
        let mut held = Held::new();
        act(
            &mut held,
            &Edit::Set(of(State::Draining, Some(10), None)),
            1,
        );
        // The store still has it where it was planned: a new plan, and a new word, leave no old one.
        act(
            &mut held,
            &Edit::Set(of(State::Cordoned, Some(30), None)),
            15,
        );
        assert_eq!(at(&held, 15), ["a Draining", "a@next Cordoned"]);
        act(&mut held, &Edit::Set(of(State::Draining, None, None)), 40);
        assert_eq!(held.len(), 1);
        assert_eq!(at(&held, 40), ["a Draining"]);
        let ended = act(&mut held, &Edit::EndAt(50), 41).expect("an override");
        assert_eq!(ended.expires_at, Some(50));
        assert_eq!(at(&held, 49), ["a Draining"]);
        assert_eq!(at(&held, 50), [""; 0]);
        assert_eq!(edit(&held, "a", &Edit::EndAt(70), 60), None);
    }

    #[test]
    fn taken_back_is_what_holds_and_what_was_to_follow() {
        let mut held = Held::new();
        act(&mut held, &Edit::Set(of(State::Cordoned, None, None)), 1);
        act(
            &mut held,
            &Edit::Set(of(State::Draining, Some(10), None)),
            1,
        );
        held.insert("b".to_owned(), of(State::Cordoned, None, Some(3)));
        held.insert("c@next".to_owned(), of(State::Draining, Some(4), None));
        let others = [held["b"].clone(), held["c@next"].clone()];
        act(&mut held, &Edit::TakeBack, 5);
        let left: Vec<Override> = held.values().cloned().collect();
        assert_eq!(left, others, "a clock that was set ends nobody else's");
        act(&mut held, &Edit::TakeBack, 3 + KEPT_MS);
        let left: Vec<&String> = held.keys().collect();
        assert_eq!(left, ["c@next"], "what ended long ago goes with it");
    }

    #[test]
    fn by_hand_a_start_may_stand_anywhere_and_any_id_is_one() {
        let held: Held = [
            ("a", json!({"state": "Draining", "startsAt": START})),
            ("b@next", json!("Cordoned")),
        ]
        .map(|(field, value)| (field.to_owned(), Override::read(field, &value).unwrap()))
        .into();
        let before = at(&held, START - 1);
        assert_eq!(before, ["a@next Draining", "b@next Cordoned"]);
        assert_eq!(at(&held, START), ["a Draining", "b@next Cordoned"]);
        assert!(!is_next("b@next", &held["b@next"]), "a backend's own id");
    }
}
