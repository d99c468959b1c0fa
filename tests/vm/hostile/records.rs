//! What others leave in shared data: records of extreme numbers, foreign ones, broken ones.

use pointsman_filter::base::hash::{BackendKey, ClientKey, LoadKey, backend_key, cluster_key};
use pointsman_filter::base::keys;
use pointsman_filter::base::time::WallTime;
use pointsman_filter::cluster::averages::Average;
use pointsman_filter::cluster::clients::ClientReport;
use pointsman_filter::cluster::load::LoadReport;
use pointsman_filter::cluster::quota::Quota;
use pointsman_filter::config::RateLimit;
use pointsman_filter::fleet::exchange::Version;
use pointsman_filter::fleet::heartbeat::Heartbeat;
use pointsman_filter::fleet::identity::Identity;
use pointsman_filter::fleet::lease::Lease;
use pointsman_filter::fleet::verdicts::VerdictState;
use pointsman_filter::gates::buckets::Buckets;
use pointsman_filter::gates::{Gate, Gates};

use super::chance::Chance;
use super::documents::CLUSTERS;

/// A key that some filter reads or writes.
pub fn place(chance: &mut Chance) -> String {
    match chance.below(8) {
        0 => keys::IDENTITY.to_owned(),
        1 => keys::LEASE.to_owned(),
        2 => keys::VERDICTS.to_owned(),
        3 => keys::REJECTED.to_owned(),
        4 => keys::heartbeat(chance.below(6) as u32),
        5 => keys::told(chance.below(6) as u32),
        6 => keys::buckets(cluster_key(chance.pick(&CLUSTERS).as_bytes())),
        _ => keys::gates(cluster_key(chance.pick(&CLUSTERS).as_bytes())),
    }
}

/// A backend's key: of one that configurations have, or any.
pub fn key(chance: &mut Chance) -> BackendKey {
    if chance.in_1000(300) {
        return BackendKey(chance.extreme());
    }
    let (id, host) = (chance.below(6), 1 + chance.below(6));
    backend_key(&format!("{id}"), &format!("10.0.0.{host}:80"))
}

/// A record for a key: of its kind with extreme numbers, of another kind, or broken.
pub fn record(place: &str, before: &[u8], now_ns: u64, chance: &mut Chance) -> Vec<u8> {
    let record = match chance.below(10) {
        0 => return chance.bytes(60),
        1 => before.to_vec(),
        2 => kind(chance.below(5), now_ns, chance),
        _ => match place.as_bytes().get(2) {
            Some(b'g') => kind(0, now_ns, chance),
            Some(b'w' | b't') => kind(1, now_ns, chance),
            Some(b'e') => kind(2, now_ns, chance),
            Some(b'x') => kind(3, now_ns, chance),
            Some(b'b') => kind(4, now_ns, chance),
            _ => Identity {
                vm: chance.extreme(),
                process: chance.extreme(),
            }
            .encode(),
        },
    };
    if chance.in_1000(400) {
        return chance.spoil(record);
    }
    record
}

fn kind(kind: usize, now_ns: u64, chance: &mut Chance) -> Vec<u8> {
    match kind {
        0 => gates(now_ns, chance),
        1 => heartbeat(now_ns, chance),
        2 => Lease {
            vm: *chance.pick(&[0, 1, 2, u64::MAX]),
            until: time(now_ns, chance),
            revision: chance.below(4) as u64,
            picked_at: time(now_ns, chance),
        }
        .encode(),
        4 => buckets(now_ns, chance),
        _ => VerdictState {
            version: Version {
                epoch: chance.below(3) as u64,
                counter: chance.below(9) as u64,
                revision: chance.below(4) as u64,
            },
            at: time(now_ns, chance),
        }
        .encode(),
    }
}

fn gates(now_ns: u64, chance: &mut Chance) -> Vec<u8> {
    let mut gates = Gates::default();
    gates.fail_open = chance.in_1000(300);
    gates.all_down = chance.in_1000(300);
    for _ in 0..chance.below(12) {
        let (key, failed_at, until) = (key(chance), time(now_ns, chance), time(now_ns, chance));
        let (tries, unhealthy) = (chance.draw() as u8, chance.in_1000(500));
        let (cooled_at, cools_until) = (time(now_ns, chance), time(now_ns, chance));
        gates.update(key, |gate| {
            *gate = Gate {
                key,
                tries,
                down: chance.in_1000(500),
                ejected: chance.in_1000(500),
                on_trial: chance.in_1000(500),
                unhealthy,
                failed_at,
                until,
                unhealthy_since: failed_at,
                recovered_at: until,
                cooldowns: chance.draw() as u8,
                cooled_at,
                cools_until,
            }
        });
    }
    gates.encode()
}

/// As a module writes them: limits of any size, more of them than are kept now and then.
fn buckets(now_ns: u64, chance: &mut Chance) -> Vec<u8> {
    let count = if chance.in_1000(2) {
        4100
    } else {
        chance.below(12)
    };
    (0..count).fold(Vec::new(), |record, _| {
        let (per_second, burst) = (chance.extreme() as u32, chance.extreme() as u32);
        let limit = RateLimit { per_second, burst };
        let quota = Quota::new(LoadKey(key(chance).0), limit);
        Buckets::read(&record, time(now_ns, chance)).take(&quota)
    })
}

fn heartbeat(now_ns: u64, chance: &mut Chance) -> Vec<u8> {
    let loads = if chance.in_1000(2) {
        5000
    } else {
        chance.below(8)
    };
    Heartbeat {
        vm: *chance.pick(&[0, 1, 2, 3, u64::MAX]),
        at: time(now_ns, chance),
        revision: chance.below(4) as u64,
        process: chance.extreme(),
        picked_at: time(now_ns, chance),
        holds_leaving: chance.in_1000(500),
        loads: (0..loads).map(|_| load(chance)).collect(),
        clients: (0..chance.below(6)).map(|_| client(chance)).collect(),
    }
    .encode()
}

fn client(chance: &mut Chance) -> ClientReport {
    ClientReport {
        key: ClientKey(chance.extreme()),
        streams: chance.extreme() as u32,
    }
}

fn load(chance: &mut Chance) -> LoadReport {
    LoadReport {
        key: LoadKey(key(chance).0),
        in_flight: chance.extreme() as u32,
        estimate_ns: chance.extreme(),
        average: (chance.below(2) == 0).then(|| Average {
            latency_ns: chance.extreme(),
            penalty_ns: chance.extreme(),
            fed_at: WallTime::from_ns(chance.extreme()),
        }),
    }
}

/// About now, or never.
fn time(now_ns: u64, chance: &mut Chance) -> WallTime {
    let about_ns = chance.below(4_000_000) as u64 * 1000;
    WallTime::from_ns(match chance.below(4) {
        0 => chance.extreme(),
        1 => now_ns,
        2 => now_ns.saturating_sub(about_ns),
        _ => now_ns.saturating_add(about_ns),
    })
}
