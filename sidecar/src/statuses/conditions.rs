//! What is to be said of an object: its report, its probes and its proxies → its status.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use pointsman_filter::config::ClusterConfig;

use super::survey::survey;
use crate::fleet::Reach;
use crate::health::HealthView;
use crate::registry::feeds::crd::status::BackendClusterStatus;
use crate::registry::record::Object;
use crate::registry::records::{Report, Verdict};

/// Longest message of a condition, bytes: the limit of Kubernetes' own conditions.
const MESSAGE_MAX: usize = 32_768;

/// A condition before it has a time.
struct Finding {
    kind: &'static str,
    status: &'static str,
    reason: &'static str,
    message: String,
}

/// How far an object has come, and who says so: it knows of its own proxies only.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// Whether the workers of the proxies that report run it.
    pub reach: Reach,
    /// To which sidecar they report.
    pub by: &'a str,
}

/// The status of an object. `before` is what stands there: a condition that says what it said has
/// the time it had.
pub fn status(
    (report, object): (&Report, &Object),
    cluster: Option<&ClusterConfig>,
    seen: Seen<'_>,
    health: &HealthView,
    before: Option<&BackendClusterStatus>,
    now: Timestamp,
) -> BackendClusterStatus {
    let findings = [accepted(report), resolved(report), programmed(report, seen)];
    let conditions = findings.map(|finding| {
        let last = before.and_then(|before| {
            let mut all = before.conditions.iter();
            all.find(|it| it.type_ == finding.kind && it.status == finding.status)
        });
        let time = last.map_or(Time(now), |last| last.last_transition_time.clone());
        finding.at(object.generation, time)
    });
    let (counts, impaired) = survey(cluster, report.added, health);
    BackendClusterStatus {
        observed_generation: object.generation,
        conditions: conditions.into(),
        cluster: cluster.map(|cluster| cluster.name.clone()),
        backends: counts,
        impaired,
    }
}

fn accepted(report: &Report) -> Finding {
    let (status, reason) = match report.verdict {
        Verdict::Accepted => ("True", "Accepted"),
        Verdict::Invalid => ("False", "Invalid"),
        Verdict::NameTaken => ("False", "NameTaken"),
        Verdict::Deleting => ("False", "Deleting"),
    };
    Finding {
        kind: "Accepted",
        status,
        reason,
        message: match (&report.warning, report.error.as_str()) {
            (Some(warning), "") => warning.clone(),
            (_, error) => error.to_owned(),
        },
    }
}

fn resolved(report: &Report) -> Finding {
    let (status, reason) = match (report.refs, report.missing.is_empty()) {
        (0, _) => ("True", "NoReferences"),
        (_, true) => ("True", "Resolved"),
        (_, false) => ("False", "NotFound"),
    };
    Finding {
        kind: "ResolvedRefs",
        status,
        reason,
        message: report.missing.join("; "),
    }
}

fn programmed(report: &Report, Seen { reach, by }: Seen<'_>) -> Finding {
    let (status, reason, message) = match (&report.cluster, report.verdict, reach) {
        (None, _, _) => ("False", "NotServed", String::new()),
        (Some(_), Verdict::Invalid | Verdict::NameTaken | Verdict::Deleting, _) => {
            let why = "not all of it is served; where it is wrong, its last good version is";
            ("False", "NotAccepted", why.to_owned())
        }
        (Some(_), _, Reach::Everywhere) => {
            let what = format!("all workers of the proxies of sidecar {by} run it");
            ("True", "Programmed", what)
        }
        (Some(_), _, Reach::Behind) => {
            let why = format!("some workers of the proxies of sidecar {by} do not run it yet");
            ("False", "Pending", why)
        }
        (Some(_), _, Reach::Unknown) => {
            let why = format!("no proxy reports to sidecar {by}");
            ("Unknown", "NoProxies", why)
        }
    };
    Finding {
        kind: "Programmed",
        status,
        reason,
        message,
    }
}

