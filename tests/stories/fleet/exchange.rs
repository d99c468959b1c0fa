//! Answers of a sidecar that the real one gives on a bad day only: cut off, or late. The stand-in
//! here gives each when the story wants it.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use harness::port::Port;
use harness::{Bootstrap, Client, Envoy, Upstream, eventually};
use pointsman_filter::base::hash::backend_key;
use pointsman_filter::fleet::exchange::{Answer, CONTENT_TYPE, ClusterVerdicts, Request, Version};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use crate::scene::{CLUSTER, SOON, answered_by, backends, shares};

const SIDECAR: &str = "pointsman_sidecar";

/// A sidecar that answers nothing by itself.
struct StandIn {
    port: Port,
    posts: mpsc::UnboundedReceiver<Post>,
    acceptor: JoinHandle<()>,
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

/// A post that waits for its answer.
struct Post {
    request: Request,
    stream: TcpStream,
}

impl StandIn {
    fn start() -> Result<Self> {
        let port = Port::reserve()?;
        let listener = port.listen()?;
        let (sender, posts) = mpsc::unbounded_channel();
        let acceptor = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let sender = sender.clone();
                connections.spawn(async move {
                    // A connection that Envoy closes, or a story that has seen enough, is no error.
                    if let Ok(post) = read(stream).await {
                        let _ = sender.send(post);
                    }
                });
            }
        });
        Ok(StandIn {
            port,
            posts,
            acceptor,
        })
    }

    async fn next(&mut self) -> Result<Post> {
        let post = timeout(SOON, self.posts.recv()).await;
        post.context("no post")?.context("the stand-in has ended")
    }
}

/// One post per connection, so that an answer's end is the connection's.
async fn read(stream: TcpStream) -> Result<Post> {
    let mut stream = BufReader::new(stream);
    let mut size = 0;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(bytes) = line.strip_prefix("content-length:") {
            size = bytes.trim().parse()?;
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; size];
    stream.read_exact(&mut body).await?;
    let request = Request::parse(&body)?;
    let stream = stream.into_inner();
    Ok(Post { request, stream })
}

impl Post {
    async fn answer(self, answer: &Answer) -> Result<()> {
        let body = answer.to_json();
        self.write(&body, body.len()).await
    }

    /// All headers, and half of the body that they promise.
    async fn cut_off(self, answer: &Answer) -> Result<()> {
        let body = answer.to_json();
        self.write(&body[..body.len() / 2], body.len()).await
    }

    async fn write(mut self, body: &str, promised: usize) -> Result<()> {
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {CONTENT_TYPE}\r\ncontent-length: {promised}\r\n\
             connection: close\r\n\r\n"
        );
        self.stream
            .write_all(format!("{head}{body}").as_bytes())
            .await?;
        Ok(self.stream.shutdown().await?)
    }
}

/// A full set of this counter in which these backends are unhealthy.
fn full(counter: u64, unhealthy: &[&Upstream]) -> Answer {
    let key = |backend: &&Upstream| backend_key(backend.id(), &backend.address().to_string());
    Answer {
        version: version(counter),
        full: true,
        clusters: vec![ClusterVerdicts {
            name: CLUSTER.to_owned(),
            unhealthy: unhealthy.iter().map(key).collect(),
            healthy: Vec::new(),
        }],
        hand_back: false,
    }
}

fn version(counter: u64) -> Version {
    Version {
        epoch: 1,
        counter,
        revision: 0,
    }
}

async fn serve(sidecar: &StandIn, backends: &[&Upstream], ttl: &str) -> Result<Envoy> {
    let document = harness::registry::cluster(
        CLUSTER,
        backends,
        json!({"loadBalancing": {"policy": "RoundRobin"}}),
    );
    let exchange = json!({"cluster": SIDECAR, "verdictTtl": ttl});
    let container = json!({"schema": 1, "exchange": exchange, "clusters": [document]});
    let addresses: Vec<SocketAddr> = backends.iter().map(|backend| backend.address()).collect();
    let bootstrap = Bootstrap::fixed(&container)?
        .endpoints(CLUSTER, &addresses)?
        .endpoints(SIDECAR, &[sidecar.port.address()])?;
    Envoy::start(bootstrap).await
}

