//! A command's last words and its exit code.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

const DONE: u8 = 0;
const FAILED: u8 = 1;
const WRONG_USAGE: u8 = 2;
const LATE: u8 = 3;

/// What a command has to say at its end: nothing wrong, or what is.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// For stdout.
    pub out: String,
    /// For stderr, a line each; none of them makes the command a failure.
    pub warnings: Vec<String>,
    /// For stderr, a line each; any makes the command a failure.
    pub errors: Vec<String>,
    /// The failure is that time was up.
    pub late: bool,
}

impl Report {
    /// All is well.
    pub fn done(out: impl Into<String>) -> Self {
        Report {
            out: out.into(),
            ..Report::default()
        }
    }

    /// The one thing that is wrong.
    pub fn failed(error: impl ToString) -> Self {
        Report {
            errors: vec![error.to_string()],
            ..Report::default()
        }
    }

    /// Writes it and gives the exit code.
    pub fn finish(&self) -> ExitCode {
        let code = match self.errors.is_empty() {
            true => DONE,
            false if self.late => LATE,
            false => FAILED,
        };
        let lines = self.warnings.iter().chain(&self.errors);
        let errors: String = lines.map(|line| format!("{line}\n")).collect();
        write(code, &self.out, &errors)
    }
}

/// The command line, or a setting, is not right.
pub fn wrong_usage(text: &str) -> ExitCode {
    write(WRONG_USAGE, "", text)
}

/// A reader that went away is no failure.
fn write(code: u8, out: &str, errors: &str) -> ExitCode {
    let mut stdout = std::io::stdout().lock();
    let to_stdout = stdout
        .write_all(out.as_bytes())
        .and_then(|()| stdout.flush());
    let to_stderr = std::io::stderr().write_all(errors.as_bytes());
    for written in [to_stdout, to_stderr] {
        if written.is_err_and(|error| error.kind() != ErrorKind::BrokenPipe) {
            return ExitCode::from(FAILED);
        }
    }
    ExitCode::from(code)
}
