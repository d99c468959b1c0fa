//! What a stream asked for of one kind, what it has of that, and what it is owed.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use super::super::snapshot::{Name, Resource, Shelf, Versions};
use super::super::{Kind, Nack};
use super::Event;

/// Answers of one kind that may be waiting for the proxy's word; then changes wait too, and the
/// next answer carries all of them at once.
pub const PENDING_MAX: usize = 32;
/// Names a stream may subscribe to, per kind.
pub const NAMES_MAX: usize = 100_000;
/// Longest text of a refusal that is kept, bytes: a page shows one per type of every stream.
pub const ERROR_MAX: usize = 4096;
/// The name of all names.
pub const WILDCARD: &str = "*";

/// A stream asks for more names than any registry holds.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a stream may subscribe to at most {NAMES_MAX} names of one kind")]
pub struct TooManyNames;

/// One kind's state on one stream.
#[derive(Debug, Default)]
pub struct Subscription {
    /// The proxy has asked for it.
    pub started: bool,
    /// It wants all there is, beside what it names.
    pub wildcard: bool,
    /// The names it asked for.
    pub names: BTreeSet<Name>,
    /// What the proxy was sent, whether it accepted it or not: a refused version is not sent again.
    /// All that stood on a shelf, so that streams share it: of what it did not ask for it says nothing.
    pub has: Arc<Versions>,
    /// That was sent on an earlier stream, and has not been compared with a shelf yet.
    pub came_back: bool,
    /// What it has and the shelf no more, until it is told.
    pub gone: BTreeSet<Name>,
    /// Names that are owed an answer even if it is not news.
    pub owed: BTreeSet<Name>,
    /// The answers it has not judged yet.
    pub pending: VecDeque<Sent>,
    /// The version of the last answer it accepted.
    pub acked: Option<String>,
    /// What it refused last and has not accepted since: of filters one for each role.
    pub nacked: Vec<Nack>,
    /// The shelf's version of which all has been sent, so that no word of the proxy on an answer has
    /// the shelf searched again.
    pub settled: Option<String>,
}

/// An answer that waits for the proxy's word.
#[derive(Debug)]
pub struct Sent {
    /// What its word will carry.
    pub nonce: String,
    /// The answer's version.
    pub version: String,
    /// The filter that it is about; of other kinds an answer is about many.
    pub filter: Option<Name>,
}

impl Subscription {
    /// Whether another answer may be sent.
    pub fn has_room(&self) -> bool {
        self.pending.len() < PENDING_MAX
    }

    /// Notes that nothing of this version is due, unless changes wait for the proxy's word.
    pub fn settle_on(&mut self, version: &str) {
        if self.has_room() && !self.is_settled_on(version) {
            self.settled = Some(version.to_owned());
        }
    }

    /// Whether nothing of this version is due.
    pub fn is_settled_on(&self, version: &str) -> bool {
        self.settled.as_deref() == Some(version)
    }

    /// Takes in its word on an answer.
    pub fn on_nonce(&mut self, nonce: &str, error: Option<String>) -> Option<Event> {
        // An unknown nonce speaks of another stream: it tells nothing.
        let at = self.pending.iter().position(|sent| sent.nonce == nonce)?;
        let Sent {
            version, filter, ..
        } = self.pending.remove(at)?;
        // One role's acceptance does not end the other's refusal.
        self.nacked.retain(|nack| nack.resource != filter);
        Some(match error {
            None => {
                if self.nacked.is_empty() {
                    self.acked = Some(version.clone());
                }
                Event::Acked { version }
            }
            Some(mut error) => {
                error.truncate(error.floor_char_boundary(ERROR_MAX));
                let nack = Nack {
                    resource: filter,
                    version,
                    error,
                };
                self.nacked.push(nack.clone());
                Event::Nacked(nack)
            }
        })
    }

    /// Notes what it asks for, `first` in a stream's first message; an error where that is too much.
    pub fn subscribe(
        &mut self,
        names: impl Iterator<Item = Name>,
        first: bool,
    ) -> Result<(), TooManyNames> {
        for name in names {
            if *name == *WILDCARD {
                if !first {
                    self.forget_the_rest();
                }
                self.wildcard = true;
                continue;
            }
            // A name that is asked for is answered, even again; but not one the proxy brought
            // along from an earlier stream.
            if !(first && self.has.contains_key(&name)) {
                self.owed.insert(Arc::clone(&name));
            }
            self.names.insert(name);
        }
        match self.names.len() <= NAMES_MAX {
            true => Ok(()),
            false => Err(TooManyNames),
        }
    }

