//! A document that was judged: its last good version, and what it serves of it.

use pointsman_filter::config::{BackendConfig, ClusterConfig};

use super::known::Known;
use super::overrides::OverrideSet;
use crate::registry::record::{Document, Object, Wanted};
use crate::registry::services::{Resolved, Services};

/// What is known of one document.
#[derive(Debug)]
pub struct Judged {
    /// Of several with one name the lowest has it.
    pub rank: i64,
    claim: Option<String>,
    /// What people call it.
    pub title: String,
    /// What it is to the letter.
    pub etag: String,
    /// What it says.
    pub known: Known<Wanted>,
    /// The last good version that named no Service: it serves until the endpoints are read that the
    /// present one needs.
    plain: Option<ClusterConfig>,
    /// The overrides that stand with it.
    pub overrides: OverrideSet,
    /// The object that it stands in.
    pub object: Option<Object>,
}

/// What a document serves.
#[derive(Debug, Default)]
pub struct Served<'a> {
    /// The cluster as the document has it; `None`: it serves nothing.
    pub cluster: Option<&'a ClusterConfig>,
    /// The backends of its Services.
    pub backends: Vec<BackendConfig>,
    /// How many Services it names.
    pub refs: usize,
    /// What could not be found of them.
    pub missing: Vec<String>,
}

impl Judged {
    /// What is known after this reading, and whether that is news.
    pub fn update(before: Option<Judged>, rank: i64, document: Document) -> (Self, bool) {
        let object = document.object;
        let uid = |it: &Option<Object>| it.as_ref().map(|it| it.uid.clone());
        let version = |it: &Option<Object>| {
            let object = it.as_ref();
            object.map(|it| (it.generation, it.deleting.clone()))
        };
        // Another object of the same name has no part in what this one was.
        let before = before.filter(|before| uid(&before.object) == uid(&object));
        let mut news = true;
        let (known, plain, mut overrides) = match before {
            Some(before) if before.etag == document.etag => {
                let now = (rank, version(&object));
                news = (before.rank, version(&before.object)) != now;
                (before.known, before.plain, before.overrides)
            }
            Some(before) => {
                let read = (document.judge)();
                let plain = match (&read, &before.known.good) {
                    (Ok(wanted), _) if wanted.from.is_empty() => None,
                    (Ok(_), Some(good)) if good.from.is_empty() => Some(good.cluster.clone()),
                    _ => before.plain,
                };
                let (known, _) = Known::update(Some(before.known), read);
                (known, plain, before.overrides)
            }
            None => {
                let (known, _) = Known::update(None, (document.judge)());
                (known, None, OverrideSet::default())
            }
        };
        news |= overrides.update(document.overrides);
        let judged = Judged {
            rank,
            claim: document.claim,
            title: document.title,
            etag: document.etag,
            known,
            plain,
            overrides,
            object,
        };
        (judged, news)
    }

    /// The name that it has or would have.
    pub fn claim(&self) -> Option<&str> {
        let good = self.known.good.as_ref();
        let last = good.map(|good| good.cluster.name.as_str());
        match &self.known.error {
            None => last,
            Some(_) => last.or(self.claim.as_deref()),
        }
    }

    /// Why it is no document any more, although it stands there.
    pub fn deleting(&self) -> Option<&str> {
        self.object.as_ref()?.deleting.as_deref()
    }

    /// What it serves with these endpoints of Services. Without those it needs it would lose
    /// backends: it serves as before, or not yet.
    pub fn served(&self, services: &Services) -> Served<'_> {
        let Some(good) = &self.known.good else {
            return Served::default();
        };
        let same = |plain: &&ClusterConfig| plain.name == good.cluster.name;
        let (cluster, resolved) = match services.resolve(&good.from) {
            Some(resolved) => (Some(&good.cluster), resolved),
            None => (self.plain.as_ref().filter(same), Resolved::unread()),
        };
        Served {
            cluster,
            backends: resolved.backends,
            refs: good.from.len(),
            missing: resolved.missing,
        }
    }
}
