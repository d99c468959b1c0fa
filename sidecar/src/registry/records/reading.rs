//! Records → the registry that they make at one moment, and what is to be said of each cluster.

use std::collections::BTreeMap;

use pointsman_filter::config::{BackendConfig, CLUSTERS_MAX, ConfigErrors};

use super::judged::{Judged, Served};
use super::known::{joined, joined_texts, merge};
use super::overrides::OverrideSet;
use super::registered::Guest;
use super::{Entry, Records};
use crate::model::clock::Moment;
use crate::model::errors::error;
use crate::model::event::HeartbeatFault;
use crate::registry::model::{BadRecord, Listing};
use crate::registry::record::Object;
use crate::registry::warnings;

/// What is to be said of a record.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Where the document stands; the name of the cluster where it has none.
    pub place: String,
    /// Whether everything of the cluster is taken as it is.
    pub verdict: Verdict,
    /// What is wrong; empty where nothing is.
    pub error: String,
    /// What may be wrong, although it is taken.
    pub warning: Option<String>,
    /// The cluster that is served.
    pub cluster: Option<String>,
    /// The name that it has or would have.
    pub name: Option<String>,
    /// How many of its backends stand elsewhere than in the document.
    pub added: usize,
    /// How many Services it names.
    pub refs: usize,
    /// What could not be found of them.
    pub missing: Vec<String>,
    /// The object that the document stands in.
    pub object: Option<Object>,
}

impl Report {
    /// Nothing of it is served.
    fn unserved(place: &str, name: Option<&str>) -> Self {
        Report {
            place: place.to_owned(),
            verdict: Verdict::Invalid,
            error: String::new(),
            warning: None,
            cluster: None,
            name: name.map(str::to_owned),
            added: 0,
            refs: 0,
            missing: Vec::new(),
            object: None,
        }
    }
}

/// Whether a document is taken as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is.
    Accepted,
    /// Something in it is wrong.
    Invalid,
    /// Another document has its name.
    NameTaken,
    /// Its user has deleted it.
    Deleting,
}

/// A backend that has been silent for so long that it goes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Silent {
    /// The cluster that it belongs to.
    pub cluster: String,
    /// Its id.
    pub id: String,
    /// Its heartbeat, to the letter.
    pub heartbeat: Vec<u8>,
}

/// What the records make at one moment.
#[derive(Debug, Default)]
pub struct Reading {
    /// The registry.
    pub listing: Listing,
    /// On every document, and on clusters without one whose records are wrong.
    pub reports: Vec<Report>,
    /// When time alone changes something, ms of our clock.
    pub due: Option<u64>,
    /// Backends to delete.
    pub gone: Vec<Silent>,
    /// How many backends registered themselves, silent ones too.
    pub guests: usize,
    /// Heartbeats that cannot be true, by cluster and id.
    pub faults: Faults,
}

/// Heartbeats that cannot be true, by cluster and id.
pub type Faults = BTreeMap<(String, String), HeartbeatFault>;

/// What there is of a cluster beside its document.
#[derive(Default)]
struct Beside<'a> {
    guests: Vec<&'a Guest>,
    overrides: Option<&'a OverrideSet>,
}

type Errors = Vec<(String, ConfigErrors)>;

impl Records {
    /// The registry at `now`.
    pub fn read(&self, now: Moment) -> Reading {
        let mut reading = Reading::default();
        let mut beside: BTreeMap<&str, Beside<'_>> = BTreeMap::new();
        let mut documents: Vec<(&str, &Judged)> = Vec::new();
        for (place, entry) in &self.entries {
            match entry {
                Entry::Document(judged) => documents.push((place, judged)),
                Entry::Guest(guest) => {
                    reading.guest(guest, now.steady);
                    beside.entry(&guest.cluster).or_default().guests.push(guest);
                }
                Entry::Overrides { cluster, set } => {
                    beside.entry(cluster).or_default().overrides = Some(set);
                }
                Entry::Malformed(errors) => reading.reject(place, errors.clone()),
            }
        }
        documents.sort_by_key(|(place, judged)| (judged.rank, *place));
        let mut owners: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
        for (place, judged) in documents {
            if let Some(why) = judged.deleting() {
                reading.deleting((place, judged), why);
                continue;
            }
            let claim = judged.claim();
            let own = (place, judged.title.as_str());
            let owner = claim.map(|claim| *owners.entry(claim).or_insert(own));
            let owner = owner.filter(|owner| owner.0 != place);
            let owner = owner.map(|(_, title)| title);
            let around = match (claim, owner) {
                (Some(claim), None) => beside.remove(claim).unwrap_or_default(),
                _ => Beside::default(),
            };
            let served = judged.served(&self.services);
            reading.document((place, judged), served, (owner, &around), now.steady);
        }
        for (name, around) in beside {
            reading.orphans(name, &around, now.steady);
        }
        reading.warn();
        // Last: they beat everything.
        if let Some(end) = reading.listing.obey(now.store) {
            let wait = end.saturating_sub(now.store);
            reading.wake(now.steady.saturating_add(wait));
        }
        reading
    }
}

impl Reading {
    /// What there is to do about a registered backend, wherever it belongs.
    fn guest(&mut self, guest: &Guest, steady: u64) {
        self.guests += 1;
        let name = || (guest.cluster.clone(), guest.id.clone());
        if let Some(fault) = guest.fault {
            self.faults.insert(name(), fault);
        }
        if guest.is_alive(steady) {
            if let Some(due) = guest.due() {
                self.wake(due);
            }
        } else if let Some(heartbeat) = guest.is_gone(steady) {
            let (cluster, id) = name();
            let heartbeat = heartbeat.to_vec();
            self.gone.push(Silent {
                cluster,
                id,
                heartbeat,
            });
        }
    }

