//! Whom clusters trust: the contents of the `caFile`s that the registry names.
//!
//! Envoy gets them over its stream (SDS), and probes use the very same bytes: both change together,
//! and the file need be on one machine only. A file is looked at by its content: one that is renamed
//! over it, or a link that is swapped, may well have the time of the one before. What cannot be read,
//! or holds no certificate, leaves what was trusted before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use pointsman_filter::config::{ClusterConfig, Tls};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::registry::Published;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How long one may take to be read.
const READ_MAX: Duration = Duration::from_secs(5);
/// Longest file, bytes: several times what operating systems trust.
const FILE_MAX: u64 = 4 << 20;

/// The files, by the path that documents say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust(BTreeMap<String, CaFile>);

/// One of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CaFile {
    /// PEM, as it was when it could be used last; absent: never yet.
    pub pem: Option<Arc<[u8]>>,
    /// Why it cannot be used as it is.
    pub error: Option<String>,
}

/// The path of the authorities that must have signed; absent: anybody may.
pub fn path(tls: Option<&Tls>) -> Option<&str> {
    let path = tls.map(|tls| tls.ca_file.as_str());
    path.filter(|path| !path.is_empty())
}

impl Trust {
    /// The files that these clusters name, as they are now; where one cannot be used, what `before`
    /// has of it.
    pub async fn read(clusters: &[ClusterConfig], before: &Trust) -> Self {
        let named = clusters.iter().filter_map(|it| path(it.tls.as_ref()));
        let mut files = BTreeMap::new();
        for path in named.collect::<BTreeSet<_>>() {
            let held = before.0.get(path).cloned().unwrap_or_default();
            let file = match timeout(READ_MAX, content(path)).await {
                Ok(Ok(pem)) if held.pem.as_deref() == Some(&*pem) => CaFile {
                    error: None,
                    ..held
                },
                Ok(Ok(pem)) => CaFile {
                    pem: Some(pem.into()),
                    error: None,
                },
                Ok(Err(why)) => CaFile {
                    error: Some(why),
                    ..held
                },
                Err(_) => CaFile {
                    error: Some("cannot be read in time".to_owned()),
                    ..held
                },
            };
            files.insert(path.to_owned(), file);
        }
        Trust(files)
    }

    /// What a path stands for; absent: no cluster names it, or it was not looked at yet.
    pub fn file(&self, path: &str) -> Option<&CaFile> {
        self.0.get(path)
    }

    /// All of them.
    pub fn files(&self) -> impl Iterator<Item = (&str, &CaFile)> {
        self.0.iter().map(|(path, file)| (path.as_str(), file))
    }

    /// Why a cluster trusts nobody, or those from before.
    pub fn error_of(&self, cluster: &ClusterConfig) -> Option<String> {
        let path = path(cluster.tls.as_ref())?;
        let error = self.file(path)?.error.as_ref()?;
        Some(format!("tls.caFile {path}: {error}"))
    }
}

/// What a file holds, if it can be used.
async fn content(path: &str) -> Result<Vec<u8>, String> {
    let file = File::open(path).await.map_err(|why| why.to_string())?;
    let mut pem = Vec::new();
    let read = file.take(FILE_MAX + 1).read_to_end(&mut pem).await;
    read.map_err(|why| why.to_string())?;
    if pem.len() as u64 > FILE_MAX {
        return Err(format!("must have at most {FILE_MAX} bytes"));
    }
    match roots(&pem) {
        Some(_) => Ok(pem),
        None => Err("must hold certificates in PEM".to_owned()),
    }
}

/// The authorities of a file; `None`: it holds none, or one that cannot be read.
pub fn roots(pem: &[u8]) -> Option<Arc<RootCertStore>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        roots.add(certificate.ok()?).ok()?;
    }
    (!roots.is_empty()).then(|| Arc::new(roots))
}