impl Finding {
    fn at(self, generation: i64, time: Time) -> Condition {
        let mut message = self.message;
        message.truncate(message.floor_char_boundary(MESSAGE_MAX));
        Condition {
            type_: self.kind.to_owned(),
            status: self.status.to_owned(),
            reason: self.reason.to_owned(),
            message,
            observed_generation: Some(generation),
            last_transition_time: time,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use serde_json::json;

    use super::*;
    use crate::statuses::survey::IMPAIRED_MAX;

    fn report() -> Report {
        Report {
            place: "a".to_owned(),
            verdict: Verdict::Accepted,
            error: String::new(),
            warning: None,
            cluster: Some("a".to_owned()),
            name: Some("a".to_owned()),
            added: 0,
            refs: 0,
            missing: Vec::new(),
            object: None,
        }
    }

    /// The status of its third generation.
    fn status_of(
        report: &Report,
        cluster: Option<&ClusterConfig>,
        reach: Reach,
        before: Option<&BackendClusterStatus>,
        now: Timestamp,
    ) -> BackendClusterStatus {
        let object = Object {
            name: "a".to_owned(),
            uid: "u".to_owned(),
            generation: 3,
            deleting: None,
            status: None,
        };
        let health = HealthView::default();
        status(
            (report, &object),
            cluster,
            seen(reach),
            &health,
            before,
            now,
        )
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn seen(reach: Reach) -> Seen<'static> {
        Seen { reach, by: "pm-1" }
    }

    /// The conditions as one line.
    fn line(report: &Report, reach: Reach) -> String {
        let status = status_of(report, None, reach, None, at(1));
        let mut line = String::new();
        for it in status.conditions {
            assert_eq!(it.observed_generation, Some(3));
            write!(line, "{}={}/{} ", it.type_, it.status, it.reason).unwrap();
        }
        line
    }

    #[test]
    fn st_1_a_warning_is_told_where_nothing_is_wrong() {
        let warned = Report {
            warning: Some("shared".to_owned()),
            ..report()
        };
        let wrong = Report {
            error: "wrong".to_owned(),
            ..warned.clone()
        };
        for (report, message) in [(&warned, "shared"), (&wrong, "wrong")] {
            assert_eq!(accepted(report).message, message);
        }
    }

    #[test]
    fn every_finding_has_its_words() {
        let good = report();
        let taken = Report {
            verdict: Verdict::NameTaken,
            cluster: None,
            ..report()
        };
        let last_good = Report {
            verdict: Verdict::Invalid,
            ..report()
        };
        let blind = Report {
            refs: 1,
            missing: vec!["x".to_owned()],
            ..report()
        };
        let found = Report {
            refs: 1,
            ..report()
        };
        for (report, reach, expected) in [
            (
                &good,
                Reach::Everywhere,
                "True/Accepted True/NoReferences True/Programmed",
            ),
            (
                &good,
                Reach::Behind,
                "True/Accepted True/NoReferences False/Pending",
            ),
            (
                &good,
                Reach::Unknown,
                "True/Accepted True/NoReferences Unknown/NoProxies",
            ),
            (
                &taken,
                Reach::Behind,
                "False/NameTaken True/NoReferences False/NotServed",
            ),
            (
                &last_good,
                Reach::Everywhere,
                "False/Invalid True/NoReferences False/NotAccepted",
            ),
            (
                &blind,
                Reach::Everywhere,
                "True/Accepted False/NotFound True/Programmed",
            ),
            (
                &found,
                Reach::Everywhere,
                "True/Accepted True/Resolved True/Programmed",
            ),
        ] {
            let kinds = ["Accepted", "ResolvedRefs", "Programmed"];
            let overrides = expected.split(' ').zip(kinds);
            let expected: String = overrides
                .map(|(entry, kind)| format!("{kind}={entry} "))
                .collect();
            assert_eq!(line(report, reach), expected);
        }
    }

    #[test]
    fn programmed_names_whose_proxies_it_counts() {
        for reach in [Reach::Everywhere, Reach::Behind, Reach::Unknown] {
            let message = programmed(&report(), seen(reach)).message;
            assert!(message.contains("sidecar pm-1"), "{message}");
        }
    }

    #[test]
    fn a_condition_keeps_its_time_until_it_turns() {
        let first = status_of(&report(), None, Reach::Behind, None, at(1));
        let again = status_of(&report(), None, Reach::Behind, Some(&first), at(2));
        assert_eq!(first, again);
        let turned = status_of(&report(), None, Reach::Everywhere, Some(&first), at(3));
        let times = turned.conditions.iter();
        let times: Vec<i64> = times
            .map(|it| it.last_transition_time.0.as_second())
            .collect();
        assert_eq!(times, [1, 1, 3]);
    }

    #[test]
    fn what_is_not_as_it_should_be_is_named_but_not_without_end() {
        let backend = |i: usize| {
            let state = if i == 0 { "Normal" } else { "Draining" };
            json!({"address": format!("10.0.0.{}:80", i + 1), "state": state})
        };
        let backends: Vec<_> = (0..70).map(backend).collect();
        let document = json!({"name": "a", "backends": backends});
        let cluster = ClusterConfig::parse(&document).expect("valid");
        let said = status_of(&report(), Some(&cluster), Reach::Unknown, None, at(1));
        assert_eq!((said.backends.total, said.backends.normal), (70, 1));
        assert_eq!(said.backends.healthy, 1);
        assert_eq!(said.impaired.len(), IMPAIRED_MAX);
        assert_eq!(said.impaired[0].address, "10.0.0.2:80");
    }
}
