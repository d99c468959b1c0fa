//! The way to the API server, and whether it lets us do what we need.

use std::path::PathBuf;
use std::time::Duration;

use kube::api::{Api, DynamicObject, ListParams, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::core::ApiResource;
use kube::{Client, Config};

use crate::settings::KubernetesSettings;

/// Longest time to connect.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Longest silence of an answer, a watch's included; a watch is ended by the server before that.
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// How long the server lets a watch be open, s; what was missed then is asked for anew.
pub const WATCH_MAX_S: u32 = 10;

/// Why the registry could not be read at start.
#[derive(Debug, thiserror::Error)]
pub enum KubernetesStartError {
    /// There is no usable configuration.
    #[error(
        "Kubernetes validation failed: {why} (KUBECONFIG, or the service account of a pod, says \
         where the API server is)"
    )]
    Config {
        /// The library's text.
        why: String,
    },
    /// Nobody answers there.
    #[error("Kubernetes validation failed: Failed to connect to Kubernetes at {url}: {why}")]
    Connect {
        /// Where.
        url: String,
        /// The library's text.
        why: String,
    },
    /// A right is missing.
    #[error(
        "Kubernetes validation failed: Kubernetes at {url} forbids to {verb} {resource} in \
         namespace {namespace}: {why}; envoy/kubernetes/rbac.yaml grants it"
    )]
    Forbidden {
        /// Where.
        url: String,
        /// What was asked.
        verb: &'static str,
        /// Of what.
        resource: String,
        /// And where.
        namespace: String,
        /// The server's text.
        why: String,
    },
    /// The kind is not there.
    #[error(
        "Kubernetes validation failed: Kubernetes at {url} has no {resource}: install it with \
         `pointsman crd | kubectl apply -f -`"
    )]
    NoKind {
        /// Where.
        url: String,
        /// What was asked for.
        resource: String,
    },
    /// It answers, but not what is needed.
    #[error(
        "Kubernetes validation failed: Failed to {verb} {resource} in Kubernetes at {url}: {why}"
    )]
    Read {
        /// Where.
        url: String,
        /// What was asked.
        verb: &'static str,
        /// Of what.
        resource: String,
        /// The server's text.
        why: String,
    },
}

/// A client, and what it is asked for.
#[derive(Clone)]
pub struct Access {
    /// Speaks to the server.
    pub client: Client,
    /// The objects of the namespace.
    pub objects: Api<DynamicObject>,
    /// What they are.
    kind: ApiResource,
    /// Where the server is.
    pub url: String,
    /// Whose objects are read.
    pub namespace: String,
}

impl Access {
    /// The way that the settings describe; nothing is asked yet.
    pub async fn of(
        settings: &KubernetesSettings,
        kind: ApiResource,
    ) -> Result<Self, KubernetesStartError> {
        let config = config(&settings.kubeconfig).await;
        let mut config = config.map_err(|why| KubernetesStartError::Config { why })?;
        config.connect_timeout = Some(CONNECT_MAX);
        config.read_timeout = Some(SILENCE_MAX);
        // The library would ask a busy server again and again for minutes, and tell nobody.
        config.default_retry = false;
        let url = config.cluster_url.to_string();
        let client = Client::try_from(config);
        let client = client.map_err(|why| KubernetesStartError::Config {
            why: error_chain(&why),
        })?;
        let namespace = settings.namespace.clone();
        let objects = Api::namespaced_with(client.clone(), &namespace, &kind);
        Ok(Access {
            client,
            objects,
            kind,
            url: url.trim_end_matches('/').to_owned(),
            namespace,
        })
    }

    /// What is missing is known before anything serves.
    pub async fn check(&self) -> Result<(), KubernetesStartError> {
        let answered = self.ask().await;
        answered.map_err(|(verb, error)| self.failure(verb, &error))
    }

    /// Asks for one object, and for a watch: a server that starts lists before it lets anybody watch.
    ///
    /// Fails with what was asked for, and why it was not granted.
    pub async fn ask(&self) -> Result<(), (&'static str, kube::Error)> {
        let listed = self.objects.list(&ListParams::default().limit(1)).await;
        let listed = listed.map_err(|error| ("list", error))?;
        let version = listed.metadata.resource_version.unwrap_or_default();
        let watch = WatchParams::default().timeout(1);
        let watched = self.objects.watch(&watch, &version).await;
        watched.map(drop).map_err(|error| ("watch", error))
    }

