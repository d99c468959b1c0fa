//! Overrides and names, as they are written to objects.

use pointsman_filter::config::State;

use super::*;

const NOW: u64 = 1_700_000_000_000;
const DAY: u64 = 86_400_000;

fn overrides_after(held: Option<&str>, entry: Option<&Override>) -> Result<Option<Value>, String> {
    let mut object = DynamicObject::new("orders", &crd::resource());
    object.metadata.annotations =
        held.map(|held| BTreeMap::from([(crd::OVERRIDES.to_owned(), held.to_owned())]));
    let act = entry.map_or(Edit::TakeBack, |entry| Edit::Set(entry.clone()));
    let edited = edited(&object, "b", &act, NOW);
    let (overrides, _) = edited.map_err(|error| error.to_string())?;
    Ok(overrides.map(|overrides| serde_json::from_str(&overrides).expect("JSON")))
}

#[test]
fn words_that_cannot_be_read_are_not_written_over() {
    for held in [r#"{"a":"Draining",}"#, "", "[]", "Draining"] {
        for entry in [None, Some(&cordoned())] {
            let error = overrides_after(Some(held), entry).expect_err(held);
            assert!(error.contains("of BackendCluster orders"), "{error}");
            assert!(error.contains("repair or remove it first"), "{error}");
        }
    }
    // One that is wrong by itself is nobody else's business.
    let odd = overrides_after(Some(r#"{"a":"Bogus"}"#), None);
    assert_eq!(odd, Ok(Some(json!({"a": "Bogus"}))));
}

#[test]
fn a_word_comes_and_goes_and_takes_what_ended_long_ago_with_it() {
    let said = json!({"state": "Cordoned"});
    let only = overrides_after(None, Some(&cordoned()));
    assert_eq!(only, Ok(Some(json!({"b": said}))));
    assert_eq!(overrides_after(Some(r#"{"b":"Draining"}"#), None), Ok(None));
    let ended = |ago: u64| json!({"state": "Draining", "expiresAt": NOW - ago});
    let held = json!({"a": ended(DAY), "c": ended(DAY - 1), "d": "Draining"});
    let left = json!({"b": said, "c": ended(DAY - 1), "d": "Draining"});
    assert_eq!(
        overrides_after(Some(&held.to_string()), Some(&cordoned())),
        Ok(Some(left))
    );
}

fn cordoned() -> Override {
    Override {
        state: State::Cordoned,
        reason: String::new(),
        actor: String::new(),
        starts_at: None,
        expires_at: None,
    }
}

#[test]
fn rg_13_every_cluster_has_an_object_of_its_own() {
    for plain in ["orders", "a.b-c", "0"] {
        assert_eq!(object_name(plain), plain);
    }
    let odd = [
        "Orders", "orders.", "a|b", "a/b", "a_b", "-a", "a..b", ".", "|",
    ];
    let mut names: Vec<String> = odd.into_iter().map(object_name).collect();
    names.push(object_name(&"x|".repeat(126)));
    for name in &names {
        assert!(name.len() <= NAME_MAX, "{name}");
        assert_eq!(object_name(name), *name, "it is a name in Kubernetes");
    }
    let distinct: std::collections::BTreeSet<&String> = names.iter().collect();
    assert_eq!(distinct.len(), names.len());
    assert!(object_name("A|b").starts_with("a-b-"));
}
