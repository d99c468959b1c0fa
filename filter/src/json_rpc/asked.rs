//! What a body asks for.

use super::answer::NO_ID;
use crate::config::{JsonRpc, METHOD_BATCH};

/// What a body asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// One request.
    Single {
        /// Its method; `None` where it has none that is a text of some length at most.
        method: Option<String>,
        /// Its id as it stands there, where it is wanted: a number, a text or null; `None` where there is
        /// no other.
        id: Option<String>,
    },
    /// So many, at least one.
    Batch(u32),
}

impl Asked {
    /// What it costs, tokens.
    pub fn cost(&self) -> u32 {
        match self {
            Asked::Single { .. } => 1,
            Asked::Batch(length) => *length,
        }
    }

    /// What it is counted as.
    pub fn label<'a>(&self, rules: &'a JsonRpc) -> &'a str {
        match self {
            Asked::Single { method, .. } => rules.label(method.as_deref()),
            Asked::Batch(_) => METHOD_BATCH,
        }
    }

    /// The id of an error that answers it, as JSON.
    pub fn into_id(self) -> String {
        match self {
            Asked::Single { id: Some(id), .. } => id,
            _ => NO_ID.to_owned(),
        }
    }
}
