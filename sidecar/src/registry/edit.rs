//! A change of one document: what is to stand there before, and what after.
//!
//! Others may be changing it too: look, compare, put the next one in its place, and look again where
//! somebody was faster.

use std::future::Future;

use pointsman_filter::config::{ClusterConfig, ConfigErrors};
use serde_json::Value;

use super::document::{Judge, etag};
use crate::model::errors::error;

/// A cluster's document as it stands in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// JSON, if all is well; not judged.
    pub text: Vec<u8>,
    /// Differs from one content to another.
    pub etag: String,
}

impl Document {
    /// A document that was read.
    pub fn new(text: Vec<u8>) -> Self {
        let etag = etag(&text);
        Document { text, etag }
    }
}

/// A document that the one parser has accepted.
#[derive(Debug, Clone)]
pub struct Draft {
    value: Value,
    cluster: ClusterConfig,
}

impl Draft {
    /// Judges a document that is to be written under this name; `judge` says what the store takes.
    pub fn judge(name: &str, value: Value, judge: Judge) -> Result<Self, ConfigErrors> {
        let cluster = judge(&value)?;
        if cluster.name != name {
            let why = format!("must be {name:?}, as the address says");
            return Err(error(&format!("clusters.{name}.name"), why));
        }
        Ok(Draft { value, cluster })
    }

    /// What it says.
    pub fn cluster(&self) -> &ClusterConfig {
        &self.cluster
    }

    /// The document itself.
    pub fn value(&self) -> &Value {
        &self.value
    }
}

/// What must stand there for a write to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expect {
    /// Whatever does.
    Anything,
    /// Nothing.
    Absent,
    /// Something.
    Present,
    /// A document with one of these etags.
    OneOf(Vec<String>),
    /// A document with none of these etags, or nothing.
    NoneOf(Vec<String>),
}

impl Expect {
    /// Whether it is so.
    pub fn admits(&self, held: Option<&Document>) -> bool {
        match self {
            Expect::Anything => true,
            Expect::Absent => held.is_none(),
            Expect::Present => held.is_some(),
            Expect::OneOf(etags) => held.is_some_and(|held| etags.contains(&held.etag)),
            Expect::NoneOf(etags) => held.is_none_or(|held| !etags.contains(&held.etag)),
        }
    }
}

/// What a write did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// What stood there before.
    pub before: Option<Document>,
    /// What the document is now; absent: it is gone.
    pub etag: Option<String>,
}

/// Why a change was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// Something else stands there than was expected.
    #[error("another document stands there; its ETag is {}", .0.as_deref().unwrap_or("none"))]
    Unexpected(Option<String>),
    /// Others keep changing it.
    #[error("the document changes faster than it can be written, try again")]
    Busy,
    /// The store is out of reach, or in trouble.
    #[error("the registry's store is out of reach: {0}")]
    Unreachable(String),
    /// The store answers, but takes no writes now.
    #[error("the registry's store takes no writes now: {0}")]
    Unwritable(String),
    /// What is to be written over was deleted, and stands there still.
    #[error("{0}: nothing is written to it")]
    Deleting(String),
    /// No override is in force on the backend, nor is one to follow.
    #[error("there is no cordon and no drain on the backend that could end")]
    NothingToEnd,
    /// The store answers and refuses.
    #[error("the registry cannot be changed: {0}")]
    Refused(String),
}

/// Attempts at a write that others keep overtaking.
pub const ATTEMPTS_MAX: u32 = 5;

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
pub trait CompareAndSwap {
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::registry::document;
    use crate::registry::feeds::kubernetes;

    #[test]
    fn a_draft_is_true_to_the_schema_and_to_its_name() {
        let draft = Draft::judge("a", json!({"name": "a"}), document::judge).unwrap();
        assert_eq!(draft.cluster().name, "a");
        for (value, expected) in [
            (
                json!({"name": "b"}),
                r#"clusters.a.name: must be "a", as the address says"#,
            ),
            (json!({}), "cluster.name: is required"),
            (
                json!({"name": "a", "x": 1}),
                "clusters.a.x: is not a known field",
            ),
            (
                json!({"name": "a", "backendsFrom": [{"service": {"name": "s"}}]}),
                "clusters.a.backendsFrom: is only known where the registry is kept in Kubernetes",
            ),
        ] {
            let error = Draft::judge("a", value, document::judge).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
        let taken = json!({"name": document::SIDECAR_CLUSTER});
        assert!(Draft::judge(document::SIDECAR_CLUSTER, taken, document::judge).is_err());
    }

    #[test]
    fn for_kubernetes_a_draft_may_name_services_if_it_does_so_well() {
        let from = json!([{"service": {"name": "s"}}]);
        let value = json!({"name": "a", "backendsFrom": from});
        let draft = Draft::judge("a", value.clone(), kubernetes::judge).unwrap();
        assert_eq!(*draft.value(), value);
        let value = json!({"name": "a", "x": 1, "backendsFrom": [{"service": {}}]});
        let errors = Draft::judge("a", value, kubernetes::judge).unwrap_err();
        let places: Vec<&str> = errors.0.iter().map(|it| it.path.as_str()).collect();
        assert_eq!(
            places,
            ["clusters.a.x", "clusters.a.backendsFrom[0].service.name"]
        );
    }

    #[test]
    fn what_is_expected_is_what_stands_there() {
        let held = Document::new(b"{}".to_vec());
        let other = Document::new(b"{} ".to_vec());
        assert_ne!(held.etag, other.etag);
        for (expect, nothing, something, else_) in [
            (Expect::Anything, true, true, true),
            (Expect::Absent, true, false, false),
            (Expect::Present, false, true, true),
            (Expect::OneOf(vec![held.etag.clone()]), false, true, false),
            (Expect::NoneOf(vec![held.etag.clone()]), true, false, true),
        ] {
            assert_eq!(expect.admits(None), nothing, "{expect:?}");
            assert_eq!(expect.admits(Some(&held)), something, "{expect:?}");
            assert_eq!(expect.admits(Some(&other)), else_, "{expect:?}");
        }
    }
}
