//! How many streams clients have, as one worker knows it (RL-10).
//!
//! A client is an address of a cluster, of IPv6 a network of 64 bits: whoever has one address of such a
//! network has all of them.

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use crate::base::hash::{self, ClientKey, ClusterKey, KeyMap};

/// Most clients that one worker knows of; no more are counted.
pub const CLIENTS_MAX: usize = 16_384;

/// The key of a client, by its address as Envoy spells it; `None` where that is no address of the
/// internet.
pub fn key(cluster: ClusterKey, address: &[u8]) -> Option<ClientKey> {
    let address: SocketAddr = std::str::from_utf8(address).ok()?.parse().ok()?;
    let ip = match address.ip().to_canonical() {
        IpAddr::V6(v6) => {
            let network = v6.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(network.into())
        }
        v4 => v4,
    };
    Some(ClientKey(hash::below(cluster.0, &ip.to_string())))
}

/// One client's streams.
#[derive(Debug, Default)]
pub struct ClientStreams {
    here: Cell<u32>,
    elsewhere: Cell<u32>,
    /// Of the workers that were read so far, where not all were.
    gathered: Cell<u32>,
    /// How many it may have.
    max: Cell<u32>,
}

impl ClientStreams {
    /// Whether it may have no more.
    pub fn has_no_room(&self) -> bool {
        self.here.get().saturating_add(self.elsewhere.get()) >= self.max.get()
    }
}

/// A stream that is counted for its client until it is dropped.
#[derive(Debug)]
pub struct Counted(Rc<ClientStreams>);

impl Counted {
    /// Counts one.
    pub fn one(client: &Rc<ClientStreams>) -> Self {
        client.here.set(client.here.get().saturating_add(1));
        Counted(client.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.here.set(self.0.here.get().saturating_sub(1));
    }
}

/// What one worker tells the others of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientReport {
    /// Whose.
    pub key: ClientKey,
    /// Its streams there.
    pub streams: u32,
}

/// The clients of one worker that have streams somewhere.
#[derive(Debug, Default)]
pub struct Clients {
    known: KeyMap<Rc<ClientStreams>>,
    /// Most other workers that told something at a time: one that is silent may only be busy.
    others: u32,
}

impl Clients {
    /// The streams of a client that may have so many; `None`: no more clients can be counted.
    pub fn of(&mut self, key: ClientKey, max: u32) -> Option<Rc<ClientStreams>> {
        let client = self.entry(key)?;
        client.max.set(max);
        Some(client)
    }

    fn entry(&mut self, key: ClientKey) -> Option<Rc<ClientStreams>> {
        if self.known.len() >= CLIENTS_MAX && !self.known.contains_key(&key.0) {
            return None;
        }
        Some(self.known.entry(key.0).or_default().clone())
    }

    /// How many workers there may be, this one among them. One more is counted than are known: a VM that
    /// begins with the next request has told nothing yet.
    pub fn workers(&self) -> u32 {
        self.others.saturating_add(2)
    }

    /// What the others are told: of the clients that may have too many if they have as many with each
    /// worker, at most `room` of them.
    pub fn reports(&self, room: usize) -> Vec<ClientReport> {
        let workers = self.workers();
        let near = self.known.iter().filter(|(_, client)| {
            let here = client.here.get();
            here > 0 && here >= client.max.get().div_ceil(workers)
        });
        let report = |(key, client): (&u64, &Rc<ClientStreams>)| ClientReport {
            key: ClientKey(*key),
            streams: client.here.get(),
        };
        near.map(report).take(room).collect()
    }

    /// Takes in what another worker tells; it counts once all have been read.
    pub fn gather(&mut self, reports: impl Iterator<Item = ClientReport>) {
        for report in reports {
            if let Some(client) = self.entry(report.key) {
                let gathered = client.gathered.get();
                client.gathered.set(gathered.saturating_add(report.streams));
            }
        }
    }

