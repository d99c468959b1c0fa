//! The running stages and their common end.

use std::future::Future;
use std::time::Duration;

use anyhow::{anyhow, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::info;

/// What asks the process to end.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From now on a signal ends nothing by itself.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next one.
    pub async fn recv(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Every stage in one set, and one end for all of them.
pub struct Stages {
    running: JoinSet<(&'static str, anyhow::Result<()>)>,
    stop: CancellationToken,
}

impl Stages {
    /// No stage runs yet; `stop` is what each of them waits for.
    pub fn new(stop: CancellationToken) -> Self {
        Stages {
            running: JoinSet::new(),
            stop,
        }
    }

    /// What tells every stage to end.
    pub fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Starts a stage. It ends when it is told to, and not before.
    pub fn start<F>(&mut self, name: &'static str, stage: F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        self.running.spawn(async move { (name, stage.await) });
    }

    /// Waits for a signal or the first stage to end, then stops the rest within `grace`.
    pub async fn run(mut self, mut signals: Signals, grace: Duration) -> anyhow::Result<()> {
        let first = tokio::select! {
            () = signals.recv() => Ok(()),
            () = self.stop.cancelled() => Ok(()),
            // A stage never ends by itself: its end is everybody's.
            ended = self.running.join_next() => match ended {
                Some(Ok((name, Ok(())))) => Err(anyhow!("stage {name} ended by itself")),
                Some(Ok((name, Err(error)))) => Err(error.context(format!("stage {name} failed"))),
                Some(Err(error)) => Err(anyhow!(error).context("a stage panicked")),
                None => Err(anyhow!("there are no stages")),
            },
        };
        let ended = self.end(grace).await;
        first.and(ended)
    }

    /// Stops all of them within `grace`.
    pub async fn end(mut self, grace: Duration) -> anyhow::Result<()> {
        info!(event = "stopping", "stopping");
        self.stop.cancel();
        match timeout(grace, self.drain()).await {
            Ok(outcome) => outcome,
            Err(_) => bail!("the stages did not end within the shutdown grace"),
        }
    }

    async fn drain(&mut self) -> anyhow::Result<()> {
        let mut outcome = Ok(());
        while let Some(ended) = self.running.join_next().await {
            let failure = match ended {
                Ok((_, Ok(()))) => continue,
                Ok((name, Err(error))) => error.context(format!("stage {name} failed")),
                Err(error) => anyhow!(error).context("a stage panicked"),
            };
            outcome = Err(failure);
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs one stage beside a good one; what came of it, and whether the good one was told to end.
    async fn outcome<F>(stage: F, grace: Duration) -> (String, bool)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let stop = CancellationToken::new();
        let mut stages = Stages::new(stop.clone());
        stages.start("good", {
            let stop = stop.clone();
            async move {
                stop.cancelled().await;
                Ok(())
            }
        });
        stages.start("odd", stage);
        let outcome = stages.run(Signals::listen().unwrap(), grace).await;
        let said = outcome
            .err()
            .map_or_else(String::new, |error| format!("{error:#}"));
        (said, stop.is_cancelled())
    }

    #[tokio::test]
    async fn the_end_of_one_stage_is_everybodys() {
        let grace = Duration::from_secs(10);
        let by_itself = outcome(async { Ok(()) }, grace).await;
        assert_eq!(by_itself, ("stage odd ended by itself".to_owned(), true));
        let failed = outcome(async { bail!("no luck") }, grace).await;
        assert_eq!(failed, ("stage odd failed: no luck".to_owned(), true));
        let (said, stopped) = outcome(async { panic!("on purpose") }, grace).await;
        assert!(said.starts_with("a stage panicked") && stopped, "{said}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stage_that_does_not_end_is_left_behind_after_the_grace() {
        let stop = CancellationToken::new();
        let mut stages = Stages::new(stop.clone());
        stages.start("hung", std::future::pending());
        stop.cancel();
        let outcome = stages
            .run(Signals::listen().unwrap(), Duration::from_secs(30))
            .await;
        let said = outcome.expect_err("hung").to_string();
        assert_eq!(said, "the stages did not end within the shutdown grace");
    }

    #[tokio::test]
    async fn told_to_stop_all_is_well() {
        let stop = CancellationToken::new();
        let mut stages = Stages::new(stop.clone());
        let child = stop.clone();
        stages.start("good", async move {
            child.cancelled().await;
            Ok(())
        });
        stop.cancel();
        stages
            .run(Signals::listen().unwrap(), Duration::from_secs(10))
            .await
            .unwrap();
    }
}
