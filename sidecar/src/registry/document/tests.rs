//! What is promised, case by case.

use super::*;

fn listing(file: &str, text: &str) -> Result<Listing, String> {
    let items = check(Path::new(file), text).map_err(|error| error.to_string())?;
    Ok(judged(items, judge))
}

#[test]
fn the_same_registry_in_three_formats() {
    let yaml = "schema: 1\nclusters:\n- name: a\n  backends: [{address: '10.0.0.1:80'}]\n";
    let json = r#"{"schema":1,"clusters":[{"name":"a","backends":[{"address":"10.0.0.1:80"}]}]}"#;
    let toml =
        "schema = 1\n[[clusters]]\nname = 'a'\n[[clusters.backends]]\naddress = '10.0.0.1:80'\n";
    let read = listing("r.yaml", yaml).unwrap();
    assert_eq!(read.clusters[0].backends.len(), 1);
    assert_eq!(listing("r.yml", yaml).unwrap(), read);
    assert_eq!(listing("r.JSON", json).unwrap(), read);
    assert_eq!(listing("r.toml", toml).unwrap(), read);
}

#[test]
fn a_document_that_is_none_says_why() {
    let newer = format!(r#"{{"schema":{},"clusters":[]}}"#, SCHEMA + 1);
    let cases: &[(&str, &str, &str)] = &[
        (
            "r.txt",
            "",
            "r.txt: must end in .yaml, .yml, .json or .toml",
        ),
        ("r", "", "r: must end in .yaml"),
        ("r.json", "{", "r.json: must be JSON: EOF while parsing"),
        ("r.toml", "a = ", "r.toml: must be TOML: "),
        ("r.yaml", "clusters: [", "r.yaml: must be YAML: "),
        ("r.yaml", "schema: 1\nschema: 1\nclusters: []", "duplicate"),
        ("r.json", "", "r.json: must be JSON: EOF"),
        (
            "r.json",
            "{\"schema\": 1,\n\"schema\": 1, \"clusters\": []}",
            "r.json: must be JSON: the key \"schema\" stands twice at line 2 column",
        ),
        (
            "r.json",
            "[]",
            "r.json: must be an object with schema: 1 to",
        ),
        ("r.yaml", "", "r.yaml: must be"),
        (
            "r.json",
            r#"{"clusters":[]}"#,
            "r.json: schema: is required and must be 1 to",
        ),
        ("r.json", &newer, "schema: is required and must be 1 to"),
        (
            "r.json",
            r#"{"schema":1}"#,
            "clusters: is required and must be a list",
        ),
        (
            "r.json",
            r#"{"schema":1,"clusters":{}}"#,
            "clusters: is required and must be a list",
        ),
        (
            "r.json",
            r#"{"schema":1,"clusters":[],"x":1}"#,
            "r.json: x: is not a known field",
        ),
    ];
    for (file, text, error) in cases {
        let said = listing(file, text).expect_err(text);
        assert!(said.contains(error), "{text}: {said}");
    }
}

#[test]
fn a_bad_record_spoils_no_other() {
    let text = r#"{"schema":1,"clusters":[
        {"name":"a","backends":[{"address":"10.0.0.1:80","weight":-1}]},
        {"name":"b","backends":[]},
        {"backends":[{"address":"x"}]},
        7,
        {"name":"b"},
        {"name":"pointsman_sidecar"}
    ]}"#;
    let listing = listing("r.json", text).unwrap();
    let names: Vec<&str> = listing.clusters.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["b"]);
    let rejected: Vec<(&str, String)> = listing
        .rejected
        .iter()
        .map(|bad| (bad.place.as_str(), bad.errors.to_string()))
        .collect();
    let expected: &[(&str, &str)] = &[
        ("clusters.a", "clusters.a.backends[0].weight: must be"),
        ("clusters[2]", "clusters[2].name: is required"),
        ("clusters[3]", "clusters[3]: must be an object, not 7"),
        (
            "clusters.b",
            "clusters.b: must be unique, but a document above has it",
        ),
        (
            "clusters.pointsman_sidecar",
            "clusters.pointsman_sidecar.name: must be another",
        ),
    ];
    assert_eq!(rejected.len(), expected.len(), "{rejected:?}");
    for ((place, said), (expected, error)) in rejected.iter().zip(expected) {
        assert_eq!(place, expected);
        assert!(said.contains(error), "{said}");
    }
}

#[test]
fn what_cannot_be_a_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let said = |path: &Path| read(path).expect_err("refused").to_string();
    assert!(said(&dir.path().join("none.yaml")).contains("none.yaml: cannot be read: No such"));
    assert!(said(dir.path()).contains("must be a regular file"));
    let binary = dir.path().join("b.yaml");
    std::fs::write(&binary, [0xff, 0xfe]).unwrap();
    assert!(said(&binary).contains("UTF-8"));
    let long = dir.path().join("l.yaml");
    let file = File::create(&long).unwrap();
    file.set_len(FILE_MAX + 1).unwrap();
    assert!(said(&long).contains("must be at most"));
}
