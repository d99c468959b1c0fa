//! The life of a source in a store: one session after the other, for ever. Whatever goes wrong ends
//! a session; the registry of before serves on, and the next one starts over.

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::model::event::Event;
use crate::registry::model::{Output, Reachability};

/// A source that reads its store in sessions.
pub trait Sessions {
    /// A reading of everything, and what is heard after it.
    type Session;
    /// Why a session does not begin, or ends.
    type Error;

    /// The first and the longest pause between two attempts to begin one.
    const BACKOFF: (Duration, Duration);

    /// Reads everything.
    fn begin(&mut self) -> impl Future<Output = Result<Self::Session, Self::Error>> + Send;

    /// Everything was read since this wish for it.
    fn granted(&mut self, wish: u64);

    /// Follows the changes until the session ends, which is always an error.
    fn follow(
        &mut self,
        session: Self::Session,
        output: &Output,
    ) -> impl Future<Output = Result<Infallible, Self::Error>> + Send;

    /// Where the store is, for people.
    fn place(&self) -> String;

    /// The text of an error, without secrets.
    fn why(&self, error: &Self::Error) -> String;
}

/// Keeps the output in step with the store for as long as it is polled; `first` has begun already.
pub async fn run<S: Sessions>(mut source: S, first: S::Session, output: Output) {
    let mut next = Some(first);
    let mut pause = S::BACKOFF.0;
    let mut lost = false;
    let mut reloads = output.reloads.clone();
    loop {
        // A new session reads everything: it grants what was wished until here.
        let wish = *reloads.borrow_and_update();
        let error = match next.take() {
            Some(session) => {
                if std::mem::take(&mut lost) {
                    output.events.report(Event::RegistryRestored);
                }
                let began = Instant::now();
                let Err(error) = source.follow(session, &output).await;
                // Who ends each session at once is asked less and less often.
                if began.elapsed() > S::BACKOFF.1 {
                    pause = S::BACKOFF.0;
                }
                error
            }
            None => match source.begin().await {
                Ok(session) => {
                    source.granted(wish);
                    next = Some(session);
                    continue;
                }
                Err(error) => error,
            },
        };
        let reason = source.why(&error);
        output.status.send_modify(|status| {
            status.reachability = Reachability::Down;
            status.error = Some(format!("{}: {reason}", source.place()));
            status.reloaded = wish;
        });
        if !std::mem::replace(&mut lost, true) {
            output.events.report(Event::RegistryLost { reason });
        }
        tokio::select! {
            () = sleep(pause) => pause = (pause * 2).min(S::BACKOFF.1),
            Ok(()) = reloads.changed() => {}
        }
    }
}
