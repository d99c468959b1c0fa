//! Why there is no registry in Redis to start with.

use crate::settings::RedisUrl;

/// Why the registry could not be read at start.
#[derive(Debug, thiserror::Error)]
pub enum RedisStartError {
    /// Nobody answers there, or the login is refused.
    #[error("Redis validation failed: Failed to connect to Redis at {url}: {why}")]
    Connect {
        /// Where, without the password.
        url: RedisUrl,
        /// The library's text, without the password.
        why: String,
    },
    /// It answers, but not what is needed.
    #[error("Redis validation failed: Failed to read the registry in Redis at {url}: {why}")]
    Read {
        /// Where, without the password.
        url: RedisUrl,
        /// The server's text, without the password.
        why: String,
    },
}
