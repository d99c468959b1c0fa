//! Writes to the demo registry's two files.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::task::spawn_blocking;

use super::files::Files;
use crate::model::clock::now;
use crate::model::overrides::{Edit, Override, edit_values};
use crate::registry::document;
use crate::registry::edit::{CompareAndSwap, Seen, Swapped};
use crate::registry::edit::{Document, EditError};
use crate::stores::file::looks::{Stamp, look};
use crate::stores::file::replace;

/// The way to change the demo registry. Clones take turns.
#[derive(Clone)]
pub struct FileEditor {
    files: Arc<Files>,
    turn: Arc<Mutex<()>>,
}

impl FileEditor {
    /// An editor of these files.
    pub fn new(files: Files) -> Self {
        FileEditor {
            files: Arc::new(files),
            turn: Arc::default(),
        }
    }

    /// Applies an operator's act on a backend.
    pub async fn edit_override(
        &self,
        cluster: &str,
        backend: &str,
        act: &Edit,
    ) -> Result<Option<Override>, EditError> {
        let (cluster, backend, act) = (cluster.to_owned(), backend.to_owned(), act.clone());
        let turn = Arc::clone(&self.turn).lock_owned().await;
        self.blocking(move |files| {
            let _turn = turn;
            let mut clusters = files.read_overrides().map_err(|why| refused(&why))?;
            let overrides = clusters.entry(&cluster).or_insert_with(|| json!({}));
            let Value::Object(overrides) = overrides else {
                let file = files.overrides.display();
                return Err(EditError::Refused(format!(
                    "{file}: overrides.{cluster}: must be an object of backends: repair or remove it first"
                )));
            };
            let entry = edit_values(overrides, &backend, &act, now());
            let entry = entry.ok_or(EditError::NothingToEnd)?;
            if overrides.is_empty() {
                clusters.remove(&cluster);
            }
            let text = format!("{:#}\n", Value::Object(clusters));
            replace(&files.overrides, &text).map_err(|why| unwritable(&files.overrides, &why))?;
            Ok(entry)
        })
        .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Files) -> Result<T, EditError> + Send + 'static,
    ) -> Result<T, EditError> {
        let files = Arc::clone(&self.files);
        spawn_blocking(move || act(&files))
            .await
            .unwrap_or_else(|why| Err(refused(&why)))
    }
}

/// The documents' file as it was read. Whoever holds it has the turn.
pub struct Read {
    _turn: OwnedMutexGuard<()>,
    stamp: Option<Stamp>,
    container: Value,
}

impl CompareAndSwap for FileEditor {
    type Mark = Read;

    async fn look(&self, cluster: &str) -> Result<Seen<Read>, EditError> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let cluster = cluster.to_owned();
        self.blocking(move |files| {
            let mark = Read {
                _turn: turn,
                stamp: look(&files.documents),
                container: container(files)?,
            };
            let document = find(&mark.container, &cluster);
            Ok(Seen { document, mark })
        })
        .await
    }

    /// Comments and the order of keys are not kept.
    async fn swap(
        &self,
        cluster: &str,
        mut mark: Read,
        next: Option<&Value>,
    ) -> Result<Swapped, EditError> {
        let (cluster, next) = (cluster.to_owned(), next.cloned());
        self.blocking(move |files| {
            let path = &files.documents;
            put(&mut mark.container, &cluster, next.as_ref());
            let text = document::print(path, &mark.container).map_err(|why| refused(&why))?;
            // Who edits the file by hand takes no turn.
            if look(path) != mark.stamp {
                return Ok(Swapped::Overtaken);
            }
            replace(path, &text).map_err(|why| unwritable(path, &why))?;
            let etag = next.map(|next| Document::new(next.to_string().into_bytes()).etag);
            Ok(Swapped::Done(etag))
        })
        .await
    }
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
