//! What came of a write: what is different, whether it is served, or why it was refused.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::registry;
use crate::registry::changes::Changes;

/// A document that was written or deleted, or would have been.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Written {
    /// The cluster's name.
    pub cluster: String,
    /// Whether there was none before.
    pub created: bool,
    /// What is different.
    pub changes: Changes,
    /// The document's new one; absent: there is none.
    pub etag: Option<String>,
    /// Whether nothing was written.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// What stands there, if nothing was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// What would.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
    /// If it was written.
    #[serde(flatten)]
    pub serving: Option<Serving>,
}

/// Where the registry stood when the answer was given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Serving {
    /// Whether it was served with what was written.
    pub served: bool,
    /// What was served, 16 hex digits.
    pub revision: Option<String>,
    /// A loss that waits for its confirmation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<Held>,
}

/// A loss that waits for its confirmation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Held {
    /// Backends that are served.
    pub served_backends: usize,
    /// Backends that were read.
    pub found_backends: usize,
}

impl From<registry::Held> for Held {
    fn from(held: registry::Held) -> Self {
        Held {
            served_backends: held.served.backends,
            found_backends: held.found.backends,
        }
    }
}

/// Why a request is not answered with what it asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Fault {
    /// In a sentence.
    pub error: String,
    /// Everything that is wrong with a document.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<WrongField>,
}

/// What is wrong with a document.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WrongField {
    /// Where, such as `clusters.a.backends[0].weight`.
    pub path: String,
    /// Why.
    pub why: String,
}
