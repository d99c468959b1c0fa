//! What a store says at one place, as its feed hands it on.

use std::collections::BTreeMap;
use std::sync::Arc;

use pointsman_filter::config::{BackendConfig, ClusterConfig, ConfigErrors};

use super::feeds::crd::status::BackendClusterStatus;
use super::services::{ServiceRef, Services};
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
        said: Registered,
    },
    /// The operators' overrides on a cluster's backends.
    Overrides {
        /// The cluster.
        cluster: String,
        /// By backend.
        read: Entries,
    },
    /// The endpoints of every Service, for the documents that name one.
    Services(Arc<Services>),
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
    /// The operators' overrides that stand with it.
    pub overrides: Entries,
    /// The object that it stands in, where the store has objects.
    pub object: Option<Object>,
    /// Judges it; not asked while the etag is the one of before.
    pub judge: Box<dyn FnOnce() -> Result<Wanted, ConfigErrors> + Send>,
}

/// What a good document says.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// The cluster, without the backends of Services.
    pub cluster: ClusterConfig,
    /// The Services whose endpoints are backends too.
    pub from: Vec<ServiceRef>,
}

impl From<ClusterConfig> for Wanted {
    fn from(cluster: ClusterConfig) -> Self {
        let from = Vec::new();
        Wanted { cluster, from }
    }
}

/// The object that a document stands in: what its status is written to.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// Its name.
    pub name: String,
    /// Tells it from another one of the same name, before or after it.
    pub uid: String,
    /// Counts the changes of its spec.
    pub generation: i64,
    /// Its user has deleted it, and it stands there still: why.
    pub deleting: Option<String>,
    /// What was last written about it; `None` where that is nothing we would write.
    pub status: Option<BackendClusterStatus>,
}

/// The overrides of one cluster, by backend; each may be wrong by itself.
pub type Entries = Result<BTreeMap<String, Result<Override, ConfigErrors>>, ConfigErrors>;

/// What a backend that registered itself says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// The backend.
    pub read: Result<BackendConfig, ConfigErrors>,
    /// Its heartbeat to the letter; absent: none is asked of it.
    pub heartbeat: Option<Vec<u8>>,
}
