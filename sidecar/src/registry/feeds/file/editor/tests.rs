//! What is promised, case by case, on real files.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use pointsman_filter::config::State;
use serde_json::json;

use super::*;
use crate::registry::edit::Expect;

/// A file of this name with the clusters `a` (one backend) and `b`.
fn demo(folder: &tempfile::TempDir, name: &str) -> FileEditor {
    let path = folder.path().join(name);
    let container = json!({"schema": 1, "clusters": [
        {"name": "a", "http2": true, "backends": [{"id": "yes", "address": "10.0.0.1:80"}]},
        {"name": "b"}]});
    fs::write(&path, document::print(&path, &container).unwrap()).unwrap();
    FileEditor::new(Files::new(path))
}

fn names(editor: &FileEditor) -> Vec<String> {
    let listing = document::judged(editor.files.read_documents().unwrap(), document::judge);
    assert!(listing.rejected.is_empty(), "{:?}", listing.rejected);
    listing.clusters.into_iter().map(|it| it.name).collect()
}

#[tokio::test]
async fn documents_are_put_and_deleted_in_every_format() {
    for name in ["c.yaml", "c.json", "c.toml"] {
        let folder = tempfile::tempdir().unwrap();
        let editor = demo(&folder, name);
        let next = json!({"name": "c", "backends": [{"id": "010", "address": "[::1]:80"}]});
        let written = editor
            .replace("c", Some(&next), &Expect::Absent)
            .await
            .unwrap();
        assert_eq!(
            (written.before, names(&editor)),
            (None, ["a", "b", "c"].map(String::from).to_vec())
        );
        let read = editor.read("c").await.unwrap().unwrap();
        assert_eq!(Some(read.etag), written.etag, "{name}");
        assert_eq!(
            document::etag(
                editor.files.read_documents().unwrap()[2]
                    .to_string()
                    .as_bytes()
            ),
            written.etag.unwrap()
        );

        let changed = json!({"name": "a", "whenAllUnhealthy": "Refuse"});
        let written = editor
            .replace("a", Some(&changed), &Expect::Anything)
            .await
            .unwrap();
        let before = String::from_utf8(written.before.unwrap().text).unwrap();
        assert!(before.contains(r#""id":"yes""#), "{before}");
        assert_eq!(names(&editor), ["a", "b", "c"], "it keeps its place");
        editor.replace("b", None, &Expect::Present).await.unwrap();
        assert_eq!(names(&editor), ["a", "c"]);
        assert_eq!(editor.read("b").await.unwrap(), None);
    }
}

#[tokio::test]
async fn what_is_not_expected_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let editor = demo(&folder, "c.yaml");
    let text = || fs::read_to_string(&editor.files.documents).unwrap();
    let before = text();
    let held = editor.read("a").await.unwrap().unwrap().etag;
    let next = json!({"name": "a"});
    for expect in [Expect::Absent, Expect::OneOf(vec!["0".to_owned()])] {
        let refused = editor.replace("a", Some(&next), &expect).await;
        assert_eq!(refused, Err(EditError::Unexpected(Some(held.clone()))));
    }
    let refused = editor.replace("c", Some(&next), &Expect::Present).await;
    assert_eq!(refused, Err(EditError::Unexpected(None)));
    assert_eq!(text(), before);
    editor
        .replace("a", Some(&next), &Expect::OneOf(vec![held]))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_file_keeps_its_mode_and_a_link_stays_one() {
    let folder = tempfile::tempdir().unwrap();
    let editor = demo(&folder, "real.yaml");
    let real = folder.path().join("real.yaml");
    fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
    let link = folder.path().join("link.yaml");
    symlink("real.yaml", &link).unwrap();
    drop(editor);
    let editor = FileEditor::new(Files::new(link.clone()));
    editor.replace("a", None, &Expect::Anything).await.unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(
        fs::metadata(&real).unwrap().permissions().mode() & 0o777,
        0o640
    );
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), 2, "no draft is left behind: {left:?}");
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let editor = demo(&folder, "c.yaml");
    for text in ["schema: [", "schema: 1"] {
        fs::write(&editor.files.documents, text).unwrap();
        let refused = editor
            .replace("a", Some(&json!({"name": "a"})), &Expect::Anything)
            .await;
        assert!(matches!(refused, Err(EditError::Refused(_))), "{refused:?}");
        assert_eq!(fs::read_to_string(&editor.files.documents).unwrap(), text);
    }
}

#[tokio::test]
async fn words_stand_beside_the_documents_and_those_that_ended_long_ago_go() {
    let folder = tempfile::tempdir().unwrap();
    let editor = demo(&folder, "c.yaml");
    let entry = |expires_at| Override {
        state: State::Cordoned,
        reason: "disk".to_owned(),
        actor: "me".to_owned(),
        starts_at: None,
        expires_at,
    };
    let lasting = entry(None);
    for (cluster, backend, entry) in [
        ("a", "ended", entry(Some(1_000_000_000_000))),
        ("a", "yes", lasting.clone()),
        ("nowhere", "x", lasting.clone()),
    ] {
        let set = Edit::Set(entry.clone());
        let edited = editor.edit_override(cluster, backend, &set).await;
        assert_eq!(edited.unwrap(), Some(entry));
    }
    let entry = lasting.to_value();
    assert_eq!(
        held(&editor),
        json!({"a": {"yes": entry}, "nowhere": {"x": entry}})
    );
    assert!(folder.path().join("c.yaml.overrides").exists());
    for (cluster, backend) in [("a", "yes"), ("nowhere", "x"), ("a", "never said")] {
        let back = Edit::TakeBack;
        let edited = editor.edit_override(cluster, backend, &back).await;
        assert_eq!(edited.unwrap(), None);
    }
    let end = editor
        .edit_override("a", "yes", &Edit::EndAt(4_070_908_800_000))
        .await;
    assert_eq!(end, Err(EditError::NothingToEnd));
    assert_eq!(held(&editor), json!({}));
}

/// The file of the overrides.
fn held(editor: &FileEditor) -> Value {
    Value::Object(editor.files.read_overrides().unwrap())
}

#[tokio::test]
async fn a_word_that_cannot_be_read_is_left_alone_unless_it_is_the_one_that_is_changed() {
    let folder = tempfile::tempdir().unwrap();
    let editor = demo(&folder, "c.yaml");
    let odd = json!({"a": {"yes": "Bogus", "no": 3}, "b": []});
    fs::write(&editor.files.overrides, odd.to_string()).unwrap();
    let cordon = Edit::Set(Override {
        state: State::Cordoned,
        reason: String::new(),
        actor: String::new(),
        starts_at: None,
        expires_at: None,
    });
    let edited = editor.edit_override("a", "other", &cordon).await;
    assert!(edited.unwrap().is_some());
    let entry = json!({"state": "Cordoned"});
    assert_eq!(
        held(&editor),
        json!({"a": {"yes": "Bogus", "no": 3, "other": entry}, "b": []})
    );
    let edited = editor.edit_override("b", "x", &cordon).await;
    let refused = edited.unwrap_err().to_string();
    assert!(refused.contains("overrides.b: must be an object of backends"));
    for (backend, act) in [("yes", cordon), ("no", Edit::TakeBack)] {
        editor.edit_override("a", backend, &act).await.unwrap();
    }
    assert_eq!(
        held(&editor),
        json!({"a": {"yes": entry, "other": entry}, "b": []})
    );
}
