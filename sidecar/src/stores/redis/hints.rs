//! What the server says has changed, kept until the session gets to it.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use redis::{PushInfo, PushKind, Value};
use tokio::sync::Notify;

/// More changed keys than this are "everything".
const KEYS_MAX: usize = 10_000;

/// What was heard since the last time somebody asked.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Keys that were written or are gone.
    pub keys: BTreeSet<Vec<u8>>,
    /// Anything may have changed.
    pub all: bool,
    /// The connection is closed.
    pub closed: bool,
}

/// The place where a connection puts what it hears.
#[derive(Debug, Default)]
pub struct Hints {
    heard: Mutex<Heard>,
    news: Notify,
}

impl Hints {
    /// Takes in one push of the server.
    pub fn hear(&self, push: &PushInfo) {
        {
            let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
            match push.kind {
                PushKind::Disconnection => heard.closed = true,
                PushKind::Invalidate => heard.invalidate(&push.data),
                _ => return,
            }
        }
        self.news.notify_one();
    }

    /// Waits for news and takes all there are.
    pub async fn next(&self) -> Heard {
        loop {
            let heard = {
                let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
                std::mem::take(&mut *heard)
            };
            if heard != Heard::default() {
                return heard;
            }
            self.news.notified().await;
        }
    }
}

impl Heard {
    /// A list of keys, or nothing after a flush.
    fn invalidate(&mut self, data: &[Value]) {
        for item in data {
            match item {
                Value::Array(keys) => self.keys.extend(keys.iter().filter_map(|key| match key {
                    Value::BulkString(key) => Some(key.clone()),
                    _ => None,
                })),
                _ => self.all = true,
            }
        }
        if self.all || self.keys.len() > KEYS_MAX {
            self.all = true;
            self.keys.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(kind: PushKind, data: Vec<Value>) -> PushInfo {
        PushInfo { kind, data }
    }

    fn keys(range: std::ops::Range<usize>) -> Value {
        let key = |i: usize| Value::BulkString(i.to_string().into_bytes());
        Value::Array(range.map(key).collect())
    }

    #[tokio::test]
    async fn keys_add_up_and_a_flush_or_too_many_are_everything() {
        let hints = Hints::default();
        hints.hear(&push(PushKind::Invalidate, vec![keys(0..2)]));
        hints.hear(&push(PushKind::Message, vec![keys(7..9)]));
        hints.hear(&push(PushKind::Invalidate, vec![keys(1..3)]));
        assert_eq!(hints.next().await.keys.len(), 3);
        hints.hear(&push(PushKind::Invalidate, vec![Value::Nil]));
        assert!(hints.next().await.all);
        hints.hear(&push(PushKind::Invalidate, vec![keys(0..KEYS_MAX + 1)]));
        let heard = hints.next().await;
        assert!(heard.all && heard.keys.is_empty());
        hints.hear(&push(PushKind::Disconnection, Vec::new()));
        assert!(hints.next().await.closed);
    }
}
