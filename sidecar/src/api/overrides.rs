//! `/v1/overrides`, and the answers to cordon, drain and uncordon.

use serde::{Deserialize, Serialize};

use super::Serving;
use crate::model::overrides;

/// All of them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Overrides {
    /// Those in force, then those that are to follow.
    pub overrides: Vec<Overridden>,
}

/// An operator's word; times are ms since 1970 by the store's clock.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Override {
    /// `Cordoned` or `Draining`; absent: it was taken back.
    pub state: Option<String>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// From when; absent: since it was set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub starts_at: Option<u64>,
    /// Until when; absent: until it is taken back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<u64>,
}

/// A word, and on what.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Overridden {
    /// The cluster's name.
    pub cluster: String,
    /// The backend's id.
    pub backend: String,
    /// Whether there is such a backend.
    pub present: bool,
    /// The word.
    #[serde(flatten)]
    pub word: Override,
    /// After a write: whether it is served by now.
    #[serde(flatten)]
    pub serving: Option<Serving>,
}

impl From<&overrides::Override> for Override {
    fn from(word: &overrides::Override) -> Self {
        let text = |text: &String| (!text.is_empty()).then(|| text.clone());
        Override {
            state: Some(word.state.name().to_owned()),
            reason: text(&word.reason),
            actor: text(&word.actor),
            starts_at: word.starts_at,
            expires_at: word.expires_at,
        }
    }
}
