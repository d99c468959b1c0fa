//! A backend's HTTP/2 without TLS.

use std::sync::Arc;

use anyhow::Result;
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use hyper::{Request, Response};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::behaviour::Act;
use super::connection::Connection;

pub(super) async fn serve(stream: TcpStream, connection: Arc<Connection>) {
    // Errors, here and below, are clients that went away: the records say what they had sent.
    let Ok(mut http) = h2::server::handshake(stream).await else {
        return;
    };
    let mut streams = JoinSet::new();
    loop {
        tokio::select! {
            accepted = http.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    streams.spawn(answer(request, respond, Arc::clone(&connection)));
                }
                Some(Err(_)) | None => return,
            },
            Some(_) = streams.join_next() => {}
            () = connection.retire.notified() => http.graceful_shutdown(),
        }
    }
}

async fn answer(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    connection: Arc<Connection>,
) -> Result<()> {
    let (head, mut body) = request.into_parts();
    let path = head
        .uri
        .path_and_query()
        .map_or("/", |path| path.as_str())
        .to_owned();
    let mut ticket = connection.arrived(head.method, path, head.headers);
    while let Some(bytes) = body.data().await {
        let bytes = bytes?;
        body.flow_control().release_capacity(bytes.len())?;
        ticket.body(&bytes);
    }
    ticket.trailers(body.trailers().await?);
    let answer = match ticket.act().await {
        Act::Answer(answer) => answer,
        Act::Retire(answer) => {
            connection.retire.notify_one();
            answer
        }
        Act::RefuseStream => {
            respond.send_reset(Reason::REFUSED_STREAM);
            return Ok(());
        }
        Act::Close => {
            connection.close.notify_one();
            return Ok(());
        }
        Act::Reset => {
            connection.reset.notify_one();
            return Ok(());
        }
    };
    let mut response = Response::new(());
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    let bare = answer.body.is_empty() && answer.trailers.is_none();
    let mut stream = respond.send_response(response, bare)?;
    if !bare {
        stream.send_data(answer.body, answer.trailers.is_none())?;
    }
    if let Some(trailers) = answer.trailers {
        stream.send_trailers(trailers)?;
    }
    Ok(())
}
