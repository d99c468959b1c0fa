//! What both roles of the module tell of a stream's attempts: each once.

mod matching;

use super::*;
use crate::config::{Code, Cooldown, Failure};
use crate::gates::evidence::Evidence;
use crate::stream::attempts::{Answer, Ending};
use crate::stream::{Step, Stream};
use crate::testing::drawing::{Drawing, NOW, SECOND};
use std::time::Duration;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const LIMITED: Status = Status {
    code: Code::http(429),
    asked_ns: None,
};

const MARK: u64 = 7;

/// A stream with the list `a b c`, each of whose attempts may take a second.
struct Scene {
    drawing: Drawing,
    stream: Stream,
    trails: Trails,
    /// Attempts that have begun.
    begun: usize,
    now: WallTime,
    told: Vec<String>,
}

impl Scene {
    fn new() -> Self {
        Self::of("a b c")
    }

    fn of(text: &str) -> Self {
        let drawing = Drawing::new(text).policy(crate::config::Policy::RoundRobin);
        let mut drawing = drawing.cooldown(Cooldown::default()).edit(|config| {
            config.retry.on = vec![
                Failure::Reset,
                Failure::GatewayError,
                Failure::Code(Code::http(429)),
            ];
            config.retry.per_try_timeout = Duration::from_secs(1);
        });
        let mut stream = Stream::default();
        let step = stream.arrive(&drawing.arrival(), &mut drawing.rng, &mut |_, _| None);
        assert!(matches!(step, Step::Forward { .. }));
        let mut trails = Trails::default();
        trails.add(MARK, stream.trail().unwrap());
        Scene {
            drawing,
            stream,
            trails,
            begun: 0,
            now: NOW,
            told: Vec::new(),
        }
    }

    fn address(&self, id: &str) -> Option<Vec<u8>> {
        let endpoint = self.drawing.cluster.endpoint(self.drawing.endpoint(id));
        endpoint.map(|endpoint| endpoint.address.as_bytes().to_vec())
    }

    /// Notes evidence and takes it in.
    fn tell(&mut self, effects: Option<Effects>) {
        for effects in effects.iter() {
            for Evidence { endpoint, what, .. } in effects.outcome.evidence() {
                let what = format!("{what:?}");
                let what = what.split('(').next().unwrap().to_lowercase();
                self.told
                    .push(format!("{} {what}", self.drawing.id(endpoint)));
            }
            if let Some(change) = effects.gate_change(self.now) {
                let (cluster, rng) = (&effects.cluster, &mut self.drawing.rng);
                change.apply(cluster, &mut self.drawing.gates, rng);
            }
        }
    }

    fn begin(&mut self) -> Attempt {
        self.begun += 1;
        let mut attempt = Attempt::begin(self.trails.any_is_timed().then_some(self.now));
        if self.trails.any_awaits() {
            attempt.look(|| self.trails.of(MARK));
            let effects = attempt.follow();
            self.tell(effects);
        }
        attempt
    }

    /// It is answered by an error, which may say something.
    fn answer(&mut self, attempt: &mut Attempt, id: &str, status: Option<Status>) {
        attempt.look(|| self.trails.of(MARK));
        let awaits = attempt.awaits_answer().is_some();
        let said = status.filter(|_| awaits).map(|status| AttemptAnswer {
            address: self.address(id),
            status,
            begun: self.begun,
        });
        let effects = attempt.respond(said);
        self.tell(effects);
    }

    fn end(&mut self, mut attempt: Attempt, id: &str, connect_failed: bool) {
        let end = AttemptEnd {
            address: self.address(id),
            connect_failed,
            begun: self.begun,
            now: attempt.has_timeout().then_some(self.now),
        };
        attempt.look(|| self.trails.of(MARK));
        let ends = attempt.matters();
        let effects = ends.then(|| attempt.end(&end, &self.trails)).flatten();
        self.tell(effects);
    }

    fn wait(&mut self, ns: u64) {
        self.now = self.now.plus(ns);
    }

