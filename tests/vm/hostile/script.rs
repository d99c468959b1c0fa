//! A sequence of callbacks in any order. The host keeps what the SDK relies on and Envoy guarantees:
//! no callback for a context that is not there, no context twice, every post answered at most once
//! and never after its root's end.

use std::fmt::Write;

use anyhow::{Context, Result, ensure};
use harness::vm::host::{self, Host, Post};
use harness::vm::{Program, Vm};

use super::chance::Chance;
use super::documents::{self, CLUSTERS};
use super::meddler::Meddler;
use super::records;

const STEPS_MAX: usize = 60;
const ROOTS_MAX: usize = 4;
const STREAMS_MAX: usize = 12;
/// Steps that a failure tells.
const TOLD: usize = 15;

/// How often the sequences got somewhere.
#[derive(Debug, Default)]
pub struct Reached {
    configured: u64,
    rejected: u64,
    picked: u64,
    refused: u64,
    exchanged: u64,
    events: u64,
    outrun: u64,
    read: u64,
    faults: u64,
}

impl Reached {
    pub fn add(&mut self, other: &Reached) {
        self.configured += other.configured;
        self.rejected += other.rejected;
        self.picked += other.picked;
        self.refused += other.refused;
        self.exchanged += other.exchanged;
        self.events += other.events;
        self.outrun += other.outrun;
        self.read += other.read;
        self.faults += other.faults;
    }

    pub fn least(&self) -> u64 {
        [
            self.configured,
            self.rejected,
            self.picked,
            self.refused,
            self.exchanged,
            self.events,
            self.outrun,
            self.read,
            self.faults,
        ]
        .into_iter()
        .min()
        .unwrap_or(0)
    }
}

struct Run {
    vm: Vm,
    chance: Chance,
    roots: Vec<i32>,
    streams: Vec<i32>,
    /// With the root of each.
    posts: Vec<(i32, Post)>,
    next: i32,
    told: Vec<String>,
    reached: Reached,
}

/// Runs the sequence of a seed; `aloud` prints every step.
pub fn run(program: &Program, seed: u64, aloud: bool) -> Result<Reached> {
    let mut chance = Chance::new(seed);
    let mut host = Host::default();
    host.interference = Some(Box::new(Meddler::new(Chance::new(chance.draw()))));
    let steps = 10 + chance.below(STEPS_MAX - 10);
    let mut run = Run {
        vm: program.start(host)?,
        chance,
        roots: Vec::new(),
        streams: Vec::new(),
        posts: Vec::new(),
        next: 1,
        told: Vec::new(),
        reached: Reached::default(),
    };
    for step in 0..steps {
        let done = run.step(step == 0);
        if aloud && let Some(last) = run.told.last() {
            println!("{step}: {last}");
        }
        done.with_context(|| run.story(seed))?;
        let offences = std::mem::take(&mut run.vm.host().offences);
        ensure!(offences.is_empty(), "{}: {offences:?}", run.story(seed));
    }
    Ok(run.end())
}

impl Run {
    fn step(&mut self, is_first: bool) -> Result<()> {
        if is_first {
            return self.begin_root();
        }
        match self.chance.below(100) {
            0..2 => self.begin_root(),
            2..4 => self.configure(),
            4 => self.end_root(),
            5..20 => self.tick(),
            20..28 => self.answer_post(),
            28..32 => self.write_record(),
            32..36 => self.let_pass(),
            36..58 => self.begin_stream(),
            58..68 => self.end_stream(),
            _ => self.tell_stream(),
        }
    }

    fn tell(&mut self, what: impl Into<String>) {
        self.told.push(what.into());
    }

    /// Some context of a list.
    fn any(&mut self, roots: bool) -> Option<i32> {
        let of = if roots { &self.roots } else { &self.streams };
        (!of.is_empty()).then(|| of[self.chance.below(of.len())])
    }

    fn begin_root(&mut self) -> Result<()> {
        if self.roots.len() >= ROOTS_MAX {
            return Ok(());
        }
        let root = self.next;
        self.next += 1;
        self.tell(format!("root {root} begins"));
        self.vm.create_root(root)?;
        self.roots.push(root);
        // Without one it can do nothing, which is worth trying, too.
        if self.chance.in_1000(900) {
            self.configure_root(root)?;
        }
        Ok(())
    }

    fn configure(&mut self) -> Result<()> {
        match self.any(true) {
            Some(root) => self.configure_root(root),
            None => Ok(()),
        }
    }

