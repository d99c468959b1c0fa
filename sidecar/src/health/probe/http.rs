//! A probe's request and the judgement of its response, over HTTP/1.1 or HTTP/2.

use std::error::Error;
use std::future::Future;
use std::io;

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::header::{CONNECTION, HOST};
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use pointsman_filter::config::HttpProbe;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Fault;
use crate::model::outcome::{Failure, Obstacle, Outcome};

/// Longest response body of a probe, bytes (HC-7).
const BODY_MAX: usize = 4096;
/// Longest response head, bytes: as small as hyper allows.
const HEAD_MAX: usize = 8192;
const HEAD_MAX_H2: u32 = 8192;

/// Sends the probe's request over a fresh connection and judges the response.
pub async fn exchange<S>(
    probe: &HttpProbe,
    host: &str,
    scheme: &str,
    http2: bool,
    stream: S,
) -> Result<(), Fault>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let io = TokioIo::new(stream);
    if http2 {
        let uri = format!("{scheme}://{host}{}", probe.path);
        let request = request(probe, &uri, Version::HTTP_2, None)?;
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.max_header_list_size(HEAD_MAX_H2);
        let (mut sender, connection) = builder.handshake(io).await.map_err(|e| fault(&e))?;
        drive(connection, judge(probe, sender.send_request(request))).await
    } else {
        let request = request(probe, &probe.path, Version::HTTP_11, Some(host))?;
        let mut builder = http1::Builder::new();
        builder.max_buf_size(HEAD_MAX);
        let (mut sender, connection) = builder.handshake(io).await.map_err(|e| fault(&e))?;
        drive(connection, judge(probe, sender.send_request(request))).await
    }
}

fn request(
    probe: &HttpProbe,
    uri: &str,
    version: Version,
    host: Option<&str>,
) -> Result<Request<Full<Bytes>>, Fault> {
    let mut request = Request::builder()
        .method(probe.method.as_str())
        .uri(uri)
        .version(version);
    if let Some(host) = host {
        request = request.header(HOST, host).header(CONNECTION, "close");
    }
    for (name, value) in &probe.headers {
        request = request.header(name, value);
    }
    let body = Full::new(Bytes::copy_from_slice(probe.body.as_bytes()));
    request
        .body(body)
        .map_err(|_| Outcome::Unknown(Obstacle::Request))
}

async fn judge(
    probe: &HttpProbe,
    response: impl Future<Output = hyper::Result<Response<Incoming>>>,
) -> Result<(), Fault> {
    let response = response.await.map_err(|error| fault(&error))?;
    let status = response.status().as_u16();
    if !probe.expects(status) {
        return Err(Outcome::Failed(Failure::Status(status)));
    }
    match Limited::new(response.into_body(), BODY_MAX).collect().await {
        Ok(_) => Ok(()),
        Err(error) if error.is::<LengthLimitError>() => Err(Outcome::Failed(Failure::TooLarge)),
        Err(error) => Err(fault(error.as_ref())),
    }
}

/// Runs the connection for as long as the judgement needs it, on no task of its own.
async fn drive(
    connection: impl Future<Output = hyper::Result<()>>,
    judgement: impl Future<Output = Result<(), Fault>>,
) -> Result<(), Fault> {
    tokio::pin!(judgement);
    tokio::select! {
        biased;
        judged = &mut judgement => judged,
        // What was read before the end can still be judged.
        ended = connection => match (judgement.await, ended) {
            (Err(Outcome::Failed(Failure::Closed)), Err(error)) => Err(fault(&error)),
            (judged, _) => judged,
        },
    }
}

/// What an error of the connection says about the backend.
fn fault(error: &(dyn Error + 'static)) -> Fault {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<hyper::Error>() {
            if error.is_parse_too_large() {
                return Outcome::Failed(Failure::TooLarge);
            }
            if error.is_parse() {
                return Outcome::Failed(Failure::Protocol);
            }
            if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
                return Outcome::Failed(Failure::Closed);
            }
        }
        if let Some(error) = error.downcast_ref::<io::Error>() {
            let tls = error
                .get_ref()
                .is_some_and(|inner| inner.is::<rustls::Error>());
            return Outcome::Failed(if tls { Failure::Tls } else { Failure::Closed });
        }
        cause = error.source();
    }
    Outcome::Failed(Failure::Protocol)
}
