//! What the closing lines of `make test` are made of: components that ran, stories that did not.

use std::env;
use std::fs::OpenOptions;
use std::io::Write;

/// Names the file to append to; unset: nobody wants to know.
const VARIABLE: &str = "POINTSMAN_E2E_REPORT";

/// Says that stories ran on this real component, such as `Envoy 1.40.0`; saying it twice is fine.
pub fn component(name: &str) {
    append(&["component", name]);
}

/// Says that a story had to be skipped, and why; the story then returns.
pub fn skipped(story: &str, reason: &str) {
    append(&["skipped", story, reason]);
}

fn append(fields: &[&str]) {
    let Some(file) = env::var_os(VARIABLE).filter(|file| !file.is_empty()) else {
        return;
    };
    let line = fields.join("\t").replace('\n', " ") + "\n";
    // One write of one line: tests that run at the same time do not mix theirs.
    let written = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&file)
        .and_then(|mut report| report.write_all(line.as_bytes()));
    if let Err(error) = written {
        panic!("cannot write to {VARIABLE}={}: {error}", file.display());
    }
}
