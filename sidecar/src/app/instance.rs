//! Who this process is among all sidecars of a registry: one number, drawn at its start.

use pointsman_filter::base::hash;

use crate::model::random;

/// Names one run of one sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instance(u64);

impl Instance {
    /// One that no other run has.
    pub fn draw() -> Self {
        Instance(random::draw())
    }

    /// What its verdicts' versions begin with, and what places its probes in time.
    pub fn number(self) -> u64 {
        self.0
    }

    /// How others know it: as a holder of leases, as who works on a job.
    pub fn name(self) -> String {
        format!("pointsman-{}", hash::hex(self.0))
    }
}
