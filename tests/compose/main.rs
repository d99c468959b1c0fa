//! `make test-compose`: the images and `envoy/docker-compose.yaml`, unchanged, on a real Docker engine.
//!
//! One project for all stories, each of which builds on those before it. Prints a line for each, in
//! the words of `cargo test`. Everything that was made is taken away at the end.

mod images;
mod stories;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use harness::compose::{self, Project};
use harness::report;
use tokio::signal::unix::{SignalKind, signal};

/// The outcomes so far.
#[derive(Default)]
struct Outcomes {
    passed: u32,
    failed: u32,
}

impl Outcomes {
    /// Awaits a story; whether it came out well.
    async fn tell(&mut self, name: &str, story: impl Future<Output = Result<String>>) -> bool {
        let started = Instant::now();
        match story.await {
            Ok(words) => {
                self.passed += 1;
                println!("  {words} [{} s]", started.elapsed().as_secs());
                println!("test compose::{name} ... ok");
                true
            }
            Err(error) => {
                self.failed += 1;
                println!("  {error:#}\ntest compose::{name} ... FAILED");
                false
            }
        }
    }

    fn end(&self) -> ExitCode {
        let word = if self.failed == 0 { "ok" } else { "FAILED" };
        let (passed, failed) = (self.passed, self.failed);
        println!("test result: {word}. {passed} passed; {failed} failed; 0 ignored;");
        ExitCode::from(u8::from(self.failed > 0))
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let mut outcomes = Outcomes::default();
    if let Some(why) = compose::missing().await {
        // A story can only skip by passing; whoever sums up reads the report.
        let skipped = report::skipped(report::DOCKER, "compose", &why);
        let skipped = async { skipped.map(|()| why) };
        outcomes.tell("all", skipped).await;
        return outcomes.end();
    }
    let project = Project::new(&format!("pointsman-test-{}", std::process::id()));
    let told = tokio::select! {
        told = tell(&project, &mut outcomes) => told,
        // A cancelled CI run must take its containers along.
        () = interrupted() => Err(anyhow::anyhow!("interrupted")),
    };
    let ended = project.down().await;
    if let Err(error) = told.and(ended) {
        outcomes.failed += 1;
        println!("  {error:#}\ntest compose ... FAILED");
    }
    outcomes.end()
}

async fn tell(project: &Project, outcomes: &mut Outcomes) -> Result<()> {
    compose::versions()
        .await?
        .iter()
        .for_each(|it| report::component(it));
    // When the services do not start, none of the others can be told.
    if stories::tell_all(project, outcomes).await {
        let images = images::are_small_and_need_no_user();
        outcomes
            .tell("images_are_small_and_need_no_user", images)
            .await;
    }
    Ok(())
}

async fn interrupted() {
    let signals = [SignalKind::terminate(), SignalKind::interrupt()].map(signal);
    let [Ok(mut terminate), Ok(mut interrupt)] = signals else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
