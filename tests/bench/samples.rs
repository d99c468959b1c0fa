//! What the comparison measured, and what it comes to.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::contender::{Case, Kind};
use crate::figures::{Spread, percentile, rounded};

/// CPU time of one round, microseconds per request.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// In Envoy.
    pub envoy: f64,
    /// In everything that picks: with ext_proc, the picker's too.
    pub all: f64,
}

/// What one case measured.
#[derive(Default)]
pub struct Samples {
    /// By start and round.
    pub rounds: BTreeMap<(usize, usize), Cost>,
    /// Of the paced load of each start.
    pub latencies_ms: Vec<Vec<f64>>,
    /// Requests without a whole 2xx.
    pub errors: u64,
    /// Why it could not be started.
    pub failure: Option<String>,
}

impl Samples {
    /// A figure of every round, summed up.
    fn spread(&self, figure: impl Fn(&(usize, usize), &Cost) -> Option<f64>) -> Value {
        let rounds = self.rounds.iter();
        let figures = rounds.filter_map(|(at, cost)| Some((at.0, figure(at, cost)?)));
        json!(over_starts(figures).map(|spread| spread.json()))
    }

    /// The latency that this share of a start's requests does not exceed: the median of the starts.
    /// The machine's stalls meet one start or another, and would be all that is left of a high
    /// percentile of all requests together.
    fn latency(&self, share: f64) -> Option<f64> {
        let starts = self.latencies_ms.iter().cloned();
        let of_start = starts.filter_map(|mut latencies| percentile(&mut latencies, share));
        Spread::of(of_start).map(|spread| rounded(spread.median))
    }

    /// Against another case, round by round.
    fn ratio_to(&self, base: Option<&Samples>) -> Value {
        self.spread(|at, cost| Some(cost.all / base?.rounds.get(at)?.all))
    }
}

/// Of figures with their start: the median of each start, and of those the spread. Rounds of one
/// start have too much in common to tell what another start would measure.
fn over_starts(figures: impl Iterator<Item = (usize, f64)>) -> Option<Spread> {
    let mut starts: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    for (start, figure) in figures {
        starts.entry(start).or_default().push(figure);
    }
    let medians = starts.into_values().filter_map(Spread::of);
    Spread::of(medians.map(|rounds| rounds.median))
}

/// The cases as in the report. Host calls and memory are counted elsewhere. Without a core of its own the
/// latencies of `ext_proc`'s picker would be those of the load beside it.
pub fn report(cases: &[(Case, Samples)], picker_has_core: bool) -> Map<String, Value> {
    let find = |name: &str| {
        let found = cases.iter().find(|(case, _)| case.name() == name);
        found.map(|(_, samples)| samples)
    };
    let entry = |(case, samples): &(Case, Samples)| {
        let noop = Case {
            kind: Kind::Noop,
            ..*case
        };
        let is_fair = case.kind != Kind::ExtProc || picker_has_core;
        let mut entry = json!({
            "usPerRequest": samples.spread(|_, cost| Some(cost.all)),
            "toNative": samples.ratio_to(find("native")),
            "toNoop": samples.ratio_to(find(&noop.name())),
            "p50Ms": samples.latency(0.5).filter(|_| is_fair),
            "p99Ms": samples.latency(0.99).filter(|_| is_fair),
            "errors": samples.errors,
            "hostCalls": null,
            "vmBytes": null,
        });
        if case.kind == Kind::ExtProc {
            entry["usPerRequestInEnvoy"] = samples.spread(|_, cost| Some(cost.envoy));
        }
        (case.name(), entry)
    };
    let measured = cases
        .iter()
        .filter(|(_, samples)| !samples.rounds.is_empty());
    measured.map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_starts_are_spread_and_not_their_rounds() {
        // Start 1 has a round that lies far out; its median does not.
        let figures = [
            (0, 1.0),
            (0, 1.2),
            (0, 1.1),
            (1, 1.3),
            (1, 9.0),
            (1, 1.3),
            (2, 1.2),
        ];
        let spread = over_starts(figures.into_iter()).unwrap();
        assert_eq!((spread.median, spread.min, spread.max), (1.2, 1.1, 1.3));
        assert!(over_starts(std::iter::empty()).is_none());
    }

    #[test]
    fn a_stall_in_one_start_is_not_the_latency() {
        let stalled = (0..100).map(|nth| if nth < 90 { 1.0 } else { 200.0 });
        let samples = Samples {
            latencies_ms: vec![vec![1.0; 100], stalled.collect(), vec![2.0; 100]],
            ..Samples::default()
        };
        assert_eq!(samples.latency(0.99), Some(2.0));
        assert_eq!(Samples::default().latency(0.99), None);
    }

    #[test]
    fn a_ratio_is_of_one_round() {
        let samples = |costs: &[f64]| {
            let rounds = costs.iter().enumerate();
            let cost = |all: f64| Cost { envoy: all, all };
            Samples {
                rounds: rounds
                    .map(|(round, all)| ((0, round), cost(*all)))
                    .collect(),
                ..Samples::default()
            }
        };
        // The second round was slow for both, and the base lacks the third.
        let ratio = samples(&[2.0, 20.0, 7.0]).ratio_to(Some(&samples(&[1.0, 10.0])));
        assert_eq!(ratio, json!({"median": 2.0, "min": 2.0, "max": 2.0}));
        assert_eq!(samples(&[2.0]).ratio_to(None), Value::Null);
    }
}
