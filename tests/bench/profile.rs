//! How much is measured: everything, or what a few minutes allow.

use std::env;
use std::time::Duration;

/// The two profiles differ in how much, never in how.
#[derive(Debug, Clone)]
pub struct Profile {
    /// Only the cases that say most.
    pub quick: bool,
    /// Names of the cases that are compared, and of the other sections; none: everything.
    pub only: Vec<String>,
    /// How often the compared processes are started anew.
    pub starts: usize,
    /// Rounds of each start: short ones, because what disturbs a shared machine lasts for seconds
    /// and so meets all that stand side by side. The first has a paced load too.
    pub rounds: usize,
    /// At full speed, before it counts.
    pub warm_up: Duration,
    /// At full speed, counted.
    pub sample: Duration,
    /// How often two clusters that are compared get a new Envoy.
    pub pair_starts: usize,
    /// Pairs of turns on each.
    pub pairs: usize,
    /// At full speed, before a turn counts.
    pub pair_warm_up: Duration,
    /// At full speed, counted, of a turn: the shorter a turn is, the more alike is what meets both of a pair.
    pub pair_turn: Duration,
    /// How long a paced load lasts.
    pub paced: Duration,
    /// How often a disturbed sample is repeated.
    pub repeats_max: u32,
    /// Edits of the demo file that are followed, by the number of backends: of one cluster of all.
    pub edits: &'static [(u32, usize)],
    /// The same of one cluster of a hundred, beside others like it.
    pub parts: &'static [(u32, usize)],
    /// Updates over which Envoy's memory is followed, by the number of backends.
    pub updates: &'static [(u32, usize)],
    /// Changes in a store that are followed.
    pub changes: usize,
    /// Verdicts that are followed.
    pub verdicts: usize,
    /// Simulated proxies, clusters, and backends of each.
    pub fleets: &'static [(u32, u32, u32)],
    /// Changes that are followed to all proxies.
    pub fleet_changes: usize,
    /// Time for one figure of the core.
    pub core_sample: Duration,
}

impl Profile {
    /// `QUICK`, set to anything, means quick; `CASES=noop,lua` compares those alone, and
    /// `CASES=delivery` measures that section alone.
    pub fn from_environment() -> Self {
        let cases = env::var("CASES").unwrap_or_default();
        let cases = cases.split(',').filter(|case| !case.is_empty());
        let only = cases.map(str::to_owned).collect();
        match env::var_os("QUICK").is_some_and(|quick| !quick.is_empty()) {
            true => Profile {
                quick: true,
                only,
                starts: 3,
                rounds: 3,
                warm_up: Duration::from_millis(80),
                sample: Duration::from_millis(200),
                pair_starts: 2,
                pairs: 16,
                pair_warm_up: Duration::from_millis(8),
                pair_turn: Duration::from_millis(40),
                paced: Duration::from_millis(400),
                repeats_max: 1,
                edits: &[(1000, 8)],
                parts: &[(1000, 8)],
                updates: &[(1000, 60)],
                changes: 0,
                verdicts: 12,
                fleets: &[(100, 100, 20)],
                fleet_changes: 5,
                core_sample: Duration::from_millis(20),
            },
            false => Profile {
                quick: false,
                only,
                starts: 5,
                rounds: 3,
                warm_up: Duration::from_millis(100),
                sample: Duration::from_millis(400),
                pair_starts: 4,
                pairs: 100,
                pair_warm_up: Duration::from_millis(8),
                pair_turn: Duration::from_millis(40),
                paced: Duration::from_millis(600),
                repeats_max: 2,
                edits: &[(100, 60), (1000, 100), (10_000, 40)],
                parts: &[(1000, 100), (10_000, 100)],
                updates: &[(100, 1000), (1000, 1000), (10_000, 200)],
                changes: 100,
                verdicts: 100,
                fleets: &[
                    (1, 100, 20),
                    (100, 100, 20),
                    (1000, 100, 20),
                    (1000, 1000, 20),
                ],
                fleet_changes: 20,
                core_sample: Duration::from_millis(100),
            },
        }
    }

    /// Whether the section `pairs`, `core`, `keys`, `delivery`, `fanout` or `failover` is measured, and with the
    /// delivery what Envoy keeps of it, `memory`.
    pub fn has(&self, section: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|it| it == section)
    }

    /// As in the report.
    pub fn name(&self) -> &'static str {
        if self.quick { "quick" } else { "full" }
    }
}
