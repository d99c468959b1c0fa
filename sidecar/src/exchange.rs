//! Stage 3, beside xDS: answers the filters' long polls with verdicts, and keeps what they report.
//!
//! A poll is answered at once when there is something newer than the filter has, otherwise after
//! at most [`HOLD`] with the same version and nothing. A poll that its filter gives up on, or that
//! the sidecar's end interrupts, leaves nothing behind.
//!
//! A sidecar that has just started knows no verdicts, but the proxies do: each is asked once for those
//! it has, before it is told that everybody is healthy.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http_body_util::LengthLimitError;
use pointsman_filter::fleet::exchange::{self as wire, Answer, ClusterVerdicts, Version};
use serde_json::json;
use subtle::ConstantTimeEq;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::fleet::{self, Fleet};
use crate::health::{HandedBack, Verdicts};
use crate::telemetry::events::Events;
use crate::telemetry::metrics::Metrics;
use crate::xds::views::Offer;

/// Longest time a poll waits for news.
pub const HOLD: Duration = Duration::from_secs(1);
/// Longest time in which a post's body must have come.
const READ_MAX: Duration = Duration::from_secs(5);
/// Most polls that wait at a time.
const WAITING_MAX: usize = 2048;

/// What the exchange works with.
pub struct Exchange {
    /// The verdicts.
    pub verdicts: watch::Receiver<Arc<Verdicts>>,
    /// Where reports go.
    pub fleet: watch::Sender<Fleet>,
    /// What proxies are offered: they report its revisions.
    pub offers: watch::Receiver<Option<Arc<Offer>>>,
    /// Where verdicts go that proxies have from before.
    pub handed_back: mpsc::Sender<HandedBack>,
    /// Until when proxies may have some: their verdicts hold for so long without a sidecar.
    pub young_until: Instant,
    /// What a filter must show as bearer token; empty: nothing.
    pub token: String,
    /// Where replies are counted.
    pub metrics: Metrics,
    /// Where refused configurations are reported.
    pub events: Events,
    /// Ends every wait.
    pub stop: CancellationToken,
}

struct Shared {
    exchange: Exchange,
    waiting: Semaphore,
}

/// Why a post gets no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Refusal {
    #[error("the bearer token is missing or wrong")]
    Token,
    #[error("the content type must be {}", wire::CONTENT_TYPE)]
    MediaType,
    #[error("the body must have at most {} bytes", wire::MESSAGE_MAX)]
    TooLarge,
    #[error("the body did not come in time or not at all")]
    Incomplete,
    #[error("{0}")]
    Message(wire::MessageError),
    #[error("the registry is not read yet")]
    NotReady,
    #[error("too many polls are waiting")]
    Busy,
}

/// The exchange's one route.
pub fn router(exchange: Exchange) -> Router {
    let waiting = Semaphore::new(WAITING_MAX);
    Router::new()
        .route(wire::PATH, post(take))
        .with_state(Arc::new(Shared { exchange, waiting }))
}

async fn take(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (reply, response) = match shared.reply(request).await {
        Ok((reply, answer)) => {
            let headers = [(CONTENT_TYPE, wire::CONTENT_TYPE)];
            (reply, (headers, answer.to_json()).into_response())
        }
        Err(refusal) => (refusal.label(), refusal.into_response()),
    };
    shared.exchange.metrics.exchange(reply);
    response
}

impl Shared {
    async fn reply(&self, request: Request) -> Result<(&'static str, Answer), Refusal> {
        let (parts, body) = request.into_parts();
        self.admit(&parts.headers)?;
        let mut request = read(body).await?;
        if let Some(offer) = self.exchange.offers.borrow().as_deref() {
            tell_of_the_registry(&mut request, offer);
        }
        let (have, now) = (request.have, Instant::now());
        let young = now < self.exchange.young_until;
        let unhealthy = request.unhealthy.clone().unwrap_or_default();
        let taken = fleet::take(&self.exchange.fleet, request, now);
        if let Some(event) = taken.event {
            self.exchange.events.report(event);
        }
        if young && taken.ask_back {
            let answer = Answer {
                version: have,
                hand_back: true,
                ..Answer::default()
            };
            return Ok(("hand_back", answer));
        }
        if young && !unhealthy.is_empty() {
            self.take_back(unhealthy).await;
        }
        self.poll(have).await
    }

