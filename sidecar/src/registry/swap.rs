//! Replacing a document that others may be replacing too: look, compare, put the next one in its
//! place, and look again where somebody was faster.

use std::future::Future;

use serde_json::Value;

use super::editor::{ATTEMPTS_MAX, Document, EditError, Expect, Written};

/// What stands under a name.
pub struct Seen<T> {
    /// For the one who compares.
    pub document: Option<Document>,
    /// For the store: what tells whether it still stands there.
    pub mark: T,
}

/// What became of an attempt.
pub enum Swapped {
    /// It was made: what the document is now; absent: it is gone.
    Done(Option<String>),
    /// Something else stands there by now.
    Overtaken,
}

/// A store in which a document can be replaced if it is still the one that was seen.
pub trait Swap {
    /// What the store remembers of a document between looking at it and replacing it.
    type Mark: Send;

    /// What stands under a cluster's name.
    fn look(
        &self,
        cluster: &str,
    ) -> impl Future<Output = Result<Seen<Self::Mark>, EditError>> + Send;

    /// Puts `next` in the place of what was seen; `None` deletes it.
    fn swap(
        &self,
        cluster: &str,
        mark: Self::Mark,
        next: Option<&Value>,
    ) -> impl Future<Output = Result<Swapped, EditError>> + Send;

    /// The document that stands under a cluster's name.
    fn read(
        &self,
        cluster: &str,
    ) -> impl Future<Output = Result<Option<Document>, EditError>> + Send
    where
        Self: Sync,
    {
        async { Ok(self.look(cluster).await?.document) }
    }

    /// Writes a document over what is expected there, or deletes it.
    fn replace(
        &self,
        cluster: &str,
        next: Option<&Value>,
        expect: &Expect,
    ) -> impl Future<Output = Result<Written, EditError>> + Send
    where
        Self: Sync,
    {
        async move {
            for _ in 0..ATTEMPTS_MAX {
                let Seen {
                    document: before,
                    mark,
                } = self.look(cluster).await?;
                if !expect.admits(before.as_ref()) {
                    return Err(EditError::Unexpected(before.map(|it| it.etag)));
                }
                if let Swapped::Done(etag) = self.swap(cluster, mark, next).await? {
                    return Ok(Written { before, etag });
                }
            }
            Err(EditError::Busy)
        }
    }
}
