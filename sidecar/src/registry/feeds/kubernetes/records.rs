//! Everything the API server holds, as it was read last, and the registry that it makes.
//!
//! An object that turns bad keeps its last good version until it is repaired or gone.

mod entry;

use std::collections::BTreeMap;

use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::object::Object;
use super::slices::Slices;
use crate::registry::feeds::crd::status::BackendClusterStatus;
use crate::registry::model::Listing;
use entry::{Entry, Surroundings};

/// The records of one namespace.
#[derive(Debug, Default)]
pub struct Records {
    /// By the object's name.
    objects: BTreeMap<String, Entry>,
    slices: Slices,
    /// All slices were read, and are followed since.
    slices_known: bool,
}

/// What is to be said of an object.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The object's name.
    pub object: String,
    /// Tells it from another one of the same name.
    pub uid: String,
    /// What was read of it.
    pub generation: i64,
    /// What it says of itself already.
    pub status: Option<BackendClusterStatus>,
    /// Whether it is taken as it is.
    pub verdict: Verdict,
    /// What is wrong; empty where nothing is.
    pub error: String,
    /// The Services that it names.
    pub refs: usize,
    /// What could not be found of them.
    pub missing: Vec<String>,
    /// The cluster that it is served as.
    pub cluster: Option<String>,
    /// How many of its backends came from Services.
    pub from_services: usize,
}

/// Whether an object is taken as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is.
    Accepted,
    /// Something in it is wrong.
    Invalid,
    /// An older object has its name.
    NameTaken,
}

/// What the records make at one moment.
#[derive(Debug, Default)]
pub struct Reading {
    /// The registry.
    pub listing: Listing,
    /// In the order of the objects' names.
    pub reports: Vec<Report>,
    /// Which object has each name that is claimed.
    pub owners: BTreeMap<String, String>,
    /// When time alone changes something, ms since 1970.
    pub due: Option<u64>,
}

impl Records {
    /// Takes over a full reading: what it does not name is gone.
    pub fn replace(&mut self, objects: Vec<Object>) {
        let mut before = std::mem::take(&mut self.objects);
        for object in objects {
            let last = before.remove(&object.name);
            // Another object of the same name has no part in what this one was.
            if let Some(last) = last.filter(|last| last.object.uid == object.uid) {
                self.objects.insert(object.name.clone(), last);
            }
            self.put(object);
        }
    }

    /// Takes over an object; whether that is news to the registry.
    pub fn put(&mut self, object: Object) -> bool {
        let name = object.name.clone();
        let before = self.objects.remove(&name);
        let before = before.filter(|before| before.object.uid == object.uid);
        let same = before.as_ref().is_some_and(|before| {
            let (old, new) = (&before.object, &object);
            (&old.spec, &old.overrides, old.generation)
                == (&new.spec, &new.overrides, new.generation)
        });
        let entry = match before {
            // Our own status coming back, or somebody's label.
            Some(before) if same => before.with(object),
            before => Entry::new(object, before),
        };
        self.objects.insert(name, entry);
        !same
    }

    /// Forgets an object; whether that is news.
    pub fn remove(&mut self, object: &Object) -> bool {
        match self.objects.get(&object.name) {
            Some(entry) if entry.object.uid == object.uid => {
                self.objects.remove(&object.name);
                true
            }
            _ => false,
        }
    }

    /// Whether any object names a Service.
    pub fn needs_slices(&self) -> bool {
        self.objects.values().any(Entry::names_a_service)
    }

    /// Takes over a full reading of the slices.
    pub fn replace_slices(&mut self, slices: Vec<EndpointSlice>) {
        self.slices = Slices::default();
        for slice in slices {
            self.slices.put(slice);
        }
        self.slices_known = true;
    }

    /// Forgets the slices, which nobody needs; whoever does later waits for a new reading.
    pub fn forget_slices(&mut self) {
        self.slices = Slices::default();
        self.slices_known = false;
    }

    /// Whether all slices were read.
    pub fn knows_slices(&self) -> bool {
        self.slices_known
    }

    /// Takes over a slice; whether that is news.
    pub fn put_slice(&mut self, slice: EndpointSlice) -> bool {
        self.slices.put(slice)
    }

    /// Forgets a slice; whether that is news.
    pub fn remove_slice(&mut self, slice: &EndpointSlice) -> bool {
        self.slices.remove(slice)
    }

    /// The registry at `now`, ms since 1970. `blind`: why the slices cannot be read.
    pub fn read(&self, now: u64, blind: Option<&str>) -> Reading {
        let mut reading = Reading::default();
        let owners = self.owners();
        for entry in self.objects.values() {
            let owner = entry.claim().and_then(|claim| owners.get(claim));
            let owner = owner.map(|owner| owner.object.name.as_str());
            let around = Surroundings {
                slices: &self.slices,
                blind,
                unread: blind.is_none() && !self.slices_known,
                owner: owner.filter(|owner| *owner != entry.object.name),
            };
            let report = entry.read(&around, &mut reading);
            reading.reports.push(report);
        }
        let owners = owners.into_iter();
        let owned = owners.map(|(name, owner)| (name.to_owned(), owner.object.name.clone()));
        reading.owners = owned.collect();
        // Last: they beat everything.
        reading.due = reading.listing.obey(now);
        reading
    }

    /// Which object has each name: the oldest, and of equally old ones the first by name.
    fn owners(&self) -> BTreeMap<&str, &Entry> {
        let mut owners: BTreeMap<&str, &Entry> = BTreeMap::new();
        for entry in self.objects.values() {
            let Some(claim) = entry.claim() else {
                continue;
            };
            let owner = owners.entry(claim).or_insert(entry);
            if entry.object.created < owner.object.created {
                *owner = entry;
            }
        }
        owners
    }
}

#[cfg(test)]
mod tests;
