//! The demo registry: a file, and beside it another one that holds the operators' overrides.
//!
//! Changes are found by looking: the file behind the path is compared by device, inode, size and
//! times every few milliseconds. File notices would have to follow every symlink and every
//! directory on the way (a mounted ConfigMap swaps a directory, editors swap the file, `ln -sfn`
//! swaps a link anywhere above) and are silent on network and overlay mounts; one look sees all of
//! these and costs a microsecond.

mod editor;
mod files;

use std::path::{Path, PathBuf};
use std::time::Duration;

use pointsman_filter::config::ExchangeConfig;
use serde_json::{Map, Value};
use tokio::time::sleep;
use tracing::error;

use crate::model::clock;
use crate::model::errors;
use crate::model::overrides::read_each;
use crate::registry::document::{self, DocumentError};
use crate::registry::engine::Engine;
use crate::registry::feed::{Feed, FeedError, News};
use crate::registry::follow::Follower;
use crate::registry::model::{Reachability, StoreKind};
use crate::registry::record::{Record, What};
use crate::stores::file::looks::{Looks, look};
pub use editor::FileEditor;
use files::Files;

/// How often the files are looked at. A change is read when two looks in a row agree, so that a
/// file that is still being written is left alone; together at most twice this.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);
/// Never because of time alone: a file may be half written just then.
const RECONCILE_INTERVAL: Duration = Duration::from_secs(366 * 86_400);

/// The demo registry's files. Looks block, but for less than handing them to another thread takes.
pub struct FileFeed {
    files: Files,
    looks: [Looks; 2],
    /// The documents of the last file that could be read.
    documents: Vec<Value>,
    /// The overrides of the last file that could be read, by cluster.
    overrides: Map<String, Value>,
    /// What is wrong with each of the two files.
    errors: [Option<String>; 2],
}

impl FileFeed {
    /// Reads the files for the first time. There is nothing to fall back on yet, so an error here
    /// is the end.
    pub async fn start(
        path: PathBuf,
        exchange: ExchangeConfig,
    ) -> Result<Follower<Self>, DocumentError> {
        let files = Files::new(path);
        let feed = FileFeed {
            looks: looks(&files),
            documents: files.read_documents()?,
            overrides: files.read_overrides()?,
            errors: [None, None],
            files,
        };
        // Nothing is lost by accident here: who edits the file sees it.
        let engine = Engine::new(exchange, Duration::ZERO);
        let mut follower = Follower::new(feed, engine, RECONCILE_INTERVAL);
        // What could be read once is remembered, so that this cannot fail any more.
        follower.read().await.unwrap_or_default();
        Ok(follower)
    }

    /// The file of the documents.
    pub fn path(&self) -> &Path {
        &self.files.documents
    }

    /// The way to change it.
    pub fn editor(&self) -> FileEditor {
        FileEditor::new(self.files.clone())
    }
}

impl Feed for FileFeed {
    const KIND: StoreKind = StoreKind::Memory;
    const UP: Reachability = Reachability::Memory;
    const BACKOFF: (Duration, Duration) = (LOOK_INTERVAL, LOOK_INTERVAL);

    async fn open(&mut self) -> Result<(), FeedError> {
        Ok(())
    }

    /// A file that cannot be read leaves what it said before in force.
    async fn list(&mut self) -> Result<Vec<Record>, FeedError> {
        // Looked at before they are read: a change in between is then seen as one.
        self.looks = looks(&self.files);
        let documents = self.files.read_documents();
        keep(&mut self.documents, documents, &mut self.errors[0]);
        let overrides = self.files.read_overrides();
        keep(&mut self.overrides, overrides, &mut self.errors[1]);
        let mut records = document::records(self.documents.clone(), document::judge);
        records.extend(self.overrides.iter().map(overrides_of));
        Ok(records)
    }

    async fn next(&mut self) -> Result<News, FeedError> {
        loop {
            sleep(LOOK_INTERVAL).await;
            let found = [&self.files.documents, &self.files.overrides].map(|it| look(it));
            let [documents, overrides] = &mut self.looks;
            // Both take their look.
            if documents.on_look(found[0]) | overrides.on_look(found[1]) {
                return Ok(News::Anything);
            }
        }
    }

    fn now(&self) -> u64 {
        clock::now()
    }

    fn place(&self) -> String {
        format!("file {}", self.path().display())
    }

    fn trouble(&self) -> Option<String> {
        let errors: Vec<&str> = self.errors.iter().flatten().map(String::as_str).collect();
        (!errors.is_empty()).then(|| errors.join("; "))
    }
}

/// The overrides on a cluster's backends; one that is wrong costs no other.
fn overrides_of((cluster, overrides): (&String, &Value)) -> Record {
    let place = format!("overrides.{cluster}");
    let read = match overrides {
        Value::Object(overrides) => Ok(read_each(cluster, overrides)),
        _ => Err(errors::error(&place, "must be an object of backends")),
    };
    let cluster = cluster.clone();
    Record {
        place,
        rank: 0,
        what: What::Overrides { cluster, read },
    }
}

fn looks(files: &Files) -> [Looks; 2] {
    [&files.documents, &files.overrides].map(|it| Looks::new(look(it)))
}

/// Takes over what was read, or remembers why it was not.
fn keep<T>(last: &mut T, read: Result<T, DocumentError>, error: &mut Option<String>) {
    let failure = match read {
        Ok(read) => {
            *last = read;
            *error = None;
            return;
        }
        Err(failure) => failure.to_string(),
    };
    if error.as_ref() != Some(&failure) {
        error!(
            event = "registry_unreadable",
            "the registry cannot be read, what was good before serves: {failure}"
        );
    }
    *error = Some(failure);
}

#[cfg(test)]
mod tests;
