//! Clusters that a proxy brings along as another sidecar has rendered them, one of an older release say:
//! Envoy replaces each with its connections, so they are renewed a few at a time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::super::snapshot::{Name, Resource, Versions};

/// Clusters renewed together, and the time until the next are: in no second more than 50.
pub const AT_A_TIME: usize = 10;
pub const EVERY: Duration = Duration::from_millis(250);

/// Those of one proxy that wait.
#[derive(Debug, Default)]
pub struct Renewals {
    waiting: BTreeSet<Name>,
    next: Option<Instant>,
}

impl Renewals {
    /// The news without those that are to wait: most of what a proxy `brought` along. After an edit of
    /// the documents meanwhile it waits as well: nobody can tell. What is edited later waits no more.
    pub fn admit(
        &mut self,
        news: Vec<(Name, Arc<Resource>)>,
        brought: Option<&Versions>,
        now: Instant,
    ) -> Vec<(Name, Arc<Resource>)> {
        let Some(brought) = brought else {
            for (name, _) in &news {
                self.waiting.remove(name);
            }
            return news;
        };
        let mut renewed = 0;
        let (at_once, waiting): (Vec<_>, Vec<_>) = news.into_iter().partition(|(name, _)| {
            renewed += usize::from(brought.contains_key(name));
            renewed <= AT_A_TIME || !brought.contains_key(name)
        });
        self.waiting = waiting.into_iter().map(|(name, _)| name).collect();
        self.next = (!self.waiting.is_empty()).then(|| now + EVERY);
        at_once
    }

    /// Those whose turn it is.
    pub fn take_due(&mut self, now: Instant) -> Vec<Name> {
        if self.next.is_none_or(|next| now < next) {
            return Vec::new();
        }
        let due = self.waiting.iter().take(AT_A_TIME).cloned();
        let due: Vec<Name> = due.collect();
        for name in &due {
            self.waiting.remove(name);
        }
        self.next = (!self.waiting.is_empty()).then(|| now + EVERY);
        due
    }

    /// When the next are due; `None`: none wait.
    pub fn next(&self) -> Option<Instant> {
        self.next
    }
}
