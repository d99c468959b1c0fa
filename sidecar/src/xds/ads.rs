//! The delta ADS service: drives one [`Session`] per stream.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::SERVICE_NAME;
use futures_util::stream;
use http_body_util::StreamBody;
use hyper::body::{Bytes, Frame};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use tonic_prost::ProstDecoder;
use tracing::{debug, info, warn};

use super::session::{self, Answer, Event, Session};
use super::snapshot::Snapshot;
use super::views::{Offer, Wanted};
use super::wire::Pieces;
use super::{Kind, Proxies, Proxy};
use crate::settings::Secret;

/// Longest message of a proxy, bytes: one that brings the versions of everything along.
const MESSAGE_MAX: usize = 64 << 20;
const NODE_ID_MAX: usize = 1024;

/// The service and what it shares with the other stages.
pub struct Ads {
    offers: watch::Receiver<Option<Arc<Offer>>>,
    proxies: watch::Sender<Proxies>,
    token: Option<Secret>,
    stop: CancellationToken,
    streams: AtomicU64,
}

impl Ads {
    /// A service that sends what `offers` hold to whoever shows the token, if one is set, and tells
    /// `proxies` what they said to it.
    pub fn new(
        offers: watch::Receiver<Option<Arc<Offer>>>,
        proxies: watch::Sender<Proxies>,
        token: Option<Secret>,
        stop: CancellationToken,
    ) -> Self {
        Ads {
            offers,
            proxies,
            token,
            stop,
            streams: AtomicU64::new(0),
        }
    }

    /// The service as routes. Not tonic's own, which writes every message into a buffer of its
    /// stream, and keeps the buffer.
    pub fn into_router(self) -> Router {
        Router::new()
            .route(
                &format!("/{SERVICE_NAME}/DeltaAggregatedResources"),
                post(delta).with_state(Arc::new(self)),
            )
            .route(
                &format!("/{SERVICE_NAME}/StreamAggregatedResources"),
                post(state_of_the_world),
            )
            .fallback(not_served)
    }

    /// Digests are compared, so that the time it takes says nothing about the token.
    fn admit(&self, headers: &HeaderMap) -> Result<(), Status> {
        let Some(token) = &self.token else {
            return Ok(());
        };
        let shown = headers
            .get(AUTHORIZATION)
            .map_or(&[][..], |shown| shown.as_bytes());
        let expected = format!("Bearer {}", token.reveal());
        match Sha256::digest(shown) == Sha256::digest(expected) {
            true => Ok(()),
            false => Err(Status::unauthenticated("a valid bearer token is required")),
        }
    }
}

/// Opens a stream.
async fn delta(State(ads): State<Arc<Ads>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    if let Err(status) = ads.admit(&parts.headers) {
        return status.into_http();
    }
    let decoder = ProstDecoder::default();
    let driver = Driver {
        inbound: Streaming::new_request(decoder, body, None, Some(MESSAGE_MAX)),
        offers: ads.offers.clone(),
        session: Session::default(),
        seat: None,
        wanted: None,
        id: ads.streams.fetch_add(1, Ordering::Relaxed),
        proxies: ads.proxies.clone(),
        stop: ads.stop.clone(),
    };
    let sending = Sending {
        driver,
        answer: None,
    };
    // The connection polls the driver: there is no task that could outlive it.
    let frames = stream::unfold(Some(sending), |sending| async move {
        let mut sending = sending?;
        let (frame, sending) = match sending.next().await {
            Ok(piece) => (Frame::data(piece), Some(sending)),
            Err(status) => (Frame::trailers(trailers(&status)), None),
        };
        Some((Ok::<_, Infallible>(frame), sending))
    });
    let body = Body::new(StreamBody::new(frames));
    ([(CONTENT_TYPE, "application/grpc")], body).into_response()
}

async fn state_of_the_world() -> Response {
    let why = "only delta is served: set api_type: DELTA_GRPC in ads_config";
    Status::unimplemented(why).into_http()
}

async fn not_served() -> Response {
    Status::unimplemented("").into_http()
}

fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    // Fails for texts that no header can hold, and theirs are escaped.
    let _ = status.add_header(&mut trailers);
    trailers
}

/// A stream and the answer that is on its way.
struct Sending {
    driver: Driver,
    answer: Option<Pieces>,
}

impl Sending {
    /// What is sent next, or how the stream ends.
    async fn next(&mut self) -> Result<Bytes, Status> {
        loop {
            if let Some(piece) = self.answer.as_mut().and_then(Iterator::next) {
                return Ok(piece);
            }
            let answer = self.driver.next().await?;
            let answer = answer.ok_or_else(|| Status::ok(""))?;
            self.answer = Some(Pieces::new(answer));
        }
    }
}

/// One stream.
struct Driver {
    inbound: Streaming<DeltaDiscoveryRequest>,
    offers: watch::Receiver<Option<Arc<Offer>>>,
    session: Session,
    seat: Option<Seat>,
    /// The clusters it wants; `None`: all.
    wanted: Option<Wanted>,
    id: u64,
    proxies: watch::Sender<Proxies>,
    stop: CancellationToken,
}

impl Driver {
    /// The next answer; `None` ends the stream.
    async fn next(&mut self) -> Result<Option<Answer>, Status> {
        loop {
            self.offers.mark_unchanged();
            let snapshot = self.snapshot();
            let answer = snapshot.and_then(|snapshot| self.session.next(&snapshot, Instant::now()));
            if let Some(answer) = answer {
                self.report(answer.kind);
                return Ok(Some(answer));
            }
            let wake = self.session.wake();
            tokio::select! {
                () = self.stop.cancelled() => return Ok(None),
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
                changed = self.offers.changed() => if changed.is_err() {
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

    fn on_request(&mut self, request: DeltaDiscoveryRequest) -> Result<(), Status> {
        if self.seat.is_none() {
            let node = request.node.as_ref();
            let metadata = node.and_then(|node| node.metadata.as_ref());
            self.wanted = Wanted::of(metadata)
                .map_err(|error| Status::invalid_argument(error.to_string()))?;
            let node = node.map_or("", |node| node.id.as_str());
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
        let snapshot = self.snapshot();
        let event = self
            .session
            .on_request(kind, request, snapshot.as_deref())
            .map_err(|error| Status::resource_exhausted(error.to_string()))?;
        let node = self.seat.as_ref().map_or("", |seat| &seat.node);
        match event {
            Some(Event::Acked { version }) => {
                debug!(event = "acked", node, kind = kind.name(), version);
            }
            Some(Event::Nacked(nack)) => {
                let (kind, version) = (kind.name(), nack.version);
                let resource = nack.resource.as_deref();
                warn!(
                    event = "nacked",
                    node, kind, resource, version, "refused: {}", nack.error
                );
            }
            None => {}
        }
        self.report(kind);
        Ok(())
    }

    /// What is served to this proxy.
    fn snapshot(&self) -> Option<Arc<Snapshot>> {
        let offer = self.offers.borrow().clone()?;
        Some(offer.of(self.wanted.as_ref()))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn service(token: Option<&str>) -> Ads {
        let offers = watch::Sender::new(None).subscribe();
        let token = token.map(|token| Secret::new(token.to_owned()));
        Ads::new(
            offers,
            watch::Sender::default(),
            token,
            CancellationToken::new(),
        )
    }

    fn shown(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())])
    }

    #[test]
    fn where_a_token_is_set_only_it_opens() {
        let guarded = service(Some("word"));
        assert!(guarded.admit(&shown("Bearer word")).is_ok());
        for wrong in ["Bearer wor", "Bearer word ", "bearer word", "word", ""] {
            let status = guarded.admit(&shown(wrong)).expect_err(wrong);
            assert_eq!(status.code(), tonic::Code::Unauthenticated);
        }
        assert!(guarded.admit(&HeaderMap::new()).is_err());
        assert!(service(None).admit(&HeaderMap::new()).is_ok());
    }
}