    /// What the stream's own side sees at last, and everything that was told.
    fn close(&mut self, id: &str, attempts: usize, ending: Ending) -> String {
        let answer = Answer {
            address: self.address(id),
            attempts,
            ending,
            connection_time_ns: None,
            status: None,
        };
        self.trails.remove(MARK);
        let effects = match ending {
            Ending::Abandoned => self.stream.end(Some(&answer)),
            _ => self.stream.respond(&answer),
        };
        self.tell(effects);
        self.told.join(", ")
    }
}

#[test]
fn an_answer_that_is_retried_cools_its_backend_down_at_once() {
    let mut scene = Scene::new();
    let mut first = scene.begin();
    scene.answer(&mut first, "a", Some(LIMITED));
    assert_eq!(scene.told, ["a status"], "before anybody else answers");
    let a = scene.drawing.endpoint("a");
    assert!(scene.drawing.view().cools(a, scene.now));
    scene.end(first, "a", false);
    let mut second = scene.begin();
    second.pass();
    let told = scene.close("b", 2, Ending::Answered);
    scene.end(second, "b", false);
    assert_eq!(told, "a status, b served");
    assert_eq!(scene.told.len(), 2);
}

#[test]
fn the_last_answer_is_told_once_and_its_server_is_charged() {
    let mut scene = Scene::new();
    let mut first = scene.begin();
    scene.answer(&mut first, "a", Some(LIMITED));
    let told = scene.close("a", 1, Ending::Answered);
    assert_eq!(told, "a status");
    assert_eq!(scene.drawing.load("a").in_flight(), 1);
    assert_eq!(
        scene
            .drawing
            .gates
            .of(scene.drawing.key("a"))
            .unwrap()
            .cooldowns,
        1
    );
}

#[test]
fn connections_that_could_not_be_made_are_told_as_they_end() {
    let mut scene = Scene::new();
    for (id, nth) in [("a", 1), ("b", 2), ("c", 3)] {
        let attempt = scene.begin();
        scene.end(attempt, id, true);
        assert_eq!(scene.told.len(), nth);
    }
    let told = scene.close("c", 3, Ending::ConnectFailed);
    assert_eq!(told, "a connect, b connect, c connect");
}

#[test]
fn no_answer_is_evidence_once_envoy_goes_on_after_it() {
    let mut scene = Scene::new();
    let first = scene.begin();
    scene.end(first, "a", false);
    assert!(scene.told.is_empty(), "the client may have left");
    let second = scene.begin();
    assert_eq!(scene.told, ["a reset"]);
    scene.wait(SECOND - TIMER_SLACK_NS);
    scene.end(second, "b", false);
    let third = scene.begin();
    assert_eq!(scene.told, ["a reset", "b timeout"]);
    scene.wait(SECOND - TIMER_SLACK_NS - 1);
    scene.end(third, "c", false);
    let told = scene.close("c", 3, Ending::Reset);
    assert_eq!(told, "a reset, b timeout, c reset");
}

#[test]
fn envoys_own_answer_makes_evidence_of_the_last_one() {
    for (waited, ending, told) in [
        (SECOND, Ending::TimedOut, "a timeout"),
        (SECOND / 2, Ending::Reset, "a reset"),
        // The route's time was up, and this was the first.
        (SECOND / 2, Ending::TimedOut, "a timeout"),
        (SECOND, Ending::Unanswered, ""),
        (SECOND, Ending::Abandoned, ""),
    ] {
        let mut scene = Scene::new();
        let first = scene.begin();
        scene.wait(waited);
        scene.end(first, "a", false);
        assert_eq!(scene.close("a", 1, ending), told, "{ending:?}");
    }
    let mut scene = Scene::new();
    let first = scene.begin();
    scene.end(first, "a", true);
    let second = scene.begin();
    scene.wait(SECOND / 2);
    scene.end(second, "b", false);
    let told = scene.close("b", 2, Ending::TimedOut);
    assert_eq!(told, "a connect", "the route's time was up for a later one");
}

#[test]
fn a_lone_backend_that_is_tried_twice_tells_once() {
    let mut scene = Scene::of("a");
    for _ in 0..2 {
        let attempt = scene.begin();
        scene.end(attempt, "a", true);
    }
    assert_eq!(scene.told, ["a connect"]);
}

