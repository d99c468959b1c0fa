//! The demo registry: a file, read at the start and again whenever it changes, and beside it
//! another one that holds the operators' overrides.
//!
//! Changes are found by looking: the file behind the path is compared by device, inode, size and
//! times every few milliseconds. File notices would have to follow every symlink and every
//! directory on the way (a mounted ConfigMap swaps a directory, editors swap the file, `ln -sfn`
//! swaps a link anywhere above) and are silent on network and overlay mounts; one look sees all of
//! these and costs a microsecond.

mod editor;
mod files;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pointsman_filter::config::ExchangeConfig;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::model::clock::now;
use crate::model::event::override_events;
use crate::model::overrides::Overrides;
use crate::registry::document::DocumentError;
use crate::registry::model::{Listing, Output, Registry, SourceStatus, log_rejected};
use crate::stores::file::looks::{Looks, look};
pub use editor::FileEditor;
use files::Files;

/// How often the files are looked at. A change is read when two looks in a row agree, so that a
/// file that is still being written is left alone; together at most twice this.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// The demo registry's source.
pub struct FileFeed {
    files: Files,
    exchange: ExchangeConfig,
    looks: [Looks; 2],
    /// The documents as they were read last, each bad one in its last good version.
    documents: Listing,
    /// The overrides as they were read last.
    overrides: Overrides,
    /// What is wrong with each of the two files.
    errors: [Option<String>; 2],
    /// When the next override ends, ms since 1970.
    due: Option<u64>,
    last: Arc<Registry>,
}

impl FileFeed {
    /// Reads the files for the first time. There is nothing to fall back on yet, so an error here
    /// is the end. Blocks.
    pub fn open(path: PathBuf, exchange: ExchangeConfig) -> Result<Self, DocumentError> {
        let files = Files::new(path);
        // Looked at before they are read: a change in between is then seen as one.
        let looks = [&files.documents, &files.overrides].map(|it| Looks::new(look(it)));
        let documents = files.read_documents()?;
        let overrides = files.read_overrides()?;
        let (registry, due) = made(&documents, &overrides, &exchange, now());
        log_rejected(&[], &registry.rejected);
        Ok(FileFeed {
            files,
            exchange,
            looks,
            documents,
            overrides,
            errors: [None, None],
            due,
            last: Arc::new(registry),
        })
    }

    /// The file of the documents.
    pub fn path(&self) -> &Path {
        &self.files.documents
    }

    /// The registry as it was read last.
    pub fn registry(&self) -> Arc<Registry> {
        Arc::clone(&self.last)
    }

    /// The way to change it.
    pub fn editor(&self) -> FileEditor {
        FileEditor::new(self.files.clone())
    }

    /// Publishes the registry after every change of the files and whenever an override ends, until told
    /// to stop. Blocks: a look costs less than handing it to another thread.
    pub fn watch(mut self, output: &Output, stop: &CancellationToken) {
        let mut reloads = output.reloads.clone();
        while !stop.is_cancelled() {
            std::thread::sleep(LOOK_INTERVAL);
            let wished = reloads.has_changed().unwrap_or(false);
            let wish = *reloads.borrow_and_update();
            let found = [&self.files.documents, &self.files.overrides].map(|it| look(it));
            let [documents, overrides] = &mut self.looks;
            let [documents, overrides] = match wished {
                true => {
                    *documents = Looks::new(found[0]);
                    *overrides = Looks::new(found[1]);
                    [true, true]
                }
                false => [documents.on_look(found[0]), overrides.on_look(found[1])],
            };
            if documents {
                self.read_documents();
            }
            if overrides {
                self.read_overrides();
            }
            let now = now();
            if documents || overrides || self.due.is_some_and(|due| due <= now) {
                self.publish(output, wish, now);
            }
        }
    }

    fn read_documents(&mut self) {
        self.errors[0] = match self.files.read_documents() {
            Ok(mut listing) => {
                listing.keep_last_good(&self.documents);
                self.documents = listing;
                None
            }
            Err(failure) => Some(said(&failure)),
        };
    }

    fn read_overrides(&mut self) {
        self.errors[1] = match self.files.read_overrides() {
            Ok(overrides) => {
                self.overrides = overrides;
                None
            }
            Err(failure) => Some(said(&failure)),
        };
    }

    fn publish(&mut self, output: &Output, reloaded: u64, now: u64) {
        let (next, due) = made(&self.documents, &self.overrides, &self.exchange, now);
        self.due = due;
        log_rejected(&self.last.rejected, &next.rejected);
        let events = override_events(&self.last.overrides, &next.overrides, now);
        if next != *self.last {
            if next.config != self.last.config {
                next.log_changed();
            }
            self.last = Arc::new(next);
            output.published.send_replace(Some(Arc::clone(&self.last)));
        }
        let errors: Vec<&str> = self.errors.iter().flatten().map(String::as_str).collect();
        output.status.send_replace(SourceStatus {
            error: (!errors.is_empty()).then(|| errors.join("; ")),
            reloaded,
            ..SourceStatus::default()
        });
        output.report(events);
    }
}

/// The registry that the documents and the overrides make, and when it changes by itself.
fn made(
    documents: &Listing,
    overrides: &Overrides,
    exchange: &ExchangeConfig,
    now: u64,
) -> (Registry, Option<u64>) {
    let mut listing = documents.clone();
    listing.overrides = overrides.clone();
    let due = listing.obey(now);
    (Registry::new(listing, exchange.clone()), due)
}

fn said(failure: &DocumentError) -> String {
    error!(
        event = "registry_unreadable",
        "the registry cannot be read, what was good before serves: {failure}"
    );
    failure.to_string()
}

#[cfg(test)]
mod tests;
