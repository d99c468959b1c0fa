//! One object: its document, and the operators' overrides on its backends.

use std::collections::BTreeMap;

use pointsman_filter::config::{BACKENDS_MAX, CLUSTERS_MAX, ConfigErrors};

use super::{Reading, Report, Verdict};
use crate::model::errors::error;
use crate::model::overrides::Override;
use crate::registry::document::etag;
use crate::registry::feeds::kubernetes::object::{Document, Object};
use crate::registry::feeds::kubernetes::slices::{Resolved, Slices};
use crate::registry::model::BadRecord;
use crate::registry::records::{Known, joined, merge};

/// What is known of one object.
#[derive(Debug)]
pub struct Entry {
    /// As it was read last.
    pub object: Object,
    document: Known<Document>,
    /// The last good version that named no Service: it serves until the slices are read that the
    /// present one needs.
    plain: Option<Document>,
    overrides: BTreeMap<String, Known<Override>>,
    /// The annotation as a whole cannot be read.
    overrides_error: Option<ConfigErrors>,
}

/// What an object's reading depends on beside itself.
pub struct Surroundings<'a> {
    /// The endpoints of Services.
    pub slices: &'a Slices,
    /// Why the slices cannot be read.
    pub blind: Option<&'a str>,
    /// They are not read yet: a Service without endpoints cannot be told from one that has some.
    pub unread: bool,
    /// The older object that has its name.
    pub owner: Option<&'a str>,
}

impl Entry {
    /// What is known after this reading, and what was known `before` of the same object.
    pub fn new(object: Object, before: Option<Entry>) -> Self {
        let (document, plain, mut overrides) = match before {
            Some(before) => (Some(before.document), before.plain, before.overrides),
            None => (None, None, BTreeMap::new()),
        };
        let good = document.as_ref().and_then(|known| known.good.as_ref());
        let plain = good.filter(|good| good.from.is_empty()).cloned().or(plain);
        let (document, _) = Known::update(document, object.document());
        let mut overrides_error = None;
        match object.overrides() {
            Ok(read) => {
                let mut old = std::mem::take(&mut overrides);
                for (id, entry) in read {
                    let (known, _) = Known::update(old.remove(&id), entry);
                    overrides.insert(id, known);
                }
            }
            // Overrides that cannot be read do not take back what was set.
            Err(error) => overrides_error = Some(error),
        }
        Entry {
            object,
            plain: plain.filter(|_| names_a_service(&document)),
            document,
            overrides,
            overrides_error,
        }
    }

    /// The same of an object that differs in nothing that is judged.
    pub fn with(self, object: Object) -> Self {
        Entry { object, ..self }
    }

    /// The name that it has or would have.
    pub fn claim(&self) -> Option<&str> {
        let good = self.document.good.as_ref();
        let last = good.map(|good| good.cluster.name.as_str());
        match &self.document.error {
            None => last,
            Some(_) => last.or_else(|| self.object.claim()),
        }
    }

    /// Whether its document, or the last good one, names a Service.
    pub fn names_a_service(&self) -> bool {
        names_a_service(&self.document)
    }

    /// Adds what it makes.
    pub fn read(&self, around: &Surroundings<'_>, reading: &mut Reading) -> Report {
        let mut errors = self.errors();
        let mut report = Report {
            object: self.object.name.clone(),
            uid: self.object.uid.clone(),
            generation: self.object.generation,
            status: self.object.status.clone(),
            verdict: Verdict::Invalid,
            error: String::new(),
            refs: 0,
            missing: Vec::new(),
            cluster: None,
            from_services: 0,
        };
        let place = || match self.claim() {
            Some(name) => format!("clusters.{name}"),
            None => self.object.place(),
        };
        if around.owner.is_none()
            && let Some(name) = self.claim()
        {
            self.note(name, reading);
        }
        if let Some(owner) = around.owner {
            let why = format!("must be unique, but the older BackendCluster {owner} has it");
            errors.push(error(&format!("{}.name", place()), why));
        } else if reading.listing.clusters.len() >= CLUSTERS_MAX {
            let why = format!("is beyond the {CLUSTERS_MAX} clusters that can be served");
            errors.push(error(&place(), why));
        } else if let Some(good) = &self.document.good {
            report.refs = good.from.len();
            let left = self.serve(good, around, &mut report, reading);
            if left > 0 {
                let why = format!("must be at most {BACKENDS_MAX}, {left} of them are left out");
                errors.push(error(&format!("{}.backends", place()), why));
            }
        }
        report.verdict = match (around.owner, errors.is_empty()) {
            (Some(_), _) => Verdict::NameTaken,
            (None, true) => Verdict::Accepted,
            (None, false) => Verdict::Invalid,
        };
        report.error = joined(&errors);
        for errors in errors {
            reading.listing.rejected.push(BadRecord {
                place: place(),
                errors,
            });
        }
        report
    }

    /// Adds its cluster with the backends of its Services; how many found no room.
    fn serve(
        &self,
        good: &Document,
        around: &Surroundings<'_>,
        report: &mut Report,
        reading: &mut Reading,
    ) -> usize {
        let mut resolved = around.slices.resolve(&good.from);
        let mut served = Some(good);
        if !good.from.is_empty() {
            if around.unread {
                // Without its Services it would lose backends: it serves as before, or not yet.
                let same = |plain: &&Document| plain.cluster.name == good.cluster.name;
                served = self.plain.as_ref().filter(same);
                resolved = Resolved::default();
                resolved
                    .missing
                    .push("EndpointSlices: not read yet".to_owned());
            } else if let Some(why) = around.blind {
                resolved.missing = vec![why.to_owned()];
            }
        }
        let Resolved { backends, missing } = resolved;
        report.missing = missing;
        let Some(served) = served else {
            return 0;
        };
        let mut cluster = served.cluster.clone();
        let (merged, left) = merge(&mut cluster, backends.iter().collect());
        report.from_services = merged;
        report.cluster = Some(cluster.name.clone());
        reading.listing.clusters.push(cluster);
        left
    }

    /// What operators said and what its document is to the letter.
    fn note(&self, name: &str, reading: &mut Reading) {
        let etag = etag(self.object.text().to_string().as_bytes());
        reading.listing.etags.insert(name.to_owned(), etag);
        for (id, known) in &self.overrides {
            if let Some(entry) = &known.good {
                reading.listing.overrides.put(name, id, entry.clone());
            }
        }
    }

    /// Everything that is wrong with it.
    fn errors(&self) -> Vec<ConfigErrors> {
        let overrides = self.overrides.values().map(|known| &known.error);
        let all = [&self.document.error, &self.overrides_error].into_iter();
        all.chain(overrides).flatten().cloned().collect()
    }
}

fn names_a_service(document: &Known<Document>) -> bool {
    let good = document.good.as_ref();
    good.is_some_and(|good| !good.from.is_empty())
}
