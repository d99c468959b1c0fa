//! The delta ADS service: drives one [`Session`] per stream.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use envoy_types::pb::envoy::service::discovery::v3 as discovery;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server as ads;
use futures_util::stream::{self, Stream};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};
use tracing::{debug, info, warn};

use super::session::{self, Answer, Event, Session};
use super::snapshot::Snapshot;
use super::{Kind, Proxies, Proxy};
use crate::settings::Secret;

/// Longest message of a proxy, bytes: one that brings the versions of everything along.
const MESSAGE_MAX: usize = 64 << 20;
const NODE_ID_MAX: usize = 1024;

type Delta = discovery::DeltaDiscoveryRequest;
type DeltaAnswer = discovery::DeltaDiscoveryResponse;

/// The service and what it shares with the other stages.
pub struct Ads {
    snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    proxies: watch::Sender<Proxies>,
    token: Option<Secret>,
    stop: CancellationToken,
    streams: AtomicU64,
}

impl Ads {
    /// A service that sends `snapshots` to whoever shows the token, if one is set, and tells
    /// `proxies` what they said to it.
    pub fn new(
        snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
        proxies: watch::Sender<Proxies>,
        token: Option<Secret>,
        stop: CancellationToken,
    ) -> Self {
        Ads {
            snapshots,
            proxies,
            token,
            stop,
            streams: AtomicU64::new(0),
        }
    }

    /// The service as routes take it.
    pub fn into_service(self) -> ads::AggregatedDiscoveryServiceServer<Self> {
        ads::AggregatedDiscoveryServiceServer::new(self).max_decoding_message_size(MESSAGE_MAX)
    }

    /// Digests are compared, so that the time it takes says nothing about the token.
    fn admit(&self, metadata: &MetadataMap) -> Result<(), Status> {
        let Some(token) = &self.token else {
            return Ok(());
        };
        let shown = metadata
            .get("authorization")
            .map_or(&[][..], |shown| shown.as_bytes());
        let expected = format!("Bearer {}", token.reveal());
        match Sha256::digest(shown) == Sha256::digest(expected) {
            true => Ok(()),
            false => Err(Status::unauthenticated("a valid bearer token is required")),
        }
    }
}

#[tonic::async_trait]
impl ads::AggregatedDiscoveryService for Ads {
    type StreamAggregatedResourcesStream =
        stream::Empty<Result<discovery::DiscoveryResponse, Status>>;
    type DeltaAggregatedResourcesStream =
        Pin<Box<dyn Stream<Item = Result<DeltaAnswer, Status>> + Send>>;

