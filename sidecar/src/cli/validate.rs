//! `pointsman validate`: are these files a good registry?

use std::path::{Path, PathBuf};

use pointsman_filter::config::ClusterConfig;

use super::report::Report;
use super::{client, documents};
use crate::registry::{document, warnings};
use crate::trust::Trust;

/// Reads and judges the files; asks nobody.
pub fn run(files: &[PathBuf]) -> Report {
    let found = documents::read(files, document::judge);
    let mut report = Report {
        errors: found.errors,
        ..Report::default()
    };
    if report.errors.is_empty() {
        let clusters = found.documents.values();
        let clusters: Vec<_> = clusters
            .filter_map(|it| ClusterConfig::parse(it).ok())
            .collect();
        let warned = warnings::of(&clusters).into_iter();
        report.warnings = warned.map(|(_, why)| why).collect();
        match client::wait_for(Trust::read(&clusters, &Trust::default())) {
            Ok(trust) => report.warnings.extend(untrusted(&clusters, &trust)),
            Err(error) => return error,
        }
        let shown: Vec<_> = files.iter().map(|file| shown(file)).collect();
        let (clusters, backends) = (found.documents.len(), found.backends);
        report.out = format!(
            "{}: valid, {clusters} clusters, {backends} backends\n",
            shown.join(", ")
        );
    }
    report
}

/// What cannot be read here may well be there where the sidecar runs.
fn untrusted(clusters: &[ClusterConfig], trust: &Trust) -> Vec<String> {
    let why = |cluster: &ClusterConfig| {
        let error = trust.error_of(cluster)?;
        Some(format!("clusters.{}.{error}", cluster.name))
    };
    clusters.iter().filter_map(why).collect()
}

fn shown(file: &Path) -> String {
    file.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ca_file_that_is_missing_is_warned_of() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("r.yaml");
        std::fs::write(&file, "name: a\ntls: {caFile: /nowhere/ca.pem}").unwrap();
        let report = run(&[file]);
        assert!(report.errors.is_empty());
        let warning = "clusters.a.tls.caFile /nowhere/ca.pem: No such file or directory";
        assert!(
            report.warnings[0].starts_with(warning),
            "{:?}",
            report.warnings
        );
    }

    #[test]
    fn rl_5_bodies_that_no_listener_holds_by_itself_are_valid_and_warned_of() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("r.yaml");
        std::fs::write(&file, "name: a\njsonRpc: {maxBodyBytes: 2000000}").unwrap();
        let report = run(&[file]);
        assert!(report.errors.is_empty() && report.warnings.len() == 1);
    }

    #[test]
    fn st_1_clusters_that_share_a_cookie_are_valid_and_warned_of() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("r.yaml");
        let text = "name: a\nsticky: {cookie: C}\n---\nname: b\nsticky: {cookie: C}";
        std::fs::write(&file, text).unwrap();
        let report = run(&[file]);
        assert!(report.errors.is_empty() && report.out.contains("valid, 2 clusters"));
        assert_eq!(report.warnings.len(), 2, "{:?}", report.warnings);
    }
}
