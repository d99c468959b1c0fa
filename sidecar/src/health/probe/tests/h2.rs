//! Probes over HTTP/2 without TLS.

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::*;

/// Answers every request over HTTP/2 with its authority and scheme in the body.
pub async fn serve_h2<S>(stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let answer = service_fn(|request: Request<Incoming>| async move {
        let uri = request.uri();
        let known = uri.authority().is_some() && uri.path() == "/healthz";
        let status = if known { 200 } else { 400 };
        Response::builder()
            .status(status)
            .body(Full::new(Bytes::from_static(b"fine")))
    });
    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    let _ = server.serve_connection(TokioIo::new(stream), answer).await;
}

fn http2() -> Plan {
    plan(json!({"http2": true, "healthCheck": {"http": {}, "timeout": "2s"}}))
}

#[tokio::test]
async fn hc_4_h2c_follows_the_clusters_http2() {
    let h2c = server(serve_h2).await;
    assert_eq!(outcome(&http2(), h2c.address).await, Outcome::Passed);
    let over_h1 = outcome(&http(), h2c.address).await;
    assert!(matches!(over_h1, Outcome::Failed(_)), "{over_h1:?}");
    let h1 = says("HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n").await;
    let over_h2 = outcome(&http2(), h1.address).await;
    assert!(
        matches!(
            over_h2,
            Outcome::Failed(Failure::Protocol | Failure::Closed)
        ),
        "{over_h2:?}"
    );
}

#[tokio::test]
async fn hc_4_goaway_and_broken_frames_fail() {
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let go_away = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
    let orphan_continuation = [0, 0, 1, 9, 4, 0, 0, 0, 1, 0x88];
    for frame in [&go_away[..], &orphan_continuation[..]] {
        let answer = [&settings[..], frame].concat();
        let server = server(move |mut stream| {
            let answer = answer.clone();
            async move {
                let mut preface = [0; 24];
                let _ = stream.read_exact(&mut preface).await;
                let _ = stream.write_all(&answer).await;
                let _ = stream.read_to_end(&mut Vec::new()).await;
            }
        })
        .await;
        let outcome = outcome(&http2(), server.address).await;
        assert!(
            matches!(
                outcome,
                Outcome::Failed(Failure::Protocol | Failure::Closed)
            ),
            "{frame:?}: {outcome:?}"
        );
    }
}
