//! `pointsman validate`: are these files a good registry?

use std::path::{Path, PathBuf};

use super::documents;
use super::report::Report;
use crate::registry::document;

/// Reads and judges the files; asks nobody.
pub fn run(files: &[PathBuf]) -> Report {
    let found = documents::read(files, document::judge);
    let mut report = Report {
        errors: found.errors,
        ..Report::default()
    };
    if report.errors.is_empty() {
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
