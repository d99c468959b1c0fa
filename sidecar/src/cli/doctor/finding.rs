//! What is wrong, in the order in which somebody at three in the morning reads it.

use std::fmt;

use serde_json::{Value, json};

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The check's name, for tools and runbooks.
    pub check: &'static str,
    /// What is wrong, and where.
    pub what: String,
    /// What comes of it.
    pub why: &'static str,
    /// How to mend it.
    pub mend: &'static str,
}

impl Finding {
    /// For tools.
    pub fn to_value(&self) -> Value {
        json!({"check": self.check, "what": self.what, "why": self.why, "mend": self.mend})
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Finding {
            check,
            what,
            why,
            mend,
        } = self;
        writeln!(out, "{check}: {what}\n  why:  {why}\n  mend: {mend}")
    }
}
