//! Who a VM is among those of its Envoy, and which process that Envoy is.

use crate::base::record;

/// The version of the record.
const VERSION: u8 = 1;

/// One VM of one Envoy process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Identity {
    /// VMs are numbered from 1 in the order in which they began; 0 is none.
    pub vm: u64,
    /// Drawn once by the first VM: tells two processes with one node id apart.
    pub process: u64,
}

impl Identity {
    /// The identity behind the last one, which `record` holds. What cannot be read gives no number
    /// to go on from, so that `drawn`, a random number, is one that nobody has.
    pub fn next(record: &[u8], drawn: u64) -> Self {
        let last = match record {
            [] => Some((0, drawn)),
            record => read(record),
        };
        let (vm, process) = last.unwrap_or((drawn, drawn));
        Identity {
            vm: vm.wrapping_add(1).max(1),
            process,
        }
    }

    /// The record.
    pub fn encode(self) -> Vec<u8> {
        record::create(VERSION, &record::numbers(&[self.vm, self.process]), 0)
    }
}

fn read(record: &[u8]) -> Option<(u64, u64)> {
    let (mut fields, _) = record::open(record, VERSION)?;
    Some((fields.u64()?, fields.u64()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn vms_are_numbered_in_one_process() {
        let first = Identity::next(&[], 77);
        let second = Identity::next(&first.encode(), 88);
        assert_eq!((first.vm, first.process), (1, 77));
        assert_eq!((second.vm, second.process), (2, 77));
        let last = Identity {
            vm: u64::MAX,
            ..first
        };
        assert_eq!(Identity::next(&last.encode(), 88).vm, 1, "0 is none");
    }

    #[test]
    fn a_record_that_cannot_be_read_gives_nobodys_number_away() {
        let mut newer = Identity::next(&[], 77).encode();
        newer[0] = VERSION + 1;
        for unreadable in [&newer[..], &newer[..5], &[VERSION]] {
            let identity = Identity::next(unreadable, 1000);
            assert_eq!((identity.vm, identity.process), (1001, 1000));
        }
    }
}