    /// All the `others`, so many workers, have been read: what they told replaces what they told before,
    /// and clients without streams are forgotten.
    pub fn turn_over(&mut self, others: u32) {
        self.others = self.others.max(others);
        self.known.retain(|_, client| {
            client.elsewhere.set(client.gathered.take());
            client.here.get() > 0 || client.elsewhere.get() > 0 || Rc::strong_count(client) > 1
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv6Addr;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const ORDERS: ClusterKey = ClusterKey(1);

    fn of(address: &str) -> Option<ClientKey> {
        key(ORDERS, address.as_bytes())
    }

    fn report(key: u64, streams: u32) -> ClientReport {
        let key = ClientKey(key);
        ClientReport { key, streams }
    }

    /// All the others, at once.
    fn merge(clients: &mut Clients, others: u32, told: impl Iterator<Item = ClientReport>) {
        clients.gather(told);
        clients.turn_over(others);
    }

    #[test]
    fn rl_10_a_client_is_an_address_and_of_ipv6_a_network() {
        assert_eq!(of("10.0.0.1:4000"), of("10.0.0.1:4001"));
        assert_ne!(of("10.0.0.1:4000"), of("10.0.0.2:4000"));
        assert_eq!(of("10.0.0.1:4000"), of("[::ffff:10.0.0.1]:4000"));
        assert_eq!(
            of("[2001:db8:0:7::1]:80"),
            of("[2001:db8:0:7:ffff::2]:81"),
            "one /64"
        );
        assert_ne!(of("[2001:db8:0:7::1]:80"), of("[2001:db8:0:8::1]:80"));
        assert_ne!(of("[::1]:80"), of("0.0.0.0:80"));
        assert_ne!(
            of("10.0.0.1:80"),
            key(ClusterKey(2), b"10.0.0.1:80"),
            "per cluster"
        );
        for none in ["", "/run/client.sock", "10.0.0.1", "\u{fffd}"] {
            assert_eq!(of(none), None, "{none}");
        }
        assert_eq!(key(ORDERS, &[0xff]), None);
        assert_eq!(Ipv6Addr::from_bits(0), Ipv6Addr::UNSPECIFIED);
    }

    #[test]
    fn rl_10_streams_count_until_they_end_wherever_they_are() {
        let mut clients = Clients::default();
        let client = clients.of(ClientKey(1), 3).unwrap();
        let first = Counted::one(&client);
        let second = Counted::one(&client);
        assert!(!client.has_no_room());
        merge(&mut clients, 2, [report(1, 1), report(2, 9)].into_iter());
        assert!(client.has_no_room());
        drop(first);
        assert!(!client.has_no_room());
        assert!(
            clients.of(ClientKey(2), 9).unwrap().has_no_room(),
            "all elsewhere"
        );
        drop(second);
        drop(client);
        clients.turn_over(2);
        assert_eq!(clients.known.len(), 0, "nobody has streams");
    }

    /// However a client spreads its streams: those that are not told are too few to matter.
    #[test]
    fn rl_10_only_those_are_told_that_can_matter() {
        let mut clients = Clients::default();
        let mut streams = Vec::new();
        for (key, count, max) in [(1, 1, 4), (2, 2, 4), (3, 1, 1), (4, 0, 1), (5, 2, 5)] {
            let client = clients.of(ClientKey(key), max).unwrap();
            streams.extend((0..count).map(|_| Counted::one(&client)));
        }
        let mut told = |others, room| {
            clients.turn_over(others);
            let reports = clients.reports(room);
            let mut told: Vec<u64> = reports.iter().map(|it| it.key.0).collect();
            told.sort_unstable();
            told
        };
        assert_eq!(told(0, 9), [2, 3], "alone, but for one that begins");
        assert_eq!(told(1, 9), [2, 3, 5]);
        assert_eq!(told(2, 9), [1, 2, 3, 5]);
        assert_eq!(told(0, 9), [1, 2, 3, 5], "who is silent may be busy");
        assert_eq!(told(2, 2).len(), 2);
    }

    /// One of two workers dies, and its VM begins again with the next request, seconds later.
    #[test]
    fn rl_10_a_vm_that_dies_forgets_its_own_streams_alone() {
        let key = ClientKey(1);
        let mut lives = Clients::default();
        let client = lives.of(key, 2).unwrap();
        let _held = Counted::one(&client);
        merge(&mut lives, 1, [report(1, 1)].into_iter());
        assert!(
            client.has_no_room(),
            "one here, one on the worker that dies"
        );
        lives.turn_over(0);
        assert!(!client.has_no_room(), "the dead one's is forgotten");

        let mut born = Clients::default();
        merge(&mut born, 1, lives.reports(9).into_iter());
        let there = born.of(key, 2).unwrap();
        assert!(!there.has_no_room(), "its first request");
        let _second = Counted::one(&there);
        assert!(there.has_no_room(), "its second");
        merge(&mut lives, 1, born.reports(9).into_iter());
        assert!(client.has_no_room(), "the other worker's next");
    }

    #[test]
    fn invariant_7_so_many_clients_are_counted_and_no_more() {
        let mut clients = Clients::default();
        let mut streams = Vec::new();
        for key in 0..CLIENTS_MAX as u64 {
            streams.push(Counted::one(&clients.of(ClientKey(key), 1).unwrap()));
        }
        assert!(clients.of(ClientKey(u64::MAX), 1).is_none(), "nobody new");
        assert!(clients.of(ClientKey(7), 1).unwrap().has_no_room());
        merge(&mut clients, 1, (0..9).map(|key| report(u64::MAX - key, 1)));
        assert_eq!(clients.known.len(), CLIENTS_MAX);
        streams.clear();
        clients.turn_over(1);
        assert_eq!(clients.known.len(), 0);
    }
}
