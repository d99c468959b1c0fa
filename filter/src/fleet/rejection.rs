//! The last configuration that was rejected; a NACK itself carries no reason.

use super::exchange::{Rejection, TEXT_MAX};

/// The first byte of the record; another one is another format.
const FORMAT: u8 = 1;

/// A configuration that was rejected, left by the VM that did for the one that posts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectionRecord(pub Rejection);

impl RejectionRecord {
    /// The record; the reason is cut to [`TEXT_MAX`] bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![FORMAT];
        bytes.extend_from_slice(&self.0.revision.to_le_bytes());
        bytes.extend(self.0.reason.bytes().take(TEXT_MAX));
        bytes
    }

    /// Reads a record; `None` for one of another format or length.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let [FORMAT, rest @ ..] = bytes else {
            return None;
        };
        let (revision, reason) = rest.split_first_chunk::<8>()?;
        let mut reason = String::from_utf8_lossy(reason).into_owned();
        while reason.len() > TEXT_MAX {
            reason.pop();
        }
        Some(RejectionRecord(Rejection {
            revision: u64::from_le_bytes(*revision),
            reason,
        }))
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
}
