//! Ready once every stage that must come up first has done so.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// What the sidecar still waits for before it is ready.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    waiting: Arc<Mutex<BTreeSet<&'static str>>>,
}

/// One thing that is waited for, until this is dropped.
#[derive(Debug)]
pub struct Guard {
    readiness: Readiness,
    name: &'static str,
}

impl Readiness {
    /// Waits for one more thing.
    #[must_use = "dropped at once, it waits for nothing"]
    pub fn wait_for(&self, name: &'static str) -> Guard {
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name);
        Guard {
            readiness: self.clone(),
            name,
        }
    }

    /// What is still waited for.
    pub fn waiting(&self) -> Vec<&'static str> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.iter().copied().collect()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut waiting = self
            .readiness
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        waiting.remove(self.name);
    }
}
