//! Bytes to a socket and back: for what a well-behaved client would refuse to send.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client::DEADLINE;
use crate::wait::slowness;

/// An answer as bytes.
#[derive(Debug, Clone)]
pub struct RawResponse {
    /// The status code.
    pub status: u16,
    /// Everything, status line and head included.
    pub bytes: Vec<u8>,
}

impl RawResponse {
    /// All of it as text, whatever is not UTF-8 replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// Sends `GET path` with header lines as given (bytes, without line ends) and reads to the end.
///
/// Fails when the connection ends without an answer.
pub async fn get(to: SocketAddr, path: &str, headers: &[&[u8]]) -> Result<RawResponse> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: story\r\nconnection: close\r\n");
    let mut request = request.into_bytes();
    for header in headers {
        request.extend(*header);
        request.extend(b"\r\n");
    }
    request.extend(b"\r\n");
    exchange(to, &request).await
}

/// Sends these bytes and reads until the peer closes.
pub async fn exchange(to: SocketAddr, request: &[u8]) -> Result<RawResponse> {
    exchange_slowly(to, &[request], Duration::ZERO).await
}

/// The same by a client that pauses before every part but the first.
pub async fn exchange_slowly(
    to: SocketAddr,
    parts: &[&[u8]],
    pause: Duration,
) -> Result<RawResponse> {
    timeout(DEADLINE, async {
        let mut stream = TcpStream::connect(to).await?;
        for (nth, part) in parts.iter().enumerate() {
            if nth > 0 {
                slowness(pause).await;
            }
            stream.write_all(part).await?;
        }
        let mut bytes = Vec::new();
        // A reset after the answer is no trouble; one instead of it is told by the missing status.
        let end = stream.read_to_end(&mut bytes).await;
        let line = bytes
            .split(|byte| *byte == b'\n')
            .next()
            .unwrap_or_default();
        let line = String::from_utf8_lossy(line).into_owned();
        let status = line
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        let status = status.with_context(|| format!("no answer but {line:?}; then {end:?}"))?;
        Ok(RawResponse { status, bytes })
    })
    .await
    .with_context(|| format!("{to} did not close in {DEADLINE:?}"))?
}