    /// A document that was deleted has no name: another one may take it.
    fn deleting(&mut self, (place, judged): (&str, &Judged), why: &str) {
        let name = judged.claim();
        let path = name.map_or_else(|| place.to_owned(), |name| format!("clusters.{name}"));
        let mut report = Report::unserved(place, name);
        report.verdict = Verdict::Deleting;
        report.object.clone_from(&judged.object);
        self.close(report, vec![(path.clone(), error(&path, why))]);
    }

    fn document(
        &mut self,
        (place, judged): (&str, &Judged),
        served: Served<'_>,
        (owner, beside): (Option<&str>, &Beside<'_>),
        steady: u64,
    ) {
        let name = judged.claim();
        let path = name.map_or_else(|| place.to_owned(), |name| format!("clusters.{name}"));
        let own = judged.known.error.clone();
        let mut errors: Errors = own.map(|own| (path.clone(), own)).into_iter().collect();
        let mut report = Report::unserved(place, name);
        report.object.clone_from(&judged.object);
        if let (Some(name), None) = (name, owner) {
            let etag = judged.etag.clone();
            self.listing.etags.insert(name.to_owned(), etag);
            let present = self.beside(name, beside, &mut errors, steady);
            let warnings = beside.guests.iter().filter_map(|guest| guest.warning());
            report.warning = joined_texts(warnings);
            self.overrides(name, &judged.overrides, &mut errors);
            self.cluster(&path, (served, present), &mut report, &mut errors);
        } else if let Some(owner) = owner {
            let why = format!("must be unique, but {owner} has it");
            errors.push((path.clone(), error(&path, why)));
        }
        report.verdict = match (owner, errors.is_empty()) {
            (Some(_), _) => Verdict::NameTaken,
            (None, true) => Verdict::Accepted,
            (None, false) => Verdict::Invalid,
        };
        self.close(report, errors);
    }

    /// Adds the cluster that a document and the backends beside it make.
    fn cluster(
        &mut self,
        path: &str,
        (served, mut more): (Served<'_>, Vec<&BackendConfig>),
        report: &mut Report,
        errors: &mut Errors,
    ) {
        report.refs = served.refs;
        report.missing = served.missing;
        let Some(good) = served.cluster else {
            return;
        };
        if self.listing.clusters.len() >= CLUSTERS_MAX {
            let why = format!("is beyond the {CLUSTERS_MAX} clusters that can be served");
            errors.push((path.to_owned(), error(path, why)));
            return;
        }
        let mut cluster = good.clone();
        more.extend(&served.backends);
        let (added, left) = merge(&mut cluster, more);
        if left > 0 {
            let most = cluster.backends_max();
            let why = format!("must be at most {most}, {left} of them are left out");
            let path = format!("{path}.backends");
            errors.push((path.clone(), error(&path, why)));
        }
        report.added = added;
        report.cluster = Some(cluster.name.clone());
        self.listing.clusters.push(cluster);
    }

    /// Warns of what is right in itself, but not beside the other clusters.
    fn warn(&mut self) {
        let mut warnings: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (cluster, why) in warnings::of(&self.listing.clusters) {
            warnings.entry(cluster).or_default().push(why);
        }
        for report in &mut self.reports {
            let cluster = report.cluster.as_deref();
            let texts = cluster.and_then(|cluster| warnings.remove(cluster));
            let texts = texts.into_iter().flatten();
            report.warning = joined_texts(texts.chain(report.warning.take()));
        }
    }

    /// What stands beside a document that is not there.
    fn orphans(&mut self, name: &str, beside: &Beside<'_>, steady: u64) {
        let mut errors = Errors::new();
        self.beside(name, beside, &mut errors, steady);
        if !beside.guests.is_empty() {
            let count = beside.guests.len();
            let why = format!("{count} backends registered, but no document");
            let path = format!("clusters.{name}");
            errors.insert(0, (path.clone(), error(&path, why)));
        }
        if errors.is_empty() {
            // Only overrides of a cluster that is not there: nothing to say of it.
            return;
        }
        self.close(Report::unserved(name, Some(name)), errors);
    }

    /// Takes what stands beside a document: the registered backends that are alive.
    fn beside<'a>(
        &mut self,
        name: &str,
        beside: &Beside<'a>,
        errors: &mut Errors,
        steady: u64,
    ) -> Vec<&'a BackendConfig> {
        let mut present = Vec::with_capacity(beside.guests.len());
        for guest in &beside.guests {
            let path = || format!("clusters.{name}.backends[{}]", guest.id);
            errors.extend(guest.known.error.clone().map(|error| (path(), error)));
            if guest.is_alive(steady) {
                present.extend(&guest.known.good);
            }
        }
        if let Some(set) = beside.overrides {
            self.overrides(name, set, errors);
        }
        present
    }

    fn overrides(&mut self, name: &str, set: &OverrideSet, errors: &mut Errors) {
        errors.extend(set.errors(name));
        set.read(name, &mut self.listing.overrides);
    }

    fn close(&mut self, mut report: Report, errors: Errors) {
        report.error = joined(errors.iter().map(|(_, error)| error));
        for (path, errors) in errors {
            self.reject(&path, errors);
        }
        self.reports.push(report);
    }

    fn reject(&mut self, place: &str, errors: ConfigErrors) {
        self.listing.rejected.push(BadRecord {
            place: place.to_owned(),
            errors,
        });
    }

    fn wake(&mut self, at: u64) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }
}
