//! What a store says at one place, as its feed hands it on.

use std::collections::BTreeMap;

use pointsman_filter::config::{BackendConfig, ClusterConfig, ConfigErrors};

use crate::model::overrides::Override;

/// What stands at one place of a store now.
pub struct Record {
    /// Tells it from every other record of the store.
    pub place: String,
    /// Of several documents that claim one name the one with the lowest rank has it.
    pub rank: i64,
    /// What stands there.
    pub what: What,
}

/// The kinds of records.
pub enum What {
    /// A cluster's document.
    Document(Document),
    /// A backend that registered itself.
    Backend {
        /// The cluster that it belongs to.
        cluster: String,
        /// Its id.
        id: String,
        /// What it says of itself.
        read: Result<Registered, ConfigErrors>,
    },
    /// The operators' overrides on a cluster's backends.
    Overrides {
        /// The cluster.
        cluster: String,
        /// By backend.
        read: Entries,
    },
    /// A status that a sidecar wrote about this cluster.
    Status(String),
    /// It stands where records do and is none.
    Malformed(ConfigErrors),
    /// Nothing stands there any more.
    Gone,
}

/// A cluster's document before it is judged.
pub struct Document {
    /// The cluster's name, as far as it can be told.
    pub claim: Option<String>,
    /// What people call it who must find it among others.
    pub title: String,
    /// What it is to the letter, for those who edit it.
    pub etag: String,
    /// Judges it; not asked while the etag is the one of before.
    pub judge: Box<dyn FnOnce() -> Result<ClusterConfig, ConfigErrors> + Send>,
}

/// The overrides of one cluster, by backend; each may be wrong by itself.
pub type Entries = Result<BTreeMap<String, Result<Override, ConfigErrors>>, ConfigErrors>;

/// A backend that registered itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// What it says of itself.
    pub backend: BackendConfig,
    /// When it last said so, ms of the store's clock; absent: it is not asked to.
    pub heartbeat: Option<u64>,
}