/// Envoy's name for the number of exchanges that ended so.
fn exchanges(how: &str) -> String {
    format!("wasmcustom.pointsman_exchanges_total;r={how}")
}

/// Waits until exactly these serve.
async fn wait_for_servers(client: &mut Client, wanted: &[&str]) -> Result<()> {
    eventually(SOON, &format!("{wanted:?} to serve"), async || {
        let order = answered_by(client, 6).await?;
        let seen: Vec<&str> = shares(&order).into_keys().collect();
        ensure!(seen == wanted, "{seen:?}");
        Ok(())
    })
    .await
}

/// Invariant 1: the sidecar dies after its answer's headers. Envoy then tells of no headers at all.
#[tokio::test]
async fn an_answer_that_is_cut_off_is_a_failed_post_and_no_more() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let mut sidecar = StandIn::start()?;
    let envoy = serve(&sidecar, &[&a, &b], "30s").await?;
    let mut client = envoy.client();
    for cut in 1..=4 {
        let post = sidecar.next().await?;
        ensure!(post.request.have == Version::default(), "post {cut}");
        post.cut_off(&full(1, &[&a])).await?;
        envoy.wait_for_stat(&exchanges("failed"), cut).await?;
        let order = answered_by(&mut client, 4).await?;
        ensure!(
            shares(&order).len() == 2,
            "half an answer was taken: {order:?}"
        );
    }
    sidecar.next().await?.answer(&full(1, &[&a])).await?;
    wait_for_servers(&mut client, &["b"]).await?;
    envoy.wait_for_stat(&exchanges("done"), 1).await?;
    ensure!(envoy.stat(&exchanges("failed")).await? == 4);
    Ok(())
}

/// HC-23: verdicts run out while a post is open, and its answer, that nothing has changed, says
/// nothing of the gates that are empty by now.
#[tokio::test]
async fn hc_23_no_news_of_verdicts_that_have_run_out_is_no_verdict() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let mut sidecar = StandIn::start()?;
    let envoy = serve(&sidecar, &[&a, &b], "1s").await?;
    let mut client = envoy.client();
    sidecar.next().await?.answer(&full(5, &[&a])).await?;
    let open = sidecar.next().await?;
    ensure!(open.request.have == version(5), "{:?}", open.request.have);
    wait_for_servers(&mut client, &["b"]).await?;
    wait_for_servers(&mut client, &["a", "b"]).await?;
    let unchanged = Answer {
        version: version(5),
        ..Answer::default()
    };
    open.answer(&unchanged).await?;
    let next = sidecar.next().await?;
    println!("after the late answer it asks from {:?}", next.request.have);
    ensure!(next.request.have == Version::default(), "a is asked for");
    next.answer(&full(5, &[&a])).await?;
    wait_for_servers(&mut client, &["b"]).await?;
    ensure!(envoy.stat(&exchanges("failed")).await? == 0);
    Ok(())
}

/// A sidecar that has just started is told whom the one before it held to be unhealthy.
#[tokio::test]
async fn a_filter_hands_back_the_verdicts_it_has_until_that_is_answered() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let mut sidecar = StandIn::start()?;
    let envoy = serve(&sidecar, &[&a, &b], "30s").await?;
    let mut client = envoy.client();
    sidecar.next().await?.answer(&full(5, &[&a])).await?;
    wait_for_servers(&mut client, &["b"]).await?;
    let post = sidecar.next().await?;
    ensure!(post.request.unhealthy.is_none(), "nobody has asked");
    let asking = Answer {
        version: post.request.have,
        hand_back: true,
        ..Answer::default()
    };
    post.answer(&asking).await?;
    for answered in [false, true] {
        let post = sidecar.next().await?;
        let handed = &post.request.unhealthy;
        ensure!(*handed == Some(full(5, &[&a]).clusters), "{handed:?}");
        match answered {
            false => post.cut_off(&full(6, &[&a])).await?,
            true => post.answer(&full(6, &[&a])).await?,
        }
    }
    let post = sidecar.next().await?;
    ensure!(post.request.have == version(6) && post.request.unhealthy.is_none());
    a.forget();
    wait_for_servers(&mut client, &["b"]).await?;
    ensure!(a.hits() == 0);
    Ok(())
}