    /// What is unsubscribed is forgotten: a later subscription starts from nothing.
    pub fn unsubscribe(&mut self, names: Vec<String>) {
        for name in names {
            if name == WILDCARD {
                self.wildcard = false;
                let names = &self.names;
                self.gone.retain(|name| names.contains(name));
                continue;
            }
            self.names.remove(name.as_str());
            self.gone.remove(name.as_str());
            self.owed.remove(name.as_str());
            if self.wildcard {
                // The wildcard still covers it, and the answer says so.
                self.owed.insert(name.into());
            }
        }
    }

    /// Lets names be answered even if they are not news.
    pub fn owe(&mut self, names: Vec<Name>) {
        if !names.is_empty() {
            self.settled = None;
            self.owed.extend(names);
        }
    }

    /// What it has of an earlier stream; once.
    pub fn take_brought(&mut self) -> Option<Arc<Versions>> {
        std::mem::take(&mut self.came_back).then(|| Arc::clone(&self.has))
    }

    fn covers(&self, name: &Name) -> bool {
        self.wildcard || self.names.contains(name)
    }

    /// A map of its own, without the names that the proxy did not ask for and was not sent.
    fn forget_the_rest(&mut self) {
        let had = self.has.iter().filter(|(name, _)| self.covers(name));
        let had = had.map(|(name, version)| (Arc::clone(name), Arc::clone(version)));
        self.has = Arc::new(had.collect());
    }

    /// All that is due of a shelf, of filters one at a time: a refusal is of a whole answer, and one
    /// role's must not hold back the other's.
    pub fn take_news(
        &mut self,
        shelf: &Shelf,
        kind: Kind,
        cold: &BTreeSet<Name>,
    ) -> Vec<(Name, Arc<Resource>)> {
        let due = |(name, resource): &(&Name, &Arc<Resource>)| {
            self.has.get(*name) != Some(&resource.version)
                || self.owed.contains(*name)
                || cold.contains(*name)
        };
        let owned = |(name, resource): (&Name, &Arc<Resource>)| (name.clone(), resource.clone());
        let mut news: Vec<(Name, Arc<Resource>)> = match self.wildcard {
            true => shelf.iter().filter(due).map(owned).collect(),
            false => {
                let there = self.names.iter();
                let there = there.filter_map(|name| Some((name, shelf.get(name)?)));
                there.filter(due).map(owned).collect()
            }
        };
        let later = match kind {
            Kind::Filters => news.split_off(news.len().min(1)),
            Kind::Clusters | Kind::Secrets | Kind::Endpoints => Vec::new(),
        };
        for (name, _) in &news {
            self.owed.remove(name);
        }
        self.owed.extend(later.into_iter().map(|(name, _)| name));
        self.stand_on(shelf);
        news
    }

    /// From now on the proxy has what is on this shelf, or is owed it; what it had of others is gone.
    fn stand_on(&mut self, shelf: &Shelf) {
        let had = std::mem::replace(&mut self.has, Arc::clone(shelf.versions()));
        if !Arc::ptr_eq(&had, &self.has) {
            let gone = had.keys().filter(|name| !self.has.contains_key(*name));
            let gone: Vec<Name> = gone.filter(|name| self.covers(name)).cloned().collect();
            self.gone.extend(gone);
        }
    }

    /// What it has, or was never there, and is to be told that it is not on the shelf.
    pub fn take_gone(&mut self, shelf: &Shelf) -> Vec<String> {
        let is_gone = |name: &Name| shelf.get(name).is_none();
        let never_there: Vec<Name> = self.owed.extract_if(.., is_gone).collect();
        let mut gone = std::mem::take(&mut self.gone);
        // What came back meanwhile has been sent again.
        gone.retain(is_gone);
        gone.extend(never_there);
        gone.iter().map(|name| name.to_string()).collect()
    }
}
