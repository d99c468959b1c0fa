//! A backend's HTTP/1.1.

use std::future::pending;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, UPGRADE};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::behaviour::{Act, Answer};
use super::connection::Connection;
use super::lock;
use crate::websocket;

pub(super) async fn serve(stream: TcpStream, connection: Arc<Connection>) {
    let service = service_fn(|request| answer(request, Arc::clone(&connection)));
    let http = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    // An error, here and below, is a client that went away: the records say what it had sent.
    let _ = http.await;
    let websocket = lock(&connection.websocket).take();
    if let Some((socket, _in_flight)) = websocket
        && let Ok(stream) = socket.await
    {
        let _ = websocket::echo_all(TokioIo::new(stream)).await;
    }
}

async fn answer(
    mut request: Request<Incoming>,
    connection: Arc<Connection>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let socket = request
        .headers()
        .contains_key(UPGRADE)
        .then(|| hyper::upgrade::on(&mut request));
    let (head, body) = request.into_parts();
    let path = head
        .uri
        .path_and_query()
        .map_or("/", |path| path.as_str())
        .to_owned();
    let mut ticket = connection.arrived(head.method, path, head.headers);
    let body = body.collect().await?;
    ticket.trailers(body.trailers().cloned());
    ticket.body(&body.to_bytes());
    match ticket.act().await {
        Act::Answer(answer) => match socket {
            Some(socket) if answer.status == StatusCode::OK => {
                lock(&connection.websocket).replace((socket, ticket));
                Ok(answer.into_handshake())
            }
            _ => Ok(answer.into_http1()),
        },
        Act::Retire(answer) => {
            let mut response = answer.into_http1();
            response
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
            Ok(response)
        }
        Act::Close => {
            connection.close.notify_one();
            pending().await
        }
        Act::Reset | Act::RefuseStream => {
            connection.reset.notify_one();
            pending().await
        }
    }
}

impl Answer {
    fn into_http1(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(self.body));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }

    fn into_handshake(self) -> Response<Full<Bytes>> {
        let mut response = self.into_http1();
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *response.body_mut() = Full::default();
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(
            SEC_WEBSOCKET_ACCEPT,
            HeaderValue::from_static(websocket::ACCEPT),
        );
        response
    }
}
