//! JSON-RPC: bodies are read before requests are sent anywhere, batches cost what they cost, and errors
//! are ones that clients understand.

mod batches;
mod bodies;
mod ends;
mod errors;
mod http2;
mod replays;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use harness::client::post;
use harness::raw::{self, RawResponse};
use harness::registry::cluster;
use harness::{Client, Response, Upstream};
use serde_json::{Value, json};

use crate::scene::CLUSTER;

/// What a slow client waits between two parts of its request.
const PAUSE: Duration = Duration::from_millis(5);

/// [`CLUSTER`] in turn, whose bodies are read by these rules.
fn document(backends: &[&Upstream], rules: Value) -> Value {
    let settings = json!({"loadBalancing": {"policy": "RoundRobin"}, "jsonRpc": rules});
    cluster(CLUSTER, backends, settings)
}

/// A POST of JSON.
async fn ask(client: &mut Client, body: impl Into<String>) -> Result<Response> {
    let mut request = post("/", body.into());
    let json = "application/json".parse()?;
    request.headers_mut().insert("content-type", json);
    client.send(request).await
}

/// A batch of so many requests.
fn batch(length: usize) -> String {
    let one = r#"{"jsonrpc":"2.0","id":1,"method":"a"}"#;
    format!("[{}]", vec![one; length].join(","))
}

/// A body of so many bytes of which nothing is known before its last.
fn body_of(length: usize) -> String {
    format!("[{}1]", " ".repeat(length - 3))
}

/// How a client sends a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// It says how long it is, and sends it at once.
    Length,
    /// In chunks, at once.
    Chunked,
    /// In two chunks, each read by itself.
    TwoReads,
    /// In many chunks, slowly.
    Slow,
}

/// Sends a POST of JSON, on a connection of its own.
async fn send(to: SocketAddr, way: Way, body: &[u8]) -> Result<RawResponse> {
    let head =
        "POST / HTTP/1.1\r\nhost: story\r\nconnection: close\r\ncontent-type: application/json\r\n";
    let mut parts = vec![head.as_bytes().to_vec()];
    match way {
        Way::Length => {
            parts[0].extend(format!("content-length: {}\r\n\r\n", body.len()).bytes());
            parts[0].extend(body);
        }
        Way::Chunked | Way::TwoReads | Way::Slow => {
            parts[0].extend(b"transfer-encoding: chunked\r\n\r\n");
            let size = match way {
                Way::TwoReads => body.len().div_ceil(2),
                _ => body.len().div_ceil(8),
            };
            for chunk in body.chunks(size.max(1)) {
                parts.push(format!("{:x}\r\n", chunk.len()).into_bytes());
                let last = parts.len() - 1;
                parts[last].extend(chunk);
                parts[last].extend(b"\r\n");
            }
            parts.push(b"0\r\n\r\n".to_vec());
        }
    }
    let whole = [parts.concat()];
    let parts = match way {
        Way::Length | Way::Chunked => &whole[..],
        Way::TwoReads | Way::Slow => &parts,
    };
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    raw::exchange_slowly(to, &parts, PAUSE).await
}
