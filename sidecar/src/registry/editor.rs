//! Changing the registry where it is kept, never what is served of it.
//!
//! A write goes to the store; the source then reads it like a change that anybody else made. What
//! is written has been judged by the one parser before, and may depend on what stands there.

use pointsman_filter::base::hash;
use pointsman_filter::config::{ClusterConfig, ConfigErrors};
use serde_json::Value;

use super::demo::DemoEditor;
use super::document::{self, Judge};
use super::kubernetes::{self, KubernetesEditor};
use super::overrides::Override;
use super::redis::RedisEditor;
use super::swap::Swap;

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

/// What tells a document's contents apart: a hash.
pub fn etag(text: &[u8]) -> String {
    hash::hex(hash::text_key(text))
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
            return Err(document::error(&format!("clusters.{name}.name"), why));
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
    /// A document with this etag.
    Etag(String),
}

impl Expect {
    /// Whether it is so.
    pub fn admits(&self, held: Option<&Document>) -> bool {
        match self {
            Expect::Anything => true,
            Expect::Absent => held.is_none(),
            Expect::Present => held.is_some(),
            Expect::Etag(etag) => held.is_some_and(|held| held.etag == *etag),
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
    /// The store answers and refuses.
    #[error("the registry cannot be changed: {0}")]
    Refused(String),
}

/// Attempts at a write that others keep overtaking.
pub const ATTEMPTS_MAX: u32 = 5;

/// The way to change the registry.
#[derive(Clone)]
pub enum Editor {
    /// The demo file and the words beside it.
    Demo(DemoEditor),
    /// Redis.
    Redis(Box<RedisEditor>),
    /// Kubernetes.
    Kubernetes(Box<KubernetesEditor>),
}

impl Editor {
    /// What judges documents for this store: only Kubernetes has Services to name.
    pub fn judge(&self) -> Judge {
        match self {
            Editor::Demo(_) | Editor::Redis(_) => document::judge,
            Editor::Kubernetes(_) => kubernetes::judge,
        }
    }

    /// The document that stands under a cluster's name.
    pub async fn read(&self, cluster: &str) -> Result<Option<Document>, EditError> {
        match self {
            Editor::Demo(demo) => demo.read(cluster).await,
            Editor::Redis(redis) => redis.read(cluster).await,
            Editor::Kubernetes(kubernetes) => kubernetes.read(cluster).await,
        }
    }

    /// Writes a document.
    pub async fn write(&self, draft: &Draft, expect: &Expect) -> Result<Written, EditError> {
        let (name, value) = (draft.cluster.name.as_str(), Some(&draft.value));
        match self {
            Editor::Demo(demo) => demo.replace(name, value, expect).await,
            Editor::Redis(redis) => redis.replace(name, value, expect).await,
            Editor::Kubernetes(kubernetes) => kubernetes.replace(name, value, expect).await,
        }
    }

    /// Deletes a document.
    pub async fn delete(&self, cluster: &str, expect: &Expect) -> Result<Written, EditError> {
        match self {
            Editor::Demo(demo) => demo.replace(cluster, None, expect).await,
            Editor::Redis(redis) => redis.replace(cluster, None, expect).await,
            Editor::Kubernetes(kubernetes) => kubernetes.replace(cluster, None, expect).await,
        }
    }

    /// The store's clock, ms since 1970: what words expire by.
    pub async fn now(&self) -> Result<u64, EditError> {
        match self {
            Editor::Demo(_) => Ok(super::demo::now()),
            Editor::Redis(redis) => redis.now().await,
            Editor::Kubernetes(_) => Ok(kubernetes::now()),
        }
    }

    /// Puts a word on a backend, or takes it back; what has ended goes with it.
    pub async fn say(
        &self,
        cluster: &str,
        backend: &str,
        word: Option<&Override>,
    ) -> Result<(), EditError> {
        match self {
            Editor::Demo(demo) => demo.say(cluster, backend, word).await,
            Editor::Redis(redis) => redis.say(cluster, backend, word).await,
            Editor::Kubernetes(kubernetes) => kubernetes.say(cluster, backend, word).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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
            (Expect::Etag(held.etag.clone()), false, true, false),
        ] {
            assert_eq!(expect.admits(None), nothing, "{expect:?}");
            assert_eq!(expect.admits(Some(&held)), something, "{expect:?}");
            assert_eq!(expect.admits(Some(&other)), else_, "{expect:?}");
        }
    }
}
