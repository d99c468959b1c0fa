//! The last configuration that was rejected; a NACK itself carries no reason.

use super::exchange::{Rejection, TEXT_MAX};
use crate::base::record;

/// The version of the record.
const VERSION: u8 = 1;

/// A configuration that was rejected, left by the VM that did for the one that posts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectionRecord(pub Rejection);

impl RejectionRecord {
    /// The record; the reason is cut to [`TEXT_MAX`] bytes.
    pub fn encode(&self) -> Vec<u8> {
        let reason = self.0.reason.as_bytes();
        let reason = reason.get(..TEXT_MAX).unwrap_or(reason);
        let fields = record::numbers(&[self.0.revision]);
        let mut record = record::create(VERSION, &fields, reason.len());
        record.extend_from_slice(reason);
        record
    }

    /// Reads a record; `None` for one of another version or too short.
    pub fn decode(record: &[u8]) -> Option<Self> {
        let (mut fields, reason) = record::open(record, VERSION)?;
        let revision = fields.u64()?;
        let mut reason = String::from_utf8_lossy(reason).into_owned();
        while reason.len() > TEXT_MAX {
            reason.pop();
        }
        Some(RejectionRecord(Rejection { revision, reason }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn the_record_reads_back_cut_to_what_a_message_may_hold() {
        let rejection = RejectionRecord(Rejection {
            revision: 7,
            reason: "é".repeat(TEXT_MAX),
        });
        let read = RejectionRecord::decode(&rejection.encode())
            .expect("a record")
            .0;
        assert!(
            read.reason.len() <= TEXT_MAX && read.reason.starts_with('é') && read.revision == 7
        );
        assert_eq!(RejectionRecord::decode(&[1, 2]), None);
    }

    #[test]
    fn what_a_newer_module_appends_is_passed_over() {
        let fields = [&record::numbers(&[7])[..], b"new"].concat();
        let record = [record::create(VERSION, &fields, 0), b"why".to_vec()].concat();
        let read = RejectionRecord::decode(&record).expect("a record").0;
        assert_eq!((read.revision, read.reason.as_str()), (7, "why"));
    }
}