    /// Waits until the prober has taken verdicts over, so that they are in the answer.
    async fn take_back(&self, verdicts: Vec<ClusterVerdicts>) {
        let (taken, told) = oneshot::channel();
        let handing = async {
            let back = HandedBack { verdicts, taken };
            if self.exchange.handed_back.send(back).await.is_ok() {
                let _ = told.await;
            }
        };
        // A prober that takes so long says nothing either.
        let _ = timeout(HOLD, handing).await;
    }

    fn admit(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let shown = headers
            .get(AUTHORIZATION)
            .map_or(&b""[..], |value| value.as_bytes());
        let shown = shown.strip_prefix(b"Bearer ").unwrap_or_default();
        let token = self.exchange.token.as_bytes();
        if !token.is_empty() && !bool::from(shown.ct_eq(token)) {
            return Err(Refusal::Token);
        }
        let content_type = headers
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        let essence = content_type
            .and_then(|text| text.split(';').next())
            .unwrap_or("");
        if !essence.trim().eq_ignore_ascii_case(wire::CONTENT_TYPE) {
            return Err(Refusal::MediaType);
        }
        Ok(())
    }

    /// Waits until there is something newer than `have`.
    async fn poll(&self, have: Version) -> Result<(&'static str, Answer), Refusal> {
        let _place = self.waiting.try_acquire().map_err(|_| Refusal::Busy)?;
        let deadline = Instant::now() + HOLD;
        let mut told = self.exchange.verdicts.clone();
        loop {
            let verdicts = Arc::clone(&told.borrow_and_update());
            let (ready, answer) = (verdicts.ready(), verdicts.answer(have));
            if let Some(answer) = answer.filter(|_| ready) {
                return Ok((if answer.full { "full" } else { "delta" }, answer));
            }
            let changed = tokio::select! {
                changed = timeout_at(deadline, told.changed()) => matches!(changed, Ok(Ok(()))),
                () = self.exchange.stop.cancelled() => false,
            };
            if !changed {
                let unchanged = Answer {
                    version: have,
                    ..Answer::default()
                };
                return if ready {
                    Ok(("unchanged", unchanged))
                } else {
                    Err(Refusal::NotReady)
                };
            }
        }
    }
}

/// Lets revisions of views be those of the registry.
fn tell_of_the_registry(request: &mut wire::Request, offer: &Offer) {
    let refused = request.rejected.iter_mut().map(|it| &mut it.revision);
    for revision in request.revisions.iter_mut().chain(refused) {
        *revision = offer.registry_revision(*revision);
    }
}

async fn read(body: Body) -> Result<wire::Request, Refusal> {
    let body = timeout(READ_MAX, to_bytes(body, wire::MESSAGE_MAX)).await;
    let body = body.map_err(|_| Refusal::Incomplete)?.map_err(|error| {
        let too_large = error.into_inner().is::<LengthLimitError>();
        if too_large {
            Refusal::TooLarge
        } else {
            Refusal::Incomplete
        }
    })?;
    wire::Request::parse(&body).map_err(Refusal::Message)
}

impl Refusal {
    fn label(&self) -> &'static str {
        match self {
            Refusal::Token => "bad_token",
            Refusal::MediaType => "bad_content_type",
            Refusal::TooLarge => "too_large",
            Refusal::Incomplete => "incomplete",
            Refusal::Message(_) => "bad_message",
            Refusal::NotReady => "not_ready",
            Refusal::Busy => "busy",
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Refusal::Token => StatusCode::UNAUTHORIZED,
            Refusal::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Refusal::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Refusal::Incomplete => StatusCode::REQUEST_TIMEOUT,
            Refusal::Message(_) => StatusCode::BAD_REQUEST,
            Refusal::NotReady | Refusal::Busy => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = axum::Json(json!({"error": self.to_string()}));
        (self.status(), body).into_response()
    }
}

#[cfg(test)]
mod tests;
