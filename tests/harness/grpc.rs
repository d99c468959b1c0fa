//! A unary gRPC call, seen as what it is on the wire: HTTP/2 with trailers.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use bytes::Bytes;
use hyper::{HeaderMap, Request, StatusCode};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::client::DEADLINE;

/// One byte of flags and four of length stand before each message.
const PREFIX_BYTES: usize = 5;

/// How a call ended.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The HTTP status: 200 on any gRPC answer.
    pub status: StatusCode,
    /// The response's header fields.
    pub headers: HeaderMap,
    /// `grpc-status`, from the trailers or a trailers-only answer.
    pub grpc_status: Option<u8>,
    /// The message, without its length prefix.
    pub message: Bytes,
}

/// Calls the method at `path` (`/package.Service/Method`) on a connection of its own.
///
/// The message is opaque bytes: backends send it back.
pub async fn call(to: SocketAddr, path: &str, message: &[u8]) -> Result<Reply> {
    timeout(DEADLINE, exchange(to, path, message))
        .await
        .context("no reply in time")?
}

async fn exchange(to: SocketAddr, path: &str, message: &[u8]) -> Result<Reply> {
    let stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = h2::client::handshake(stream).await?;
    // Dropped, and with it the connection, at the end of the call.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let request = Request::post(format!("http://story{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())?;
    let (response, mut body) = sender.ready().await?.send_request(request, false)?;
    let mut frame = vec![0];
    frame.extend(u32::try_from(message.len())?.to_be_bytes());
    frame.extend(message);
    body.send_data(Bytes::from(frame), true)?;
    let (head, mut body) = response.await?.into_parts();
    let mut received = Vec::new();
    while let Some(bytes) = body.data().await {
        let bytes = bytes?;
        body.flow_control().release_capacity(bytes.len())?;
        received.extend(&bytes);
    }
    let trailers = body.trailers().await?.unwrap_or_default();
    let status = trailers
        .get("grpc-status")
        .or_else(|| head.headers.get("grpc-status"));
    let grpc_status = status.map(|status| status.to_str()?.parse().context("grpc-status"));
    Ok(Reply {
        status: head.status,
        grpc_status: grpc_status.transpose()?,
        headers: head.headers,
        message: Bytes::copy_from_slice(received.get(PREFIX_BYTES..).unwrap_or_default()),
    })
}
