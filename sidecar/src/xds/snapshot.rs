//! Everything that is served at one moment: immutable, shared by all streams.

use std::collections::BTreeMap;
use std::sync::Arc;

use envoy_types::pb::google::protobuf::Any;
use hyper::body::Bytes;
use pointsman_filter::base::hash;

use super::Kind;

/// A resource's name: one text for the shelves and for all streams that ask for it.
pub type Name = Arc<str>;
/// Which version is had of what.
pub type Versions = BTreeMap<Name, Arc<str>>;

/// One resource as it is sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Resource {
    /// A hash of the body, so that sidecars agree and a restart sends nothing again.
    pub version: Arc<str>,
    /// The message, whose type is that of its kind.
    pub body: Bytes,
}

impl Resource {
    /// A resource, named by the hash of what it says.
    pub fn new(body: Any) -> Self {
        let version = hash::hex(hash::text_key(&body.value)).into();
        let body = body.value.into();
        Resource { version, body }
    }
}

/// The resources of one kind, by name.
#[derive(Debug, Clone, Default)]
pub struct Shelf {
    resources: BTreeMap<Name, Arc<Resource>>,
    versions: Arc<Versions>,
    version: String,
}

impl Shelf {
    /// A shelf whose version is a hash of the names and versions on it.
    pub fn new(resources: BTreeMap<Name, Arc<Resource>>) -> Self {
        let mut text = String::new();
        for (name, resource) in &resources {
            // Names hold no control characters.
            text.push_str(name);
            text.push('\n');
            text.push_str(&resource.version);
            text.push('\n');
        }
        let version = hash::hex(hash::text_key(text.as_bytes()));
        let versions = resources
            .iter()
            .map(|(name, resource)| (Arc::clone(name), Arc::clone(&resource.version)));
        Shelf {
            versions: Arc::new(versions.collect()),
            resources,
            version,
        }
    }

    /// What a stream has that was sent all of it: one map for all of them.
    pub fn versions(&self) -> &Arc<Versions> {
        &self.versions
    }

    /// A name as it stands on the shelf, so that a stream keeps no copy; its own where it is not there.
    pub fn shared(&self, name: String) -> Name {
        let known = self.resources.get_key_value(name.as_str());
        known.map_or_else(|| name.into(), |(known, _)| Arc::clone(known))
    }

    /// The version of the whole shelf.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// A resource by its name.
    pub fn get(&self, name: &str) -> Option<&Arc<Resource>> {
        self.resources.get(name)
    }

    /// Every resource, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, &Arc<Resource>)> {
        self.resources.iter()
    }
}

/// What is served.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// CDS.
    pub clusters: Shelf,
    /// SDS.
    pub secrets: Shelf,
    /// EDS.
    pub endpoints: Shelf,
    /// ECDS.
    pub filters: Shelf,
}

impl Snapshot {
    /// The shelf of a kind.
    pub fn shelf(&self, kind: Kind) -> &Shelf {
        match kind {
            Kind::Clusters => &self.clusters,
            Kind::Secrets => &self.secrets,
            Kind::Endpoints => &self.endpoints,
            Kind::Filters => &self.filters,
        }
    }
}
