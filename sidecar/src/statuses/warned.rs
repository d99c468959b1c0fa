//! What an operator is warned of: what the registry says of a record, and whom its cluster cannot trust.

use std::borrow::Cow;

use pointsman_filter::config::ClusterConfig;

use crate::registry::records::Report;
use crate::trust::Trust;

/// A report with all its warnings.
pub fn warned<'a>(
    report: &'a Report,
    cluster: Option<&ClusterConfig>,
    trust: &Trust,
) -> Cow<'a, Report> {
    let Some(why) = cluster.and_then(|cluster| trust.error_of(cluster)) else {
        return Cow::Borrowed(report);
    };
    let mut report = report.clone();
    report.warning = Some(match report.warning.take() {
        Some(warning) => format!("{warning}; {why}"),
        None => why,
    });
    Cow::Owned(report)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::registry::records::Verdict;

    #[tokio::test]
    async fn whom_a_cluster_cannot_trust_stands_behind_the_other_warnings() {
        let parse = |document| ClusterConfig::parse(&document).unwrap();
        let bad = parse(json!({"name": "a", "tls": {"caFile": "/nowhere/ca.pem"}}));
        let good = parse(json!({"name": "b", "tls": {}}));
        let trust = Trust::read(&[bad.clone(), good.clone()], &Trust::default()).await;
        let report = |warning: Option<&str>| Report {
            place: "a".to_owned(),
            verdict: Verdict::Accepted,
            error: String::new(),
            warning: warning.map(str::to_owned),
            cluster: Some("a".to_owned()),
            name: Some("a".to_owned()),
            added: 0,
            refs: 0,
            missing: Vec::new(),
            object: None,
        };
        let of = |warning, cluster| warned(&report(warning), cluster, &trust).warning.clone();
        let why = "tls.caFile /nowhere/ca.pem: No such file or directory (os error 2)";
        assert_eq!(of(None, Some(&bad)).as_deref(), Some(why));
        assert_eq!(of(Some("x"), Some(&bad)), Some(format!("x; {why}")));
        assert_eq!(of(Some("x"), Some(&good)).as_deref(), Some("x"));
        assert_eq!(of(None, None), None);
    }
}
