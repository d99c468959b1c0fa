//! `pointsman validate`: are these files a good registry?

use std::path::{Path, PathBuf};

use pointsman_filter::config::ClusterConfig;

use super::documents;
use super::report::Report;
use crate::registry::{cookies, document};

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
        report.warnings = cookies::warnings(&clusters).into_values().collect();
        let shown: Vec<_> = files.iter().map(|file| shown(file)).collect();
        let (clusters, backends) = (found.documents.len(), found.backends);
        report.out = format!(
            "{}: valid, {clusters} clusters, {backends} backends\n",
            shown.join(", ")
        );
    }
    report
}

fn shown(file: &Path) -> String {
    file.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

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
