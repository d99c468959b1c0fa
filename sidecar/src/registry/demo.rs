//! The demo registry: a file, read at the start and again whenever it changes.
//!
//! Changes are found by looking: the file behind the path is compared by device, inode, size and
//! times every few milliseconds. File notices would have to follow every symlink and every
//! directory on the way (a mounted ConfigMap swaps a directory, editors swap the file, `ln -sfn`
//! swaps a link anywhere above) and are silent on network and overlay mounts; one look sees all of
//! these and costs a microsecond.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pointsman_filter::config::ExchangeConfig;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::document::{self, DocumentError};
use super::{Listing, Published, Registry, SourceStatus, log_rejected};

/// How often the file is looked at. A change is read when two looks in a row agree, so that a file
/// that is still being written is left alone; together at most twice this.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// The demo registry's source.
pub struct Demo {
    path: PathBuf,
    exchange: ExchangeConfig,
    looks: Looks,
    last: Arc<Registry>,
}

/// What a look at the file finds; two files that differ in nothing here are taken for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// The rule of when to read; `None` is a file that is not there.
#[derive(Debug)]
struct Looks {
    read: Option<Stamp>,
    previous: Option<Stamp>,
}

impl Looks {
    /// Takes a look's finding; true: read the file now.
    fn on_look(&mut self, found: Option<Stamp>) -> bool {
        let settled = found == self.previous;
        self.previous = found;
        let due = settled && found != self.read;
        if due {
            self.read = found;
        }
        due
    }
}

fn look(path: &Path) -> Option<Stamp> {
    let meta = std::fs::metadata(path).ok()?;
    Some(Stamp {
        device: meta.dev(),
        inode: meta.ino(),
        bytes: meta.size(),
        modified: (meta.mtime(), meta.mtime_nsec()),
        changed: (meta.ctime(), meta.ctime_nsec()),
    })
}

fn read(path: &Path) -> Result<Listing, DocumentError> {
    document::check(path, &document::read(path)?)
}

impl Demo {
    /// Reads the file for the first time. There is nothing to fall back on yet, so an error here
    /// is the end. Blocks.
    pub fn open(path: PathBuf, exchange: ExchangeConfig) -> Result<Self, DocumentError> {
        // Looked at before it is read: a change in between is then seen as one.
        let stamp = look(&path);
        let registry = Registry::new(read(&path)?, exchange.clone(), None);
        log_rejected(&[], &registry.rejected);
        Ok(Demo {
            path,
            exchange,
            looks: Looks {
                read: stamp,
                previous: stamp,
            },
            last: Arc::new(registry),
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The registry as it was read last.
    pub fn registry(&self) -> Arc<Registry> {
        Arc::clone(&self.last)
    }

    /// Publishes the registry after every change of the file, until told to stop. Blocks: a look
    /// costs less than handing it to another thread.
    pub fn watch(
        mut self,
        published: &watch::Sender<Published>,
        status: &watch::Sender<SourceStatus>,
        stop: &CancellationToken,
    ) {
        while !stop.is_cancelled() {
            std::thread::sleep(LOOK_INTERVAL);
            if self.looks.on_look(look(&self.path)) {
                self.on_reading(read(&self.path), published, status);
            }
        }
    }

    fn on_reading(
        &mut self,
        outcome: Result<Listing, DocumentError>,
        published: &watch::Sender<Published>,
        status: &watch::Sender<SourceStatus>,
    ) {
        let listing = match outcome {
            Ok(listing) => listing,
            Err(failure) => {
                error!(
                    event = "registry_unreadable",
                    "the registry cannot be read, the last good one serves: {failure}"
                );
                status.send_replace(SourceStatus {
                    error: Some(failure.to_string()),
                    ..SourceStatus::default()
                });
                return;
            }
        };
        status.send_replace(SourceStatus::default());
        let next = Registry::new(listing, self.exchange.clone(), Some(&self.last));
        log_rejected(&self.last.rejected, &next.rejected);
        if next == *self.last {
            return;
        }
        next.log_changed();
        self.last = Arc::new(next);
        published.send_replace(Some(Arc::clone(&self.last)));
    }
}

#[cfg(test)]
mod tests;
