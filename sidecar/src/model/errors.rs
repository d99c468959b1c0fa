//! What is wrong with a record, and where.

use pointsman_filter::config::{ConfigError, ConfigErrors};

/// One error at one place.
pub fn error(path: &str, why: impl Into<String>) -> ConfigErrors {
    ConfigErrors(vec![at(path, why)])
}

/// The same, to stand among others.
pub fn at(path: &str, why: impl Into<String>) -> ConfigError {
    ConfigError {
        path: path.to_owned(),
        why: why.into(),
    }
}
