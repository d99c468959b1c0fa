//! A host that answers oddly.

use harness::vm::function::Function;
use harness::vm::host::{Host, Interference, Values};

use super::chance::Chance;
use super::documents::CLUSTERS;
use super::records;

/// Every status of the ABI but Ok, and some that it does not have.
const ANY: [u32; 15] = [
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    8,
    9,
    10,
    11,
    12,
    13,
    0x8000_0000,
    u32::MAX,
];
/// What a call is answered with when the operator withholds it.
const INTERNAL_FAILURE: u32 = 10;

/// The statuses that a call may be answered with instead of Ok: any, but for the two calls that the
/// module leaves to the SDK, which panics on others. Envoy gives no others there:
/// - a post is a bad argument where its cluster is not known (its headers are complete), and an
///   internal failure where the cluster has no host or the operator withholds posts;
/// - the context that a post's answer is for is only unknown after its end, and with its end its
///   posts are cancelled. An operator who withholds this call must withhold posts, too.
fn statuses(function: Function) -> &'static [u32] {
    match function {
        Function::Post => &[2, INTERNAL_FAILURE],
        Function::EffectiveContext => &[],
        _ => &ANY,
    }
}

/// Comes between with its own random whims: how often, in a thousand, each kind.
pub struct Meddler {
    chance: Chance,
    statuses: usize,
    values: usize,
    records: usize,
    outruns: usize,
    clock: usize,
    withheld: Option<Function>,
}

impl Meddler {
    pub fn new(mut chance: Chance) -> Self {
        // Most sequences get far, because only some of the kinds are at work, or seldom.
        let mut share = |shares: [usize; 6]| *chance.pick(&shares);
        let statuses = share([0, 0, 0, 0, 5, 100]);
        let values = share([0, 0, 0, 20, 200, 1000]);
        let records = share([0, 0, 0, 20, 200, 1000]);
        let outruns = share([0, 0, 0, 100, 500, 1000]);
        let clock = share([0, 0, 0, 0, 20, 300]);
        let functions: Vec<Function> = Function::all().collect();
        let withheld = *chance.pick(&functions);
        let may_withhold = statuses_withheld(withheld) && chance.in_1000(100);
        Meddler {
            statuses,
            values,
            records,
            outruns,
            clock,
            withheld: may_withhold.then_some(withheld),
            chance,
        }
    }

    fn value(&mut self, path: &str) -> Option<Vec<u8>> {
        let chance = &mut self.chance;
        let value = match chance.below(8) {
            0 => return None,
            1 => Vec::new(),
            2 => chance.bytes(8),
            3 => chance.bytes(64),
            4 if chance.in_1000(50) => vec![0xff; 300_000],
            4 | 5 => chance.extreme().to_le_bytes().to_vec(),
            6 => chance.pick(&CLUSTERS).as_bytes().to_vec(),
            _ => format!("10.0.0.{}:80", 1 + chance.below(7)).into_bytes(),
        };
        Some(match path.starts_with("request.headers.") {
            true => as_header(value),
            false => value,
        })
    }

    fn header(&mut self, map: &mut Values, name: &str) {
        let value = match self.chance.below(4) {
            0 => return drop(map.remove(name)),
            1 => self.chance.bytes(40),
            2 => b"P=0; a=b, P=1; \xff\xfe; =; P".to_vec(),
            _ => self
                .chance
                .pick(&["200", "503", "5", "", "HEAD"])
                .as_bytes()
                .to_vec(),
        };
        map.insert(name.to_owned(), as_header(value));
    }
}

fn statuses_withheld(function: Function) -> bool {
    statuses(function).contains(&INTERNAL_FAILURE)
}

/// Envoy lets no header's value with these in.
fn as_header(mut value: Vec<u8>) -> Vec<u8> {
    value.retain(|byte| !matches!(byte, b'\r' | b'\n' | b'\0'));
    value
}

impl Interference for Meddler {
    fn before(&mut self, function: Function, subject: &str, host: &mut Host) -> Option<u32> {
        if self.withheld == Some(function) {
            return Some(INTERNAL_FAILURE);
        }
        let statuses = statuses(function);
        if !statuses.is_empty() && self.chance.in_1000(self.statuses) {
            return Some(*self.chance.pick(statuses));
        }
        match function {
            Function::Property if self.chance.in_1000(self.values) => match self.value(subject) {
                Some(value) => host.set_property(subject, value),
                None => drop(host.properties.remove(subject)),
            },
            Function::Header | Function::Headers if self.chance.in_1000(self.values) => {
                let (map, name) = subject.split_once(' ').unwrap_or((subject, "cookie"));
                match map {
                    "request" => self.header(&mut host.request_headers, name),
                    "response" => self.header(&mut host.response_headers, name),
                    _ => self.header(&mut host.post_headers, name),
                }
            }
            Function::Buffer if self.chance.in_1000(self.values / 8) => {
                host.configuration = self.chance.spoil(std::mem::take(&mut host.configuration));
                host.post_body = self.chance.spoil(std::mem::take(&mut host.post_body));
            }
            Function::Shared if self.chance.in_1000(self.records) => self.write(subject, host),
            Function::SetShared if self.chance.in_1000(self.outruns) => self.write(subject, host),
            Function::Time if self.chance.in_1000(self.clock) => {
                host.now_ns = match self.chance.below(4) {
                    0 => self.chance.extreme(),
                    1 => host.now_ns.saturating_sub(self.chance.draw() >> 20),
                    _ => host.now_ns.saturating_add(self.chance.draw() >> 28),
                };
            }
            _ => {}
        }
        None
    }
}

impl Meddler {
    /// As another worker does, or something that is none of ours.
    fn write(&mut self, key: &str, host: &mut Host) {
        let before = host.shared.get(key).map_or(&[][..], |(value, _)| value);
        let record = records::record(key, before, host.now_ns, &mut self.chance);
        host.write_shared(key, record);
    }
}
