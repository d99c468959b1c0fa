//! Why a request goes where it goes: every backend of the cluster with its verdict.

use super::list::List;
use super::route::{Decision, Facts, PickReason, route};
use crate::base::random::SplitMix64;
use crate::base::time::WallTime;
use crate::cluster::{Backend, EndpointIndex};
use crate::config::State;
use crate::gates::standing::{Admit, Standing};

/// What a decision means for one backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The request is sent to it, for this reason.
    Chosen(PickReason),
    /// It is asked when those before it fail; its place in the list, 1 at least.
    Listed(usize),
    /// It could serve, but the policy prefers others, and the list is full.
    Passed,
    /// It could serve, but as a backup: a primary serves.
    Backup,
    /// It could serve, but it has no weight and others have.
    WeightZero,
    /// The sidecar's verdict is against it, since then.
    Unhealthy(WallTime),
    /// It failed, and its window lasts so many nanoseconds more.
    BackingOff(u64),
    /// It has too much to do, and is left alone for so many nanoseconds more.
    CoolingDown(u64),
    /// The registry lets its streams finish, and no more.
    Draining,
    /// An operator keeps it out.
    Cordoned,
}

/// The decision on a request, with a verdict for each backend, in the registry's order. It is the
/// decision that [`route`] comes to, and nothing moves.
pub fn explain(facts: &Facts<'_>, rng: &SplitMix64) -> (Decision, Vec<Verdict>) {
    let decision = route(facts, &mut rng.clone());
    let (list, reason) = match &decision {
        Decision::Forward(plan) => (plan.list, Some(plan.reason)),
        Decision::Refuse { .. } => (List::default(), None),
    };
    let backends = facts.cluster.backends.iter();
    let verdicts = backends.map(|backend| verdict(facts, backend, &list, reason));
    (decision, verdicts.collect())
}

fn verdict(
    facts: &Facts<'_>,
    backend: &Backend,
    list: &List,
    reason: Option<PickReason>,
) -> Verdict {
    match backend.state {
        State::Draining => return Verdict::Draining,
        State::Cordoned => return Verdict::Cordoned,
        State::Normal => {}
    }
    let is_here = |entry: &EndpointIndex| *entry == backend.endpoint;
    match (list.entries().iter().position(is_here), reason) {
        (Some(0), Some(reason)) => return Verdict::Chosen(reason),
        (Some(place), _) => return Verdict::Listed(place),
        _ => {}
    }
    let Some(endpoint) = facts.cluster.endpoint(backend.endpoint) else {
        return Verdict::Passed;
    };
    let pool = facts.cluster.all.pool_of(endpoint.weight);
    let admit = reason.map_or(Admit::Ready, PickReason::admit);
    match facts.candidates(pool, admit).held_back(backend.endpoint) {
        Some(Standing::BackingOff) => {
            Verdict::BackingOff(facts.gates.wait_ns(backend.endpoint, facts.now))
        }
        Some(Standing::CoolingDown) => {
            Verdict::CoolingDown(facts.gates.wait_ns(backend.endpoint, facts.now))
        }
        Some(_) => Verdict::Unhealthy(facts.gates.unhealthy_since(backend.endpoint)),
        None if endpoint.weight == 0 => Verdict::WeightZero,
        None if endpoint.backup && reason != Some(PickReason::FailOpen) => Verdict::Backup,
        None => Verdict::Passed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Policy;
    use crate::testing::drawing::Drawing;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    /// Each backend's verdict, in words.
    fn explained(drawing: &Drawing) -> Vec<String> {
        let gates = drawing.view();
        let (_, verdicts) = explain(&drawing.facts(&gates), &drawing.rng);
        let backends = drawing.cluster.backends.iter().zip(verdicts);
        backends
            .map(|(backend, verdict)| format!("{} {verdict:?}", backend.id))
            .collect()
    }

    #[test]
    fn every_backend_has_its_verdict() {
        let drawing = Drawing::new(
            "a b c d:w0 e:unhealthy f:cooling g:draining h:cordoned i:backup j@e k:limited",
        );
        let expected = [
            "a Chosen(Primary)",
            "b Listed(1)",
            "c Passed",
            "d WeightZero",
            "e Unhealthy(WallTime(999999000000000))",
            "f BackingOff(500000000)",
            "g Draining",
            "h Cordoned",
            "i Backup",
            "j Unhealthy(WallTime(999999000000000))",
            "k CoolingDown(500000000)",
        ];
        let drawing = drawing.policy(Policy::RoundRobin).attempts(2);
        assert_eq!(explained(&drawing), expected);
    }

    #[test]
    fn a_refusal_is_explained_too() {
        let drawing = Drawing::new("a:unhealthy b:cooling").refusing();
        let expected = [
            "a Unhealthy(WallTime(999999000000000))",
            "b BackingOff(500000000)",
        ];
        assert_eq!(explained(&drawing), expected);
    }

    #[test]
    fn regimes_and_cookies_are_named() {
        let drawing = Drawing::new("a:unhealthy b:backup,unhealthy").attempts(1);
        let drawing = drawing.policy(Policy::RoundRobin);
        assert_eq!(explained(&drawing), ["a Chosen(FailOpen)", "b Passed"]);
        let drawing = Drawing::new("a b").attempts(1).cookie("b");
        assert_eq!(explained(&drawing), ["a Passed", "b Chosen(Sticky)"]);
        let drawing = Drawing::new("a:cooling b:backup").attempts(1);
        assert_eq!(explained(&drawing)[1], "b Chosen(Backup)");
    }

    #[test]
    fn explaining_moves_nothing_and_says_what_comes() {
        for policy in [Policy::RoundRobin, Policy::Random, Policy::PowerOfTwo] {
            let mut drawing = Drawing::new("a b:w50 c:w7").policy(policy);
            for _ in 0..50 {
                let explained = explained(&drawing);
                let chosen = |text: &String| text.contains("Chosen");
                let chosen = explained.iter().find(|text| chosen(text)).unwrap();
                assert_eq!(chosen.split(' ').next().unwrap(), drawing.pick());
            }
        }
    }
}
