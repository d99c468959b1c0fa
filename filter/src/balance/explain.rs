//! Why a request goes where it goes: every backend of the cluster with its verdict.

use std::fmt;

use super::limits::Limit;
use super::list::List;
use super::route::{Decision, Facts, PickReason, RefusalReason, Scope, route};
use super::shard;
use super::tiered::Rank;
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
    /// It could serve, but is not of the client's shard.
    OtherShard,
    /// It could serve, but it has no weight and others have.
    WeightZero,
    /// The sidecar's verdict is against it, since then.
    Unhealthy(WallTime),
    /// It failed, and its window lasts so many nanoseconds more.
    BackingOff(u64),
    /// It has too much to do, and is left alone for so many nanoseconds more.
    CoolingDown(u64),
    /// Its window is over, and another request is trying it, for so many nanoseconds more.
    OnTrial(u64),
    /// It has no room: no token, or too many requests in flight.
    Limited(Limit),
    /// The registry lets its streams finish, and no more.
    Draining,
    /// An operator keeps it out.
    Cordoned,
}

/// For people: `limited, next token in 80 ms`.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |ns: &u64| ns.div_ceil(1_000_000);
        match self {
            Verdict::Chosen(reason) => write!(f, "chosen, {}", reason.name()),
            Verdict::Listed(place) => write!(f, "listed, at place {place}"),
            Verdict::Passed => f.write_str("passed by"),
            Verdict::Backup => f.write_str("a backup, while a primary serves"),
            Verdict::OtherShard => f.write_str("of another shard"),
            Verdict::WeightZero => f.write_str("without weight, while others have some"),
            Verdict::Unhealthy(_) => f.write_str("unhealthy"),
            Verdict::BackingOff(left) => write!(f, "backing off, for {} ms", ms(left)),
            Verdict::CoolingDown(left) => write!(f, "cooling down, for {} ms", ms(left)),
            Verdict::OnTrial(left) => write!(f, "on trial, for {} ms", ms(left)),
            Verdict::Limited(Limit::Rate(wait)) => {
                write!(f, "limited, next token in {} ms", ms(wait))
            }
            Verdict::Limited(Limit::OverBurst { burst }) => {
                write!(f, "limited, never more than {burst} tokens")
            }
            Verdict::Limited(Limit::InFlight { count, max }) => {
                write!(f, "{count} of {max} in flight")
            }
            Verdict::Draining => f.write_str("draining"),
            Verdict::Cordoned => f.write_str("cordoned"),
        }
    }
}

/// The decision on a request, with a verdict for each backend, in the registry's order. It is the
/// decision that [`route`] comes to, and nothing moves.
pub fn explain(facts: &Facts<'_>, rng: &SplitMix64) -> (Decision, Vec<Verdict>) {
    let decision = route(facts, &mut rng.clone());
    let lifts_trials = matches!(&decision, Decision::Forward(plan) if plan.lifts_trials);
    let lifted = facts.gates.lifting_trials();
    let facts = &match lifts_trials {
        true => Facts {
            gates: &lifted,
            ..*facts
        },
        false => *facts,
    };
    let (list, reason, scope) = match &decision {
        Decision::Forward(plan) => (plan.list, Some(plan.reason), plan.scope),
        Decision::Refuse { reason, .. } if *reason == RefusalReason::ShardExhausted => {
            (List::default(), None, Scope::Shard)
        }
        Decision::Refuse { .. } => (List::default(), None, Scope::Cluster),
    };
    let backends = facts.cluster.backends.iter();
    let verdicts = backends.map(|backend| verdict(facts, backend, &list, (reason, scope)));
    (decision, verdicts.collect())
}

/// How each backend stands in the ranking of its cluster, in the registry's order; `None` where the
/// policy has none.
pub fn ranks(facts: &Facts<'_>) -> Vec<Option<Rank>> {
    let cluster = facts.cluster;
    let rank =
        |backend: &Backend| Rank::of(cluster, cluster.endpoint(backend.endpoint)?, facts.now);
    cluster.backends.iter().map(rank).collect()
}

fn verdict(
    facts: &Facts<'_>,
    backend: &Backend,
    list: &List,
    (reason, scope): (Option<PickReason>, Scope),
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
    let limit = facts.limit(backend.endpoint);
    match facts.candidates(pool, admit).held_back(backend.endpoint) {
        Some(Standing::BackingOff) => {
            Verdict::BackingOff(facts.gates.wait_ns(backend.endpoint, facts.now))
        }
        Some(Standing::CoolingDown) => {
            Verdict::CoolingDown(facts.gates.wait_ns(backend.endpoint, facts.now))
        }
        Some(Standing::OnTrial) => {
            Verdict::OnTrial(facts.gates.wait_ns(backend.endpoint, facts.now))
        }
        Some(_) => Verdict::Unhealthy(facts.gates.unhealthy_since(backend.endpoint)),
        None if scope == Scope::Shard
            && !endpoint.backup
            && !shard::holds(facts.cluster, facts.key, backend.endpoint) =>
        {
            Verdict::OtherShard
        }
        None if limit.is_some() => limit.map_or(Verdict::Passed, Verdict::Limited),
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
            "a b c d:w0 e:unhealthy f:cooling g:draining h:cordoned i:backup j@e k:limited l:trial",
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
            "l OnTrial(500000000)",
        ];
        let drawing = drawing.policy(Policy::RoundRobin).attempts(2);
        assert_eq!(explained(&drawing), expected);
    }

    #[test]
    fn limits_are_named() {
        let drawing = Drawing::new("a:rate5/1,spent b:max12,busy12 c d:rate5/1,spent");
        let drawing = drawing.policy(Policy::RoundRobin).attempts(2);
        let gates = drawing.view();
        let (_, verdicts) = explain(&drawing.facts(&gates), &drawing.rng);
        let words: Vec<String> = verdicts.iter().map(Verdict::to_string).collect();
        let limited = "limited, next token in 200 ms";
        assert_eq!(words[1..3], ["12 of 12 in flight", "chosen, primary"]);
        assert!(
            words.contains(&"listed, at place 1".to_owned()),
            "a token is owed: {words:?}"
        );
        assert!(words.contains(&limited.to_owned()), "{words:?}");
        let drawing = Drawing::new("a:rate4/1,spent b:max1,busy2");
        let gates = drawing.view();
        let (_, verdicts) = explain(&drawing.facts(&gates), &drawing.rng);
        let words: Vec<String> = verdicts.iter().map(Verdict::to_string).collect();
        assert_eq!(words, ["limited, next token in 250 ms", "2 of 1 in flight"]);
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
        let drawing = Drawing::new("a:trial b:trial").attempts(1);
        let drawing = drawing.policy(Policy::RoundRobin);
        assert_eq!(explained(&drawing), ["a Chosen(Primary)", "b Passed"]);
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
