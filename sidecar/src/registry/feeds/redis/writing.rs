//! What the sidecar itself writes: statuses, counters, and an end to backends long silent.

use redis::RedisError;
use tracing::warn;

use super::RedisFeed;
use super::session::Session;
use crate::registry::model::{Output, SourceStatus};
use crate::stores::redis::node::is_refusal;

impl RedisFeed {
    /// Writes what is news about clusters, and deletes backends silent for too long.
    pub(super) async fn report(&mut self, session: &mut Session) -> Result<(), RedisError> {
        if session.refused {
            return Ok(());
        }
        let wanted = self.wanted.iter();
        let news = wanted.filter(|(name, report)| self.written.get(*name) != Some(report));
        let news: Vec<_> = news
            .map(|(name, report)| (name.clone(), report.fields()))
            .collect();
        let obsolete: Vec<String> = self.obsolete.iter().cloned().collect();
        let now = session.store_time();
        if !(news.is_empty() && obsolete.is_empty()) {
            session
                .connection
                .write_statuses(&news, &obsolete, now)
                .await?;
        }
        self.written.clone_from(&self.wanted);
        self.obsolete.clear();
        let gone = std::mem::take(&mut self.gone);
        session.connection.reap(&gone).await
    }

    /// Tells the store what was counted here, and learns what all have counted.
    pub(super) async fn count(
        &mut self,
        session: &mut Session,
        output: &Output,
    ) -> Result<(), RedisError> {
        if session.refused {
            return Ok(());
        }
        if self.count_from(session, &output.events.counts()).await? {
            let totals = self.counters.totals();
            let modify = |status: &mut SourceStatus| status.counters = totals;
            output.status.send_modify(modify);
        }
        Ok(())
    }

    /// The same with these counts; whether the store said anything new.
    pub(super) async fn count_from(
        &mut self,
        session: &mut Session,
        counted: &[(&'static str, u64)],
    ) -> Result<bool, RedisError> {
        let news = self.counters.news(counted);
        match session.connection.count(&news).await {
            Ok(totals) => Ok(self.counters.told(&news, totals)),
            Err(error) => self.tolerate_refusal(session, Err(error)).map(|()| false),
        }
    }

    /// A store that answers and refuses to be written serves all the same: a user who may only
    /// read, or a replica. Anything else is the session's end.
    pub(super) fn tolerate_refusal(
        &self,
        session: &mut Session,
        written: Result<(), RedisError>,
    ) -> Result<(), RedisError> {
        let Err(error) = written else {
            return Ok(());
        };
        if !is_refusal(&error) && error.code() != Some("READONLY") {
            return Err(error);
        }
        session.refused = true;
        if !std::mem::replace(&mut session.refusal_told, true) {
            let why = self.settings.url.redact(&error.to_string());
            warn!(
                event = "registry_read_only",
                "nothing is written to Redis: {why}"
            );
        }
        Ok(())
    }
}
