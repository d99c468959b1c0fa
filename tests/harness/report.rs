//! What the closing lines of `make test` are made of: components that ran, stories that did not.

use std::env;
use std::fs::OpenOptions;
use std::io::Write;

use anyhow::{Result, ensure};

/// Names the file to append to; unset: nobody wants to know.
const VARIABLE: &str = "POINTSMAN_E2E_REPORT";
/// Names the parts, such as `kubernetes,docker`, for want of which no story may be skipped.
const REQUIRE: &str = "REQUIRE";

/// The part that an API server is.
pub const KUBERNETES: &str = "kubernetes";
/// The part that a Docker engine is.
pub const DOCKER: &str = "docker";

/// Says that stories ran on this real component, such as `Envoy 1.40.0`; saying it twice is fine.
pub fn component(name: &str) {
    append(&["component", name]);
}

/// Says that a story had to be skipped for want of a part, such as `kubernetes`, and why; the story
/// then returns. Fails where that part is required.
pub fn skipped(part: &str, story: &str, reason: &str) -> Result<()> {
    let required = env::var(REQUIRE).unwrap_or_default();
    ensure!(
        !names(&required, part),
        "{REQUIRE}={required}, and {story} would be skipped: {reason}"
    );
    append(&["skipped", story, reason]);
    Ok(())
}

fn names(required: &str, part: &str) -> bool {
    required.split([',', ' ']).any(|required| required == part)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_parts_is_read() {
        for (required, named) in [
            ("kubernetes,docker", true),
            ("docker kubernetes", true),
            ("docker", false),
            ("", false),
        ] {
            assert_eq!(names(required, KUBERNETES), named, "{required}");
        }
    }
}
