//! What the workers of one Envoy tell each other through shared data: who lives, which revision it
//! runs, how loaded it finds the endpoints; and which of them does the jobs of all.

use crate::fleet::exchange::{Refused, TEXT_MAX, Version};

/// The first byte of every record here; another one is another format.
const FORMAT: u8 = 1;
const CARD_HEAD: usize = 25;
const CARD_WORD: usize = 20;
/// Most words on one card: the loads of more endpoints are told at later ticks.
pub const WORDS_MAX: usize = 4096;
/// Most workers of one Envoy that are told apart.
pub const SLOTS_MAX: u32 = 256;
/// A worker without a heartbeat for longer has no loads, and its slot may be taken.
pub const HEARTBEAT_NS: u64 = 1_000_000_000;
/// A worker without a heartbeat for longer runs no revision. Longer than the above: one that is
/// busy for seconds still runs the old one.
pub const REVISION_NS: u64 = 5_000_000_000;
/// How long a lease holds without being renewed.
pub const LEASE_NS: u64 = 1_500_000_000;

/// What one worker publishes in its slot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Card {
    /// The worker's VM.
    pub vm: u64,
    /// When it was written, wall clock.
    pub at_ns: u64,
    /// The revision it runs.
    pub revision: u64,
    /// (load key, streams in flight, estimate in nanoseconds) of its endpoints.
    pub words: Vec<(u64, u32, u64)>,
}

impl Card {
    /// The record.
    pub fn encode(&self) -> Vec<u8> {
        let words = self.words.len().min(WORDS_MAX);
        let size = words.saturating_mul(CARD_WORD).saturating_add(CARD_HEAD);
        let mut bytes = Vec::with_capacity(size);
        bytes.push(FORMAT);
        for number in [self.vm, self.at_ns, self.revision] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for (key, in_flight, estimate_ns) in self.words.iter().take(words) {
            bytes.extend_from_slice(&key.to_le_bytes());
            bytes.extend_from_slice(&in_flight.to_le_bytes());
            bytes.extend_from_slice(&estimate_ns.to_le_bytes());
        }
        bytes
    }

    /// Reads a record; `None` for one of another format or length.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (head, words) = bytes.split_at_checked(CARD_HEAD)?;
        let (format, numbers) = head.split_first()?;
        let fits = words.len().checked_rem(CARD_WORD) == Some(0);
        if *format != FORMAT || !fits || words.len() > WORDS_MAX.saturating_mul(CARD_WORD) {
            return None;
        }
        let mut numbers = numbers.chunks_exact(8).map(read_u64);
        let (vm, at_ns, revision) = (numbers.next()?, numbers.next()?, numbers.next()?);
        let words = words
            .chunks_exact(CARD_WORD)
            .filter_map(|word| {
                let (key, rest) = word.split_first_chunk::<8>()?;
                let (in_flight, estimate) = rest.split_first_chunk::<4>()?;
                Some((
                    u64::from_le_bytes(*key),
                    u32::from_le_bytes(*in_flight),
                    read_u64(estimate),
                ))
            })
            .collect();
        Some(Card {
            vm,
            at_ns,
            revision,
            words,
        })
    }

    /// Whether its loads still count. A card from the future was written before the clock stepped
    /// back, and is as old as one from the past.
    pub fn is_live(&self, now_ns: u64) -> bool {
        now_ns.abs_diff(self.at_ns) < HEARTBEAT_NS
    }

    /// Whether its revision still counts.
    pub fn runs(&self, now_ns: u64) -> bool {
        now_ns.abs_diff(self.at_ns) < REVISION_NS
    }
}

/// Who does the jobs of all workers: one VM at a time, until its lease runs out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The owner.
    pub vm: u64,
    /// When it runs out, wall clock.
    pub until_ns: u64,
}

impl Lease {
    /// The record.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![FORMAT];
        bytes.extend_from_slice(&self.vm.to_le_bytes());
        bytes.extend_from_slice(&self.until_ns.to_le_bytes());
        bytes
    }

    /// Reads a record; `None` for one of another format or length.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let [FORMAT, numbers @ ..] = bytes else {
            return None;
        };
        let (vm, until) = numbers.split_first_chunk::<8>()?;
        let until: &[u8; 8] = until.try_into().ok()?;
        Some(Lease {
            vm: u64::from_le_bytes(*vm),
            until_ns: u64::from_le_bytes(*until),
        })
    }

    /// The lease that `vm` writes now: its own, a free one or one that ran out; `None` while
    /// another VM holds it. One that would hold for longer than a lease can was written before the
    /// clock stepped back, and is free.
    pub fn claim(held: Option<Lease>, vm: u64, now_ns: u64) -> Option<Lease> {
        let until_ns = now_ns.saturating_add(LEASE_NS);
        let free = held.is_none_or(|held| {
            held.vm == vm
                || held.until_ns <= now_ns
                || held.until_ns > until_ns.saturating_add(LEASE_NS)
        });
        free.then_some(Lease { vm, until_ns })
    }
}