    fn configure_root(&mut self, root: i32) -> Result<()> {
        let configuration = documents::configuration(&mut self.chance);
        let configuration = match self.chance.in_1000(300) {
            true => documents::spoiled(configuration, &mut self.chance),
            false => configuration.to_string().into_bytes(),
        };
        let text = String::from_utf8_lossy(&configuration);
        let shown: String = text.chars().take(2000).collect();
        self.tell(format!("root {root} is configured with {shown}"));
        match self.vm.configure(root, &configuration)? {
            true => self.reached.configured += 1,
            false => self.reached.rejected += 1,
        }
        Ok(())
    }

    fn end_root(&mut self) -> Result<()> {
        let Some(root) = self.any(true) else {
            return Ok(());
        };
        self.tell(format!("root {root} ends"));
        self.roots.retain(|known| *known != root);
        // Envoy cancels what is under way.
        self.posts.retain(|(of, _)| *of != root);
        self.vm.delete(root)
    }

    fn tick(&mut self) -> Result<()> {
        let Some(root) = self.any(true) else {
            return Ok(());
        };
        self.tell(format!("root {root} ticks"));
        self.vm.tick(root)?;
        self.take_posts(root);
        Ok(())
    }

    fn take_posts(&mut self, root: i32) {
        let posts = std::mem::take(&mut self.vm.host().posts);
        self.posts
            .extend(posts.into_iter().map(|post| (root, post)));
    }

    fn answer_post(&mut self) -> Result<()> {
        if self.posts.is_empty() {
            return Ok(());
        }
        let nth = self.chance.below(self.posts.len());
        let (root, post) = self.posts.swap_remove(nth);
        let chance = &mut self.chance;
        let body = documents::answer(&post.body, chance);
        let ours = "application/vnd.pointsman.exchange+json";
        let good = [(":status", "200"), ("content-type", ours)];
        let bad = [(":status", *chance.pick(&["503", "2000", "", "200"]))];
        let headers = match chance.below(10) {
            0 => &[][..],
            1 => &bad[..],
            _ => &good[..],
        };
        self.tell(format!(
            "root {root} hears {headers:?} {}",
            String::from_utf8_lossy(&body)
        ));
        self.vm.post_answered(root, post.token, headers, &body)?;
        self.take_posts(root);
        Ok(())
    }

    fn write_record(&mut self) -> Result<()> {
        let place = records::place(&mut self.chance);
        let host = self.vm.host();
        let before = host.shared.get(&place).map(|(value, _)| value.clone());
        let before = before.unwrap_or_default();
        let record = records::record(&place, &before, host.now_ns, &mut self.chance);
        self.tell(format!("{place} becomes {record:?}"));
        self.vm.host().write_shared(&place, record);
        Ok(())
    }

    fn let_pass(&mut self) -> Result<()> {
        let most = *self.chance.pick(&[1u64 << 24, 1 << 30, 1 << 35, 1 << 42]);
        let by_ns = self.chance.draw() % most;
        let host = self.vm.host();
        host.now_ns = host.now_ns.wrapping_add(by_ns);
        self.tell(format!("{by_ns} ns pass"));
        Ok(())
    }

    fn begin_stream(&mut self) -> Result<()> {
        let (Some(root), true) = (self.any(true), self.streams.len() < STREAMS_MAX) else {
            return Ok(());
        };
        let stream = self.next;
        self.next += 1;
        self.tell(format!("stream {stream} of root {root} begins"));
        self.vm.create_stream(stream, root)?;
        self.streams.push(stream);
        if self.chance.in_1000(900) {
            self.tell_headers(stream)?;
        }
        if self.vm.host().held.contains(&stream) && self.chance.in_1000(700) {
            let is_last = self.chance.in_1000(500);
            return self.tell_body(stream, is_last);
        }
        Ok(())
    }

    fn end_stream(&mut self) -> Result<()> {
        let Some(stream) = self.any(false) else {
            return Ok(());
        };
        self.tell(format!("stream {stream} ends"));
        self.streams.retain(|known| *known != stream);
        self.vm.delete(stream)
    }

