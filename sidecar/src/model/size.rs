//! How large a registry is.

/// How much there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Size {
    /// Clusters.
    pub clusters: usize,
    /// Backends of all of them.
    pub backends: usize,
}