/// Which verdicts stand in the gates, and when the sidecar was heard last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Heard {
    /// The verdicts' version; zero: none.
    pub version: Version,
    /// Wall clock.
    pub at_ns: u64,
}

impl Heard {
    /// The record.
    pub fn encode(&self) -> Vec<u8> {
        let Version {
            epoch,
            counter,
            revision,
        } = self.version;
        let mut bytes = vec![FORMAT];
        for number in [epoch, counter, revision, self.at_ns] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    /// Reads a record; one of another format or length is as none.
    pub fn decode(bytes: &[u8]) -> Self {
        let [FORMAT, numbers @ ..] = bytes else {
            return Heard::default();
        };
        let (numbers, rest) = numbers.as_chunks::<8>();
        let numbers = numbers.iter().map(|bytes| u64::from_le_bytes(*bytes));
        let numbers: Vec<u64> = numbers.collect();
        let ([epoch, counter, revision, at_ns], []) = (numbers.as_slice(), rest) else {
            return Heard::default();
        };
        let (epoch, counter, revision, at_ns) = (*epoch, *counter, *revision, *at_ns);
        Heard {
            version: Version {
                epoch,
                counter,
                revision,
            },
            at_ns,
        }
    }
}

/// A configuration that was refused, left by the VM that did for the one that posts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal(pub Refused);

impl Refusal {
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
        Some(Refusal(Refused {
            revision: u64::from_le_bytes(*revision),
            reason,
        }))
    }
}

fn read_u64(bytes: &[u8]) -> u64 {
    bytes
        .first_chunk::<8>()
        .map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn records_read_back_and_the_corrupt_are_ignored() {
        let card = Card {
            vm: 1,
            at_ns: 2,
            revision: 3,
            words: vec![(4, 5, 6), (7, 8, 9)],
        };
        let bytes = card.encode();
        assert_eq!(Card::decode(&bytes), Some(card));
        assert_eq!(Card::decode(&bytes[..bytes.len() - 1]), None);
        assert_eq!(Card::decode(&[]), None);
        assert_eq!(Card::decode(&[&[2], &bytes[1..]].concat()), None);
        let version = Version {
            epoch: 1,
            counter: 2,
            revision: 3,
        };
        let heard = Heard { version, at_ns: 4 };
        assert_eq!(Heard::decode(&heard.encode()), heard);
        assert_eq!(Heard::decode(&heard.encode()[..30]), Heard::default());
        let refusal = Refusal(Refused {
            revision: 7,
            reason: "é".repeat(TEXT_MAX),
        });
        let read = Refusal::decode(&refusal.encode()).expect("a record").0;
        assert!(
            read.reason.len() <= TEXT_MAX && read.reason.starts_with('é') && read.revision == 7
        );
        assert_eq!(Refusal::decode(&[1, 2]), None);
        let lease = Lease { vm: 1, until_ns: 2 };
        assert_eq!(Lease::decode(&lease.encode()), Some(lease));
        for bad in [&[][..], &[1], &[1; 16], &[1; 18], &[2; 17]] {
            assert_eq!(Lease::decode(bad), None);
        }
    }

    #[test]
    fn a_card_counts_while_its_heart_beats() {
        let now = 9 * REVISION_NS;
        let card = |at_ns| Card {
            at_ns,
            ..Card::default()
        };
        assert!(card(now).is_live(now) && card(now - HEARTBEAT_NS + 1).is_live(now));
        assert!(!card(now - HEARTBEAT_NS).is_live(now) && card(now - HEARTBEAT_NS).runs(now));
        assert!(!card(now - REVISION_NS).runs(now));
        assert!(
            card(now + 1).is_live(now),
            "another worker's reading may be a little newer"
        );
        assert!(!card(2 * now).is_live(now) && !card(2 * now).runs(now));
    }

    #[test]
    fn one_owner_at_a_time() {
        let now = 10 * LEASE_NS;
        let mine = Lease::claim(None, 1, now).expect("free");
        assert_eq!(
            mine,
            Lease {
                vm: 1,
                until_ns: now + LEASE_NS
            }
        );
        assert_eq!(
            Lease::claim(Some(mine), 2, now + LEASE_NS - 1),
            None,
            "held"
        );
        assert!(
            Lease::claim(Some(mine), 1, now + 1).is_some(),
            "renewed by its owner"
        );
        assert!(
            Lease::claim(Some(mine), 2, now + LEASE_NS).is_some(),
            "ran out"
        );
        assert!(
            Lease::claim(Some(mine), 2, now / 2).is_some(),
            "the clock stepped back"
        );
    }
}