/// Looks at the files, until told to stop: again and again, and when the registry names others.
pub async fn run(
    mut registry: watch::Receiver<Published>,
    trust: watch::Sender<Arc<Trust>>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let wanted = registry.borrow_and_update().clone();
        if let Some(wanted) = wanted {
            let before = Arc::clone(&trust.borrow());
            let found = Trust::read(&wanted.config.clusters, &before).await;
            if found != *before {
                tell(&before, &found);
                trust.send_replace(Arc::new(found));
            }
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            changed = registry.changed() => changed?,
            _ = look.tick() => {}
        }
    }
}

/// One line for each edge.
pub fn tell(before: &Trust, found: &Trust) {
    for (path, file) in found.files() {
        let held = before.file(path).cloned().unwrap_or_default();
        match &file.error {
            Some(why) if held.error.as_ref() != Some(why) => {
                let last = if file.pem.is_some() {
                    "what it held last"
                } else {
                    "nobody"
                };
                warn!(event = "ca_file_unusable", path, "{why}; trusted is {last}");
            }
            None if file.pem != held.pem || held.error.is_some() => {
                info!(
                    event = "ca_file_taken",
                    path, "Envoys and probes trust what it holds"
                );
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use serde_json::json;

    use super::*;

    fn authority() -> String {
        let names = vec!["a.example".to_owned()];
        rcgen::generate_simple_self_signed(names)
            .unwrap()
            .cert
            .pem()
    }

    fn naming(path: &Path) -> Vec<ClusterConfig> {
        let tls = json!({"caFile": path.to_str().unwrap()});
        let document = json!({"name": "a", "tls": tls});
        vec![
            ClusterConfig::parse(&document).unwrap(),
            ClusterConfig::parse(&json!({"name": "b", "tls": {}})).unwrap(),
        ]
    }

    /// What is trusted, as text, and whether the file is good.
    async fn look(path: &Path, trust: &mut Trust) -> (Option<String>, bool) {
        *trust = Trust::read(&naming(path), trust).await;
        assert_eq!(trust.files().count(), 1);
        let file = trust.file(path.to_str().unwrap()).unwrap();
        let pem = file.pem.as_ref();
        let pem = pem.map(|it| String::from_utf8(it.to_vec()).unwrap());
        (pem, file.error.is_none())
    }

    #[tokio::test]
    async fn a_file_is_what_it_holds_and_not_when_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let [old, new, path] = ["old", "new", "ca.pem"].map(|it| folder.path().join(it));
        let mut trust = Trust::default();
        assert_eq!(
            look(&path, &mut trust).await,
            (None, false),
            "not there yet"
        );
        let (first, second) = (authority(), authority());
        fs::write(&old, &first).unwrap();
        fs::write(&new, &second).unwrap();
        let same = fs::metadata(&old).unwrap().modified().unwrap();
        let file = fs::File::options().write(true).open(&new).unwrap();
        file.set_modified(same).unwrap();
        symlink(&old, &path).unwrap();
        assert_eq!(look(&path, &mut trust).await, (Some(first.clone()), true));
        // A link is swapped, as Kubernetes does; both files are equally old.
        let beside = folder.path().join("beside");
        symlink(&new, &beside).unwrap();
        fs::rename(&beside, &path).unwrap();
        assert_eq!(look(&path, &mut trust).await, (Some(second.clone()), true));
        // What is half written, empty, no certificate or gone leaves what was.
        for bad in ["", "x", &second[..40]] {
            fs::write(&new, bad).unwrap();
            assert_eq!(look(&path, &mut trust).await, (Some(second.clone()), false));
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(look(&path, &mut trust).await, (Some(second), false));
        let cluster = &naming(&path)[0];
        let error = trust.error_of(cluster).unwrap();
        assert!(error.contains("ca.pem: No such file"), "{error}");
        // Renamed over it.
        fs::rename(&old, &path).unwrap();
        assert_eq!(look(&path, &mut trust).await, (Some(first), true));
        assert_eq!(trust.error_of(cluster), None);
        assert!(Trust::read(&[], &trust).await.files().next().is_none());
    }

    #[tokio::test]
    async fn files_that_take_no_end_are_given_up() {
        for path in ["/dev/zero", "/dev/null", "/"] {
            let mut trust = Trust::default();
            assert_eq!(look(Path::new(path), &mut trust).await, (None, false));
        }
    }
}
