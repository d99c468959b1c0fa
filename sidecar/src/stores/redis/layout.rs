//! Which key means what; see sidecar/README.md for the layout as users know it.

use pointsman_filter::config::is_cluster_name;

/// The registry's keys below one root.
#[derive(Debug, Clone)]
pub struct Layout {
    root: String,
}

/// What a key of the registry means.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// A cluster's document.
    Cluster(String),
    /// A backend that registered itself.
    Backend {
        /// The cluster it belongs to.
        cluster: String,
        /// Its id; may hold colons.
        id: String,
    },
    /// The operators' overrides on a cluster's backends.
    Override(String),
    /// What the sidecar wrote about a cluster.
    Status(String),
    /// One of ours by its prefix, but of no cluster: its name cannot be one's. The key to the letter.
    Malformed(Vec<u8>),
}

impl Layout {
    /// The layout below `root`.
    pub fn new(root: &str) -> Self {
        Layout {
            root: root.to_owned(),
        }
    }

    /// The prefixes of what users write: changes of these are listened to, our own are not.
    pub fn watched(&self) -> [String; 3] {
        ["cluster", "backend", "override"].map(|kind| format!("{}:{kind}:", self.root))
    }

    /// A SCAN pattern for every key below the root.
    pub fn pattern(&self) -> String {
        format!("{}:*", self.root)
    }

    /// A key below the root under which nothing ever stands.
    pub fn nothing(&self) -> String {
        format!("{}:nothing", self.root)
    }

    /// The hash of what all sidecars have counted.
    pub fn counters(&self) -> String {
        format!("{}:counters", self.root)
    }

    /// Who writes the statuses.
    pub fn lease(&self) -> String {
        format!("{}:lease", self.root)
    }

    /// A key of the queue of jobs.
    pub fn queue(&self, name: &str) -> String {
        format!("{}:{name}", self.root)
    }

    /// What a key means; `None`: it is not part of the registry.
    pub fn parse(&self, key: &[u8]) -> Option<Key> {
        let below = key.strip_prefix(self.root.as_bytes())?;
        let Ok(below) = std::str::from_utf8(below) else {
            let kinds = [&b":cluster:"[..], b":backend:", b":override:", b":status:"];
            let ours = kinds.iter().any(|kind| below.starts_with(kind));
            return ours.then(|| Key::Malformed(key.to_vec()));
        };
        let (kind, name) = below.strip_prefix(':')?.split_once(':')?;
        let named = |make: fn(String) -> Key| match is_cluster_name(name) {
            true => make(name.to_owned()),
            false => Key::Malformed(key.to_vec()),
        };
        match kind {
            "cluster" => Some(named(Key::Cluster)),
            "override" => Some(named(Key::Override)),
            "status" => Some(named(Key::Status)),
            // Names of clusters hold no colon, ids may.
            "backend" => match name.split_once(':') {
                Some((cluster, id)) if is_cluster_name(cluster) && !id.is_empty() => {
                    let (cluster, id) = (cluster.to_owned(), id.to_owned());
                    Some(Key::Backend { cluster, id })
                }
                _ => Some(Key::Malformed(key.to_vec())),
            },
            _ => None,
        }
    }

    /// The key itself.
    pub fn bytes(&self, key: &Key) -> Vec<u8> {
        match key {
            Key::Malformed(key) => key.clone(),
            _ => self.write(key).into_bytes(),
        }
    }

    /// The key for people: bytes that are no text are escaped.
    pub fn write(&self, key: &Key) -> String {
        let root = &self.root;
        match key {
            Key::Cluster(name) => format!("{root}:cluster:{name}"),
            Key::Backend { cluster, id } => format!("{root}:backend:{cluster}:{id}"),
            Key::Override(name) => format!("{root}:override:{name}"),
            Key::Status(name) => format!("{root}:status:{name}"),
            Key::Malformed(key) => text(key),
        }
    }
}

/// Bytes for people: what is no UTF-8 is `b"…"` with its bytes escaped, which is nobody's name.
pub fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => format!("b\"{}\"", bytes.escape_ascii()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_they_are_written() {
        let layout = Layout::new("{pm}");
        let backend = |cluster: &str, id: &str| Key::Backend {
            cluster: cluster.to_owned(),
            id: id.to_owned(),
        };
        for (text, key) in [
            (
                "{pm}:cluster:shop.eu/orders",
                Key::Cluster("shop.eu/orders".to_owned()),
            ),
            (
                "{pm}:backend:orders:10.0.0.1:80",
                backend("orders", "10.0.0.1:80"),
            ),
            (
                "{pm}:backend:orders:[::1]:80",
                backend("orders", "[::1]:80"),
            ),
            ("{pm}:override:orders", Key::Override("orders".to_owned())),
            ("{pm}:status:orders", Key::Status("orders".to_owned())),
        ] {
            assert_eq!(layout.parse(text.as_bytes()), Some(key.clone()), "{text}");
            assert_eq!(layout.write(&key), text);
        }
        for odd in [
            "{pm}:cluster:",
            "{pm}:cluster:a b",
            "{pm}:backend:orders",
            "{pm}:backend:a:",
        ] {
            assert_eq!(
                layout.parse(odd.as_bytes()),
                Some(Key::Malformed(odd.as_bytes().to_vec()))
            );
        }
        for other in [
            "{pm}:events",
            "{pm}x:cluster:a",
            "pm:cluster:a",
            "{pm}",
            "{pm}:lease:a",
            "{pm}:counters",
            "{pm}:jobs",
            "{pm}:jobs:timed",
            "{pm}:job:a",
            "{pm}:jobs",
            "{pm}:jobs:timed",
            "{pm}:job:a",
            "{pm}:counters",
        ] {
            assert_eq!(layout.parse(other.as_bytes()), None, "{other}");
        }
        for kind in ["cluster", "backend", "override", "status"] {
            let key = [format!("{{pm}}:{kind}:").as_bytes(), b"\xff"].concat();
            let malformed = Key::Malformed(key.clone());
            assert_eq!(layout.parse(&key), Some(malformed.clone()));
            assert_eq!(layout.bytes(&malformed), key);
            let told = layout.write(&malformed);
            assert_eq!(told, format!(r#"b"{{pm}}:{kind}:\xff""#));
        }
        assert_eq!(layout.parse(b"{pm}:events:\xff"), None);
    }
}