#[test]
fn an_answer_that_was_retried_ends_what_was_counted_before() {
    let mut scene = Scene::of("a:waited b c");
    let mut first = scene.begin();
    scene.answer(&mut first, "a", None);
    scene.end(first, "a", false);
    assert_eq!(scene.told, ["a served"]);
    assert!(scene.drawing.gates.of(scene.drawing.key("a")).is_none());
    let mut second = scene.begin();
    second.pass();
    assert_eq!(scene.close("b", 2, Ending::Answered), "a served, b served");
}

#[test]
fn without_the_role_upstream_the_stream_tells_what_it_sees_itself() {
    for (ending, told) in [
        (Ending::Answered, "b served"),
        (Ending::ConnectFailed, "b connect"),
        (Ending::Reset, "b reset"),
        (Ending::TimedOut, ""),
        (Ending::Unanswered, ""),
    ] {
        assert_eq!(Scene::new().close("b", 2, ending), told, "{ending:?}");
    }
}

#[test]
fn after_the_response_a_trail_holds_nothing_and_attempts_tell_nothing() {
    let mut scene = Scene::new();
    let trail = scene.trails.of(MARK).unwrap();
    let mut first = scene.begin();
    let before = Rc::strong_count(&scene.drawing.cluster);
    scene.answer(&mut first, "a", None);
    scene.close("a", 1, Ending::Answered);
    assert!(trail.cluster().is_none() && !first.matters());
    assert!(!scene.trails.any_is_timed() && scene.trails.of(MARK).is_none());
    assert!(Rc::strong_count(&scene.drawing.cluster) < before);
    let mut late = scene.begin();
    scene.answer(&mut late, "b", Some(LIMITED));
    scene.end(late, "b", true);
    assert_eq!(scene.told, ["a served"]);
}

/// Whatever Envoy does, and in whatever order it tells the two roles of it.
#[test]
fn every_attempt_is_told_at_most_once() {
    let ids = ["a", "b", "c"];
    for seed in 0..3000 {
        let mut scene = Scene::of("a:waited b c:waited");
        let mut rng = crate::base::random::SplitMix64::new(seed);
        let mut running: Vec<(usize, Attempt)> = Vec::new();
        let mut begun = 0;
        for _ in 0..12 {
            let place = rng.below(8) as usize;
            match rng.below(4) {
                0 if begun < ids.len() => {
                    let attempt = scene.begin();
                    running.push((begun, attempt));
                    begun += 1;
                }
                1 if place < running.len() => {
                    let (id, attempt) = running.swap_remove(place);
                    scene.end(attempt, ids[id], rng.below(2) == 0);
                }
                2 | 3 if place < running.len() => {
                    let (id, attempt) = &mut running[place];
                    match rng.below(3) {
                        0 => attempt.pass(),
                        1 => scene.answer(attempt, ids[*id], None),
                        _ => scene.answer(attempt, ids[*id], Some(LIMITED)),
                    }
                }
                _ => scene.wait(SECOND / 2),
            }
        }
        let endings = [
            Ending::Answered,
            Ending::ConnectFailed,
            Ending::Reset,
            Ending::TimedOut,
            Ending::Unanswered,
            Ending::Abandoned,
        ];
        let last = begun.max(1) - 1;
        let told = scene.close(ids[last], begun.max(1), endings[rng.below(6) as usize]);
        for (id, attempt) in running {
            scene.end(attempt, ids[id], true);
        }
        for id in ids {
            let times = scene.told.iter().filter(|it| it.starts_with(id)).count();
            assert!(times <= 1, "seed {seed}: {told}");
        }
    }
}

#[test]
fn rt_12_a_trail_knows_nobody_from_outside_its_list() {
    let mut scene = Scene::new();
    let mut first = scene.begin();
    first.look(|| scene.trails.of(MARK));
    let effects = first.respond(Some(AttemptAnswer {
        address: Some(b"192.0.2.1:80".to_vec()),
        status: LIMITED,
        begun: 1,
    }));
    scene.tell(effects);
    assert!(scene.told.is_empty());
}
