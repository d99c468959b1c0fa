//! The life of a source in a store: one session after the other, for ever. Whatever goes wrong ends
//! a session; the registry of before serves on, and the next one starts over.

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Outlets, Store};
use crate::event::Event;

/// A source that reads its store in sessions.
pub trait Sessions {
    /// A reading of everything, and what is heard after it.
    type Session;
    /// Why a session does not begin, or ends.
    type Error;

    /// The first and the longest pause between two attempts to begin one.
    const PAUSES: (Duration, Duration);

    /// Reads everything.
    fn begin(&mut self) -> impl Future<Output = Result<Self::Session, Self::Error>> + Send;

    /// Everything was read since this wish for it.
    fn grant(&mut self, wish: u64);

    /// Follows the changes until the session ends, which is always an error.
    fn follow(
        &mut self,
        session: Self::Session,
        outlets: &Outlets,
    ) -> impl Future<Output = Result<Infallible, Self::Error>> + Send;

    /// Where the store is, for people.
    fn place(&self) -> String;

    /// The words of an error, without secrets.
    fn why(&self, error: &Self::Error) -> String;
}

/// Keeps the outlets in step with the store for as long as it is polled; `first` has begun already.
pub async fn run<S: Sessions>(mut source: S, first: S::Session, outlets: Outlets) {
    let mut next = Some(first);
    let mut pause = S::PAUSES.0;
    let mut lost = false;
    let mut reloads = outlets.reloads.clone();
    loop {
        // A new session reads everything: it grants what was wished until here.
        let wish = *reloads.borrow_and_update();
        let error = match next.take() {
            Some(session) => {
                if std::mem::take(&mut lost) {
                    outlets.event(&Event::RegistryRestored);
                }
                let began = Instant::now();
                let Err(error) = source.follow(session, &outlets).await;
                // Who ends each session at once is asked less and less often.
                if began.elapsed() > S::PAUSES.1 {
                    pause = S::PAUSES.0;
                }
                error
            }
            None => match source.begin().await {
                Ok(session) => {
                    source.grant(wish);
                    next = Some(session);
                    continue;
                }
                Err(error) => error,
            },
        };
        let reason = source.why(&error);
        outlets.status.send_modify(|status| {
            status.store = Store::Down;
            status.error = Some(format!("{}: {reason}", source.place()));
            status.reloaded = wish;
        });
        if !std::mem::replace(&mut lost, true) {
            outlets.event(&Event::RegistryLost { reason });
        }
        tokio::select! {
            () = sleep(pause) => pause = (pause * 2).min(S::PAUSES.1),
            Ok(()) = reloads.changed() => {}
        }
    }
}
