//! The few bytes of RFC 6455 that both ends of a story need: one handshake, short text frames.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// The key of the RFC's own example, and the answer that proves it was understood.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// What a server must answer to [`KEY`].
pub(crate) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

const FINAL_TEXT: u8 = 0x81;
const MASKED: u8 = 0x80;
const MASK: [u8; 4] = [1, 2, 3, 4];

/// A client's side of one websocket.
#[derive(Debug)]
pub struct WebSocket {
    stream: TcpStream,
}

impl WebSocket {
    /// Shakes hands at `path`; fails, quoting the answer, on anything but a right 101.
    pub async fn open(to: SocketAddr, path: &str) -> Result<Self> {
        let mut stream = TcpStream::connect(to).await?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: story\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: {KEY}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(
                stream
                    .read_u8()
                    .await
                    .context("the answer's head is cut off")?,
            );
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        ensure!(head.starts_with("HTTP/1.1 101"), "no websocket: {head}");
        ensure!(head.contains(ACCEPT), "the key was not accepted: {head}");
        Ok(WebSocket { stream })
    }

    /// Sends a text of at most 125 bytes and returns the one that comes back.
    pub async fn echo(&mut self, text: &str) -> Result<String> {
        let length = u8::try_from(text.len()).ok().filter(|length| *length < 126);
        let mut frame = vec![FINAL_TEXT, MASKED | length.context("the text is too long")?];
        frame.extend(MASK);
        frame.extend(
            text.bytes()
                .zip(MASK.iter().cycle())
                .map(|(byte, mask)| byte ^ mask),
        );
        self.stream.write_all(&frame).await?;
        let answer = read_frame(&mut self.stream)
            .await?
            .context("closed instead of an echo")?;
        Ok(String::from_utf8(answer)?)
    }
}

/// A server's side: sends every text back until the client closes.
pub(crate) async fn echo_all<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> Result<()> {
    while let Some(text) = read_frame(&mut stream).await? {
        let mut frame = vec![FINAL_TEXT, u8::try_from(text.len())?];
        frame.extend(text);
        stream.write_all(&frame).await?;
    }
    Ok(())
}

/// The text of one frame; `None` when the peer has closed or sent anything but text.
async fn read_frame<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Option<Vec<u8>>> {
    let mut head = [0; 2];
    if stream.read_exact(&mut head).await.is_err() || head[0] != FINAL_TEXT {
        return Ok(None);
    }
    let mut mask = [0; 4];
    if head[1] & MASKED != 0 {
        stream.read_exact(&mut mask).await?;
    }
    let mut text = vec![0; usize::from(head[1] & !MASKED)];
    stream.read_exact(&mut text).await?;
    for (byte, mask) in text.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
    Ok(Some(text))
}
