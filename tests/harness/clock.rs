//! Clocks that a story moves, for the processes that it gives them to: a library that is preloaded.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

const SOURCE: &str = include_str!("clock.c");

/// The clock of whoever is started with [`Clock::environment`].
#[derive(Debug)]
pub struct Clock {
    folder: TempDir,
    ahead: File,
}

impl Clock {
    /// One that is right; fails without a C compiler (`$CC`, or else `cc`).
    pub fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let source = folder.path().join("clock.c");
        fs::write(&source, SOURCE)?;
        let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
        let mut compile = Command::new(compiler);
        compile.args(["-shared", "-fPIC", "-Wall", "-Werror", "-o"]);
        let done = compile.arg(library(folder.path())).arg(source).output()?;
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        ensure!(done.status.success(), "clock.c: {said}");
        let ahead = File::create(file(folder.path()))?;
        let clock = Clock { folder, ahead };
        clock.step_to(0)?;
        clock.let_pass(Duration::ZERO)?;
        Ok(clock)
    }

    /// From now on it is so many milliseconds ahead; negative: behind.
    pub fn step_to(&self, ahead_ms: i64) -> Result<()> {
        let nanoseconds = ahead_ms.checked_mul(1_000_000);
        let nanoseconds = nanoseconds.context("some 300 years are the most")?;
        Ok(self.ahead.write_all_at(&nanoseconds.to_ne_bytes(), 0)?)
    }

    /// From now on the clock that is never set is so far ahead of when it began.
    pub fn let_pass(&self, time: Duration) -> Result<()> {
        let nanoseconds = i64::try_from(time.as_nanos()).context("some 300 years are the most")?;
        Ok(self.ahead.write_all_at(&nanoseconds.to_ne_bytes(), 8)?)
    }

    /// What a process that follows it is started with. It must end before the clock is dropped.
    pub fn environment(&self) -> [(&'static str, String); 2] {
        let text = |path: &Path| path.display().to_string();
        let folder = self.folder.path();
        [
            ("LD_PRELOAD", text(&library(folder))),
            ("CLOCK_AHEAD", text(&file(folder))),
        ]
    }
}

fn library(folder: &Path) -> PathBuf {
    folder.join("clock.so")
}

fn file(folder: &Path) -> PathBuf {
    folder.join("ahead")
}
