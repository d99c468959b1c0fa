//! When results become a verdict: so many in a row, and the counter of the other kind starts over.

use pointsman_filter::config::HealthCheck;

/// What the probes say of one address, and how far they are from saying otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    healthy: bool,
    passes: u32,
    failures: u32,
    /// Probes were alike so often in a row that the verdict is theirs.
    decided: bool,
}

impl Thresholds {
    /// Nothing known: healthy until probes say otherwise (HC-11).
    pub fn pristine() -> Self {
        Thresholds {
            healthy: true,
            passes: 0,
            failures: 0,
            decided: false,
        }
    }

    /// Takes over that it was unhealthy before, unless probes have decided since; whether it did.
    pub fn resume(&mut self) -> bool {
        let resumes = self.healthy && !self.decided;
        self.healthy &= !resumes;
        resumes
    }

    /// The verdict.
    pub fn healthy(&self) -> bool {
        self.healthy
    }

    /// How many results in a row were failures up to now.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Takes one result; returns whether the verdict changed, which every change does exactly once.
    pub fn take(&mut self, passed: bool, check: &HealthCheck) -> bool {
        if passed {
            self.failures = 0;
            self.passes = self.passes.saturating_add(1);
        } else {
            self.passes = 0;
            self.failures = self.failures.saturating_add(1);
        }
        let passes = self.passes >= check.healthy_threshold;
        let fails = self.failures >= check.unhealthy_threshold;
        self.decided |= passes || fails;
        let healthy = if self.healthy { !fails } else { passes };
        let changed = healthy != self.healthy;
        self.healthy = healthy;
        changed
    }

    /// Keeps the verdict and forgets the row of results: they answered another question.
    pub fn restart(&mut self) {
        self.passes = 0;
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    /// Plays results, `P` and `F`, and marks each change: `v` down, `^` up.
    fn play(results: &str) -> String {
        let check = fixture::health_check();
        let mut thresholds = Thresholds::pristine();
        let mut played = String::new();
        for result in results.chars() {
            played.push(result);
            if thresholds.take(result == 'P', &check) {
                played.push(if thresholds.healthy() { '^' } else { 'v' });
            }
        }
        played
    }

    #[test]
    fn hc_6_only_failures_in_a_row_bring_a_backend_down() {
        assert_eq!(play("FFPFFF"), "FFPFFFv");
        assert_eq!(play("FFPFFPFFP"), "FFPFFPFFP");
    }

    #[test]
    fn hc_6_only_passes_in_a_row_bring_it_back() {
        assert_eq!(play("FFFPPFPPP"), "FFFvPPFPPP^");
    }

    #[test]
    fn hc_12_a_change_is_reported_exactly_once() {
        assert_eq!(play("FFFFFFFFPPPPPP"), "FFFvFFFFFPPP^PPP");
    }

    #[test]
    fn hc_11_a_backend_starts_healthy() {
        assert!(Thresholds::pristine().healthy());
        assert_eq!(play("PPPP"), "PPPP");
    }

    #[test]
    fn what_was_before_holds_until_probes_have_decided() {
        let check = fixture::health_check();
        let resumed_after = |results: &str| {
            let mut thresholds = Thresholds::pristine();
            for result in results.chars() {
                thresholds.take(result == 'P', &check);
            }
            thresholds.resume()
        };
        assert!(["", "PP", "F", "PPF"].iter().all(|it| resumed_after(it)));
        assert!(!["PPP", "PPPF", "FFF"].iter().any(|it| resumed_after(it)));
        let mut thresholds = Thresholds::pristine();
        thresholds.take(true, &check);
        thresholds.resume();
        assert!(!thresholds.take(true, &check) && !thresholds.healthy());
        assert!(
            thresholds.take(true, &check),
            "what passed before counts too"
        );
    }

    #[test]
    fn a_restart_keeps_the_verdict_and_forgets_the_row() {
        let check = fixture::health_check();
        let mut thresholds = Thresholds::pristine();
        thresholds.take(false, &check);
        thresholds.take(false, &check);
        thresholds.restart();
        assert!(!thresholds.take(false, &check) && thresholds.healthy());
    }
}
