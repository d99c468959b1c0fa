//! Writes to the demo registry's two files.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tokio::task::spawn_blocking;

use super::files::{Files, replace};
use super::looks::look;
use super::now;
use crate::registry::document;
use crate::registry::editor::{ATTEMPTS_MAX, Document, EditError, Expect, Written};
use crate::registry::overrides::Override;

/// The way to change the demo registry. Clones take turns.
#[derive(Clone)]
pub struct DemoEditor {
    files: Arc<Files>,
    turn: Arc<Mutex<()>>,
}

impl DemoEditor {
    /// An editor of these files.
    pub fn new(files: Files) -> Self {
        DemoEditor {
            files: Arc::new(files),
            turn: Arc::default(),
        }
    }

    /// The document of a cluster.
    pub async fn read(&self, cluster: &str) -> Result<Option<Document>, EditError> {
        let cluster = cluster.to_owned();
        let read = move |files: &Files| Ok(find(&container(files)?, &cluster));
        self.blocking(read).await
    }

    /// Writes a document, or deletes it. Comments and the order of keys are not kept.
    pub async fn replace(
        &self,
        cluster: &str,
        next: Option<&Value>,
        expect: &Expect,
    ) -> Result<Written, EditError> {
        let (cluster, next, expect) = (cluster.to_owned(), next.cloned(), expect.clone());
        self.blocking(move |files| replace_document(files, &cluster, next.as_ref(), &expect))
            .await
    }

    /// Puts a word on a backend, or takes it back.
    pub async fn say(
        &self,
        cluster: &str,
        backend: &str,
        word: Option<&Override>,
    ) -> Result<(), EditError> {
        let (cluster, backend) = (cluster.to_owned(), backend.to_owned());
        let word = word.cloned();
        self.blocking(move |files| {
            let mut words = files.read_overrides().map_err(|why| refused(&why))?;
            words.expire(now());
            match word {
                Some(word) => words.put(&cluster, &backend, word),
                None => words.remove(&cluster, &backend),
            };
            let text = format!("{:#}\n", words.to_value());
            replace(&files.overrides, &text).map_err(|why| unwritable(&files.overrides, &why))
        })
        .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Files) -> Result<T, EditError> + Send + 'static,
    ) -> Result<T, EditError> {
        let editor = self.clone();
        let act = move || {
            let _turn = editor.turn.lock().unwrap_or_else(PoisonError::into_inner);
            act(&editor.files)
        };
        spawn_blocking(act)
            .await
            .unwrap_or_else(|why| Err(refused(&why)))
    }
}

fn replace_document(
    files: &Files,
    cluster: &str,
    next: Option<&Value>,
    expect: &Expect,
) -> Result<Written, EditError> {
    for _ in 0..ATTEMPTS_MAX {
        let stamp = look(&files.documents);
        let mut container = container(files)?;
        let before = find(&container, cluster);
        if !expect.admits(before.as_ref()) {
            return Err(EditError::Unexpected(before.map(|it| it.etag)));
        }
        put(&mut container, cluster, next);
        let text = document::print(&files.documents, &container).map_err(|why| refused(&why))?;
        // Who edits the file by hand takes no turn.
        if look(&files.documents) != stamp {
            continue;
        }
        replace(&files.documents, &text).map_err(|why| unwritable(&files.documents, &why))?;
        let etag = next.map(|next| Document::new(next.to_string().into_bytes()).etag);
        return Ok(Written { before, etag });
    }
    Err(EditError::Busy)
}

fn container(files: &Files) -> Result<Value, EditError> {
    let text = document::read(&files.documents).map_err(|why| refused(&why))?;
    let container = document::parse(&files.documents, &text).map_err(|why| refused(&why))?;
    match container.get("clusters") {
        Some(Value::Array(_)) => Ok(container),
        _ => {
            let file = files.documents.display();
            Err(EditError::Refused(format!(
                "{file}: holds no list of clusters"
            )))
        }
    }
}

fn is_named(item: &Value, cluster: &str) -> bool {
    item.get("name").and_then(Value::as_str) == Some(cluster)
}

fn find(container: &Value, cluster: &str) -> Option<Document> {
    let items = container.get("clusters")?.as_array()?;
    let item = items.iter().find(|item| is_named(item, cluster))?;
    Some(Document::new(item.to_string().into_bytes()))
}

/// Puts a document in the place of the one of the same name, or at the end; or takes it out.
fn put(container: &mut Value, cluster: &str, next: Option<&Value>) {
    let Some(items) = container.get_mut("clusters").and_then(Value::as_array_mut) else {
        return;
    };
    let place = items.iter().position(|item| is_named(item, cluster));
    match (place, next) {
        (Some(place), Some(next)) => {
            if let Some(item) = items.get_mut(place) {
                item.clone_from(next);
            }
        }
        (None, Some(next)) => items.push(next.clone()),
        (Some(_), None) => items.retain(|item| !is_named(item, cluster)),
        (None, None) => {}
    }
}

fn refused(why: &dyn std::fmt::Display) -> EditError {
    EditError::Refused(why.to_string())
}

fn unwritable(path: &std::path::Path, why: &std::io::Error) -> EditError {
    EditError::Refused(format!("{}: cannot be written: {why}", path.display()))
}

#[cfg(test)]
mod tests;