    async fn stream_aggregated_resources(
        &self,
        _: Request<Streaming<discovery::DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        let why = "only delta is served: set api_type: DELTA_GRPC in ads_config";
        Err(Status::unimplemented(why))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<Delta>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        self.admit(request.metadata())?;
        let driver = Driver {
            inbound: request.into_inner(),
            snapshots: self.snapshots.clone(),
            session: Session::default(),
            seat: None,
            id: self.streams.fetch_add(1, Ordering::Relaxed),
            proxies: self.proxies.clone(),
            stop: self.stop.clone(),
        };
        // The connection polls the driver: there is no task that could outlive it.
        let answers = stream::unfold(Some(driver), |driver| async move {
            let mut driver = driver?;
            match driver.next().await {
                Ok(Some(answer)) => Some((Ok(answer), Some(driver))),
                Ok(None) => None,
                Err(status) => Some((Err(status), None)),
            }
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

/// One stream.
struct Driver {
    inbound: Streaming<Delta>,
    snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    session: Session,
    seat: Option<Seat>,
    id: u64,
    proxies: watch::Sender<Proxies>,
    stop: CancellationToken,
}

impl Driver {
    /// The next answer; `None` ends the stream.
    async fn next(&mut self) -> Result<Option<DeltaAnswer>, Status> {
        loop {
            let snapshot = self.snapshots.borrow_and_update().clone();
            let answer = snapshot.and_then(|snapshot| self.session.next(&snapshot));
            if let Some(answer) = answer {
                self.report(answer.kind);
                return Ok(Some(message(answer)));
            }
            tokio::select! {
                () = self.stop.cancelled() => return Ok(None),
                changed = self.snapshots.changed() => if changed.is_err() {
                    return Ok(None);
                },
                request = self.inbound.message() => match request {
                    Ok(Some(request)) => self.on_request(request)?,
                    // The proxy went away; there is nobody left to tell.
                    Ok(None) | Err(_) => return Ok(None),
                },
            }
        }
    }

    fn on_request(&mut self, request: Delta) -> Result<(), Status> {
        if self.seat.is_none() {
            let node = request.node.as_ref().map_or("", |node| node.id.as_str());
            if node.is_empty() || node.len() > NODE_ID_MAX {
                let why = format!("node.id must be set, at most {NODE_ID_MAX} bytes");
                return Err(Status::invalid_argument(why));
            }
            self.seat = Some(Seat::take(self.id, node, self.proxies.clone()));
        }
        let Some(kind) = Kind::of_type(&request.type_url) else {
            // A type that is not served stays unanswered; what is served goes on.
            warn!(
                event = "type_not_served",
                kind = request.type_url,
                "a proxy asks for it"
            );
            return Ok(());
        };
        let request = session::Request {
            subscribe: request.resource_names_subscribe,
            unsubscribe: request.resource_names_unsubscribe,
            initial: request.initial_resource_versions.into_iter().collect(),
            nonce: request.response_nonce,
            error: request.error_detail.map(|error| error.message),
        };
        let event = self
            .session
            .on_request(kind, request)
            .map_err(|error| Status::resource_exhausted(error.to_string()))?;
        let node = self.seat.as_ref().map_or("", |seat| &seat.node);
        match event {
            Some(Event::Acked { version }) => {
                debug!(event = "acked", node, kind = kind.name(), version);
            }
            Some(Event::Nacked(nack)) => {
                let (kind, version) = (kind.name(), nack.version);
                warn!(
                    event = "nacked",
                    node, kind, version, "refused: {}", nack.error
                );
            }
            None => {}
        }
        self.report(kind);
        Ok(())
    }

    fn report(&self, kind: Kind) {
        let progress = self.session.progress(kind);
        self.proxies.send_if_modified(|proxies| {
            let proxy = proxies.streams.get_mut(&self.id);
            let (Some(proxy), Some(progress)) = (proxy, progress) else {
                return false;
            };
            let before = proxy.types.insert(kind, progress);
            before.as_ref() != proxy.types.get(&kind)
        });
    }
}

/// A stream's place among the connected proxies, given back when the stream ends, however it ends.
struct Seat {
    id: u64,
    node: String,
    proxies: watch::Sender<Proxies>,
}

impl Seat {
    fn take(id: u64, node: &str, proxies: watch::Sender<Proxies>) -> Self {
        info!(event = "proxy_connected", node, "a proxy connected");
        let proxy = Proxy {
            node: node.to_owned(),
            connected: Instant::now(),
            types: BTreeMap::new(),
        };
        proxies.send_modify(|proxies| {
            proxies.streams.insert(id, proxy);
        });
        Seat {
            id,
            node: node.to_owned(),
            proxies,
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        info!(event = "proxy_gone", node = self.node, "a proxy went away");
        self.proxies.send_modify(|proxies| {
            proxies.streams.remove(&self.id);
        });
    }
}

fn message(answer: Answer) -> DeltaAnswer {
    let resources = answer
        .resources
        .into_iter()
        .map(|(name, resource)| discovery::Resource {
            name,
            version: resource.version.clone(),
            resource: Some(resource.body.clone()),
            ..Default::default()
        });
    DeltaAnswer {
        system_version_info: answer.version,
        resources: resources.collect(),
        type_url: answer.kind.type_url().to_owned(),
        removed_resources: answer.removed,
        nonce: answer.nonce,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(token: Option<&str>) -> Ads {
        let snapshots = watch::Sender::new(None).subscribe();
        let token = token.map(|token| Secret::new(token.to_owned()));
        Ads::new(
            snapshots,
            watch::Sender::default(),
            token,
            CancellationToken::new(),
        )
    }

    fn shown(value: &'static str) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        metadata.insert("authorization", value.parse().unwrap());
        metadata
    }

    #[test]
    fn where_a_token_is_set_only_it_opens() {
        let guarded = service(Some("word"));
        assert!(guarded.admit(&shown("Bearer word")).is_ok());
        for wrong in ["Bearer wor", "Bearer word ", "bearer word", "word", ""] {
            let status = guarded.admit(&shown(wrong)).expect_err(wrong);
            assert_eq!(status.code(), tonic::Code::Unauthenticated);
        }
        assert!(guarded.admit(&MetadataMap::new()).is_err());
        assert!(service(None).admit(&MetadataMap::new()).is_ok());
    }
}