    fn tell_stream(&mut self) -> Result<()> {
        let Some(stream) = self.any(false) else {
            return Ok(());
        };
        let is_last = self.chance.in_1000(500);
        match self.chance.below(if self.vm.host().held.contains(&stream) {
            3
        } else {
            7
        }) {
            0 => self.tell_headers(stream),
            1 => self.tell_body(stream, is_last),
            2 if self.chance.in_1000(300) => {
                self.tell(format!("stream {stream}: request trailers"));
                self.vm.request_trailers(stream)?;
                Ok(())
            }
            2 => self.tell_body(stream, is_last),
            3 => {
                self.tell(format!("stream {stream}: response body, last {is_last}"));
                self.vm.response_body(stream, 1, is_last)
            }
            _ => self.tell_response(stream, is_last),
        }
    }

    fn tell_body(&mut self, stream: i32, is_last: bool) -> Result<()> {
        let body = documents::body(&mut self.chance);
        let size = *self
            .chance
            .pick(&[0, 1, i32::MAX, body.len() as i32, body.len() as i32]);
        self.tell(format!(
            "stream {stream}: request body {:?}, told as {size}, last {is_last}",
            String::from_utf8_lossy(&body)
        ));
        let host = self.vm.host();
        let was_held = host.held.contains(&stream);
        host.local_answer = None;
        host.request_body = body;
        let goes_on = self.vm.request_body(stream, size, is_last)?;
        self.reached.read += u64::from(was_held && goes_on);
        self.reached.faults += u64::from(self.vm.host().local_answer.is_some());
        Ok(())
    }

    fn tell_headers(&mut self, stream: i32) -> Result<()> {
        let clusters = [
            [CLUSTERS[0]; 4],
            [CLUSTERS[1], CLUSTERS[2], CLUSTERS[3], "?"],
        ]
        .concat();
        let cluster = *self.chance.pick(&clusters);
        let cookie = *self
            .chance
            .pick(&["", "P=0", "a=b; P=1; c", "POINTSMAN=3, P=2"]);
        let method = *self
            .chance
            .pick(&["GET", "POST", "POST", "POST", "HEAD", "x"]);
        let is_last = self.chance.in_1000(500);
        let host = self.vm.host();
        host.request_headers = host::map(&[
            (":method", method),
            ("cookie", cookie),
            ("content-type", "application/json"),
        ]);
        host.properties = host::map(&[
            ("xds.cluster_name", cluster),
            ("request.headers.cookie", cookie),
            ("xds.node.id", "edge"),
        ]);
        self.tell(format!(
            "stream {stream}: {method} {cluster} {cookie:?}, last {is_last}"
        ));
        let goes_on = self.vm.request_headers(stream, is_last)?;
        let host = self.vm.host();
        if host
            .request_headers
            .contains_key("x-gateway-destination-endpoint")
        {
            self.reached.picked += 1;
        }
        self.reached.refused += u64::from(!goes_on);
        Ok(())
    }

    fn tell_response(&mut self, stream: i32, is_last: bool) -> Result<()> {
        let chance = &mut self.chance;
        let status = *chance.pick(&["200", "503", "504", "429", "101"]);
        let host_number = 1 + chance.below(4);
        let attempts = chance.below(6) as u64;
        let flags = *chance.pick(&[0u64, 0x20, 0x40, 0x8020, u64::MAX]);
        let waited = chance.extreme();
        let host = self.vm.host();
        host.local_answer = None;
        host.response_headers = host::map(&[(":status", status)]);
        host.set_property("upstream.address", format!("10.0.0.{host_number}:80"));
        host.set_property("upstream.request_attempt_count", attempts.to_le_bytes());
        host.set_property("upstream.cx_pool_ready_duration", waited.to_le_bytes());
        host.set_property("response.flags", flags.to_le_bytes());
        self.tell(format!(
            "stream {stream}: {status} of 10.0.0.{host_number}:80 after {attempts}, flags {flags:#x}"
        ));
        self.vm.response_headers(stream, is_last)
    }

    fn end(mut self) -> Reached {
        let host = self.vm.host();
        let counted = |part: &str| -> u64 {
            let named = host.metrics.iter().filter(|(name, _)| name.contains(part));
            named.map(|(_, value)| value).sum()
        };
        self.reached.exchanged = counted("exchanges_total;r=done");
        self.reached.events = counted("pointsman_events_total");
        self.reached.outrun = counted("pointsman_state_conflicts_total");
        self.reached
    }

    fn story(&self, seed: u64) -> String {
        let mut story = format!("sequence {seed}, its last steps:");
        let first = self.told.len().saturating_sub(TOLD);
        for (nth, step) in self.told.iter().enumerate().skip(first) {
            let _ = write!(story, "\n  {nth}: {step}");
        }
        story
    }
}
