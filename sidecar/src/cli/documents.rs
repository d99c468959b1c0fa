//! Documents from files, folders and stdin: read, judged, and all that is wrong said at once.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use pointsman_filter::config::ConfigErrors;
use serde_json::Value;

use crate::registry::document::{self, DocumentError, Judge};

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// The good documents by name.
    pub documents: BTreeMap<String, Value>,
    /// How many backends they have.
    pub backends: usize,
    /// What is wrong, each with its file.
    pub errors: Vec<String>,
}

/// Reads all of these; `-` is stdin.
pub fn read(paths: &[PathBuf], judge: Judge) -> Found {
    let mut found = Found::default();
    for path in paths {
        if path.as_os_str() == "-" {
            let mut text = String::new();
            match std::io::stdin().read_to_string(&mut text) {
                Ok(_) => found.take(("-", Path::new("-.yaml")), &text, judge),
                Err(why) => found.errors.push(format!("-: cannot be read: {why}")),
            }
            continue;
        }
        let files = match path.is_dir() {
            true => files_of(path),
            false => Ok(vec![path.clone()]),
        };
        match files {
            Ok(files) => files.iter().for_each(|file| found.read(file, judge)),
            Err(why) => found
                .errors
                .push(format!("{}: cannot be read: {why}", path.display())),
        }
    }
    found
}

/// The registry files of a folder, by name.
fn files_of(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let extension = path.extension().and_then(|it| it.to_str()).unwrap_or("");
        if ["yaml", "yml", "json", "toml"].contains(&extension) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

impl Found {
    fn read(&mut self, file: &Path, judge: Judge) {
        match document::read(file) {
            Ok(text) => self.take((&file.display().to_string(), file), &text, judge),
            Err(error) => self.errors.push(error.to_string()),
        }
    }

    /// Takes a text in: a container, or documents one after the other.
    fn take(&mut self, (shown, file): (&str, &Path), text: &str, judge: Judge) {
        let values = match document::parse_all(file, text) {
            Ok(values) => values,
            Err(DocumentError::Syntax { format, why, .. }) => {
                self.errors
                    .push(format!("{shown}: must be {format}: {why}"));
                return;
            }
            Err(error) => return self.errors.push(error.to_string()),
        };
        // Nothing at all is no container either.
        let values = if values.is_empty() {
            vec![Value::Null]
        } else {
            values
        };
        for value in values {
            if is_document(&value) {
                self.add(shown, value, judge);
                continue;
            }
            match document::list(&value, judge) {
                Err(errors) => self.refuse(shown, &errors),
                Ok(listing) => {
                    for bad in &listing.rejected {
                        self.refuse(shown, &bad.errors);
                    }
                    if listing.rejected.is_empty() {
                        let items = value["clusters"].as_array().cloned().unwrap_or_default();
                        items
                            .into_iter()
                            .for_each(|item| self.add(shown, item, judge));
                    }
                }
            }
        }
    }

    fn add(&mut self, shown: &str, value: Value, judge: Judge) {
        match judge(&value) {
            Err(errors) => self.refuse(shown, &errors),
            Ok(cluster) => {
                let name = cluster.name;
                if self.documents.insert(name.clone(), value).is_some() {
                    let why = "must be unique, but the name stands above";
                    self.errors.push(format!("{shown}: clusters.{name}: {why}"));
                }
                self.backends += cluster.backends.len();
            }
        }
    }

    fn refuse(&mut self, shown: &str, errors: &ConfigErrors) {
        let lines = errors.0.iter().map(|error| format!("{shown}: {error}"));
        self.errors.extend(lines);
    }
}

/// A document rather than a container of some.
fn is_document(value: &Value) -> bool {
    value.get("name").is_some() && value.get("clusters").is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(name: &str, text: &str) -> Found {
        let mut found = Found::default();
        found.take((name, Path::new(name)), text, document::judge);
        found
    }

    fn names(found: &Found) -> Vec<&str> {
        assert!(found.errors.is_empty(), "{:?}", found.errors);
        found.documents.keys().map(String::as_str).collect()
    }

    #[test]
    fn containers_and_single_documents_and_several_in_one_stream() {
        let container = "schema: 1\nclusters: [{name: a}, {name: b}]";
        assert_eq!(names(&taken("c.yaml", container)), ["a", "b"]);
        let stream = "name: a\n---\nname: b\n---\nschema: 1\nclusters: [{name: c}]";
        assert_eq!(names(&taken("c.yml", stream)), ["a", "b", "c"]);
        assert_eq!(names(&taken("c.json", r#"{"name":"a"}"#)), ["a"]);
        assert_eq!(names(&taken("c.toml", "name = 'a'\nhttp2 = true")), ["a"]);
    }

    #[test]
    fn everything_wrong_is_said_with_its_file() {
        let text = "schema: 1\nclusters: [{name: a, x: 1}, {name: b, backends: [{}]}]";
        assert_eq!(
            taken("c.yaml", text).errors,
            [
                "c.yaml: clusters.a.x: is not a known field",
                "c.yaml: clusters.b.backends[0].address: is required"
            ]
        );
        let twice = taken("c.yaml", "name: a\n---\nname: a");
        assert_eq!(
            twice.errors,
            ["c.yaml: clusters.a: must be unique, but the name stands above"]
        );
        assert!(taken("c.yaml", "a: [").errors[0].starts_with("c.yaml: must be YAML: "));
        assert_eq!(taken("c.yaml", "clusters: []").errors.len(), 1);
        assert!(!taken("c.txt", "").errors.is_empty());
    }
}
