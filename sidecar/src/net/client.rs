//! The HTTP client of commands: one connection, one request after the other, each with its deadline.

use std::error::Error;
use std::io;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HOST, HeaderValue};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long an answer may take, and how long it may be.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Until the connection stands.
    pub connect: Duration,
    /// From a request to the end of its answer.
    pub answer: Duration,
    /// Longest answer that is read, bytes.
    pub body_max: usize,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Time was up.
    #[error("no answer in time")]
    Late,
    /// There is no connection.
    #[error("{0}")]
    Connection(#[from] io::Error),
    /// The connection or the answer is not to be understood.
    #[error("{0}")]
    Http(#[from] hyper::Error),
    /// The answer is too long, or ended early.
    #[error("{0}")]
    Body(Box<dyn Error + Send + Sync>),
}

/// An open connection.
pub struct Client {
    host: Option<HeaderValue>,
    limits: Limits,
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Client {
    /// Connects to `host:port`.
    pub async fn open(address: &str, limits: Limits) -> Result<Self, CallError> {
        let stream = timeout(limits.connect, TcpStream::connect(address)).await;
        let stream = stream.map_err(|_| CallError::Late)??;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        Ok(Client {
            host: HeaderValue::try_from(address).ok(),
            limits,
            sender,
            // Its error reaches the request that waits for it.
            driver: tokio::spawn(async { drop(connection.await) }),
        })
    }

    /// Sends a request and reads the whole answer.
    pub async fn call(
        &mut self,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Bytes>, CallError> {
        if let Some(host) = &self.host {
            request.headers_mut().insert(HOST, host.clone());
        }
        let body_max = self.limits.body_max;
        let exchange = async {
            let (head, body) = self.sender.send_request(request).await?.into_parts();
            let body = Limited::new(body, body_max).collect().await;
            let body = body.map_err(CallError::Body)?.to_bytes();
            Ok(Response::from_parts(head, body))
        };
        let answered = timeout(self.limits.answer, exchange).await;
        answered.unwrap_or(Err(CallError::Late))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    const LIMITS: Limits = Limits {
        connect: Duration::from_secs(5),
        answer: Duration::from_millis(200),
        body_max: 8,
    };

    /// What comes of asking a peer that says this and then nothing more.
    async fn asked(said: &'static str) -> Result<Response<Bytes>, CallError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let peer = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(said.as_bytes()).await.unwrap();
            std::future::pending::<()>().await
        });
        let mut client = Client::open(&address, LIMITS).await?;
        let answer = client.call(Request::new(Full::default())).await;
        peer.abort();
        answer
    }

    #[tokio::test]
    async fn an_answer_is_whole_and_short_and_comes_in_time_or_is_none() {
        let whole = asked("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        assert_eq!(whole.unwrap().body(), "ok");
        let long = asked("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n123456789").await;
        assert!(matches!(long, Err(CallError::Body(_))), "{long:?}");
        for half in ["", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no"] {
            let late = asked(half).await;
            assert!(matches!(late, Err(CallError::Late)), "{half}: {late:?}");
        }
        let odd = asked("SSH-2.0-x\r\n").await;
        assert!(matches!(odd, Err(CallError::Http(_))), "{odd:?}");
    }
}