    /// What could not be read though [`Access::check`] went well.
    pub fn unreadable(&self, why: String) -> KubernetesStartError {
        KubernetesStartError::Read {
            url: self.url.clone(),
            verb: "list",
            resource: self.resource(),
            why,
        }
    }

    fn resource(&self) -> String {
        format!("{}.{}", self.kind.plural, self.kind.group)
    }

    fn failure(&self, verb: &'static str, error: &kube::Error) -> KubernetesStartError {
        let url = self.url.clone();
        let resource = self.resource();
        match error {
            kube::Error::Api(status) if status.is_forbidden() => KubernetesStartError::Forbidden {
                url,
                verb,
                resource,
                namespace: self.namespace.clone(),
                why: status.message.clone(),
            },
            // By its number: for a kind that it does not know the server finds no words of its own.
            kube::Error::Api(status) if status.code == 404 => {
                KubernetesStartError::NoKind { url, resource }
            }
            kube::Error::Api(status) => KubernetesStartError::Read {
                url,
                verb,
                resource,
                why: status.message.clone(),
            },
            error => KubernetesStartError::Connect {
                url,
                why: error_chain(error),
            },
        }
    }
}

async fn config(files: &[PathBuf]) -> Result<Config, String> {
    if files.is_empty() {
        return Config::incluster().map_err(|error| error_chain(&error));
    }
    let merged = |read: Kubeconfig, file: &PathBuf| read.merge(Kubeconfig::read_from(file)?);
    let read: Result<Kubeconfig, KubeconfigError> =
        files.iter().try_fold(Kubeconfig::default(), merged);
    let read = read.map_err(|error| error_chain(&error))?;
    let config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await;
    config.map_err(|error| error_chain(&error))
}

/// Whether the same may well be answered otherwise the next time: the server is out of reach, has
/// too much to do (429), is in trouble itself, or starts and does not know the kind yet (404 without
/// a reason).
pub fn is_passing(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) if status.code == 404 => !status.is_not_found(),
        kube::Error::Api(status) => status.code == 429 || !matches!(status.code, 400..=499),
        _ => true,
    }
}

/// An error with what caused it: the library's own line often says only where it happened.
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let said = inner.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = inner.source();
    }
    text
}

/// The way to a listener of the test's own.
#[cfg(test)]
pub async fn nearby() -> (tokio::net::TcpListener, Access) {
    use kube::core::GroupVersionKind;
    use serde_json::json;

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config");
    let config = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "c", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}]});
    std::fs::write(&file, config.to_string()).unwrap();
    let settings = KubernetesSettings {
        namespace: "shop".to_owned(),
        kubeconfig: vec![file],
        reconcile_interval: Duration::from_secs(300),
        guard_delay: Duration::ZERO,
        lease_duration: Duration::from_secs(15),
    };
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("pointsman.dev", "v1", "Thing"));
    let access = Access::of(&settings, kind).await.unwrap();
    (listener, access)
}

#[cfg(test)]
mod tests {
    use kube::core::Status;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[test]
    fn what_passes_is_told_from_what_is_refused() {
        let answer = |code: u16, reason: &str| {
            let status = Status::failure("no", reason).with_code(code);
            is_passing(&kube::Error::Api(status.boxed()))
        };
        for code in [404, 429, 500, 502, 503, 504] {
            assert!(answer(code, ""), "{code}");
        }
        for code in [400, 401, 403, 409, 413, 422] {
            assert!(!answer(code, ""), "{code}");
        }
        assert!(!answer(404, "NotFound"));
        assert!(is_passing(&kube::Error::LinesCodecMaxLineLengthExceeded));
    }

    #[tokio::test]
    async fn a_busy_server_is_asked_once() {
        let (listener, access) = nearby().await;
        // Who asks again finds nobody.
        let busy = async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            drop(listener);
            assert_ne!(stream.read(&mut [0; 4096]).await.unwrap(), 0);
            let answer = b"HTTP/1.1 503 Busy\r\ncontent-length: 4\r\n\r\nbusy";
            stream.write_all(answer).await.unwrap();
        };
        let (checked, ()) = tokio::join!(access.check(), busy);
        let error = checked.unwrap_err();
        let heard = matches!(&error, KubernetesStartError::Read { why, .. } if why == "busy");
        assert!(heard, "{error}");
    }
}
