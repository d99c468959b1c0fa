//! From a verdict that is pushed to every worker obeying it. The bench itself is the sidecar's end
//! of the exchange here, so that no prober's interval is in the figure.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use harness::Bootstrap;
use harness::port::Port;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use pointsman_filter::base::hash::{self, BackendKey};
use pointsman_filter::fleet::exchange::{
    Answer, CONTENT_TYPE, ClusterVerdicts, Request as Poll, Version,
};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::contender::CLUSTER;
use crate::delivery::Watchers;
use crate::figures::{percentile, rounded, tail};
use crate::machine::Cores;
use crate::profile::Profile;
use crate::responder::Responder;

const WORKERS: u32 = 2;
const SIDECAR: &str = "pointsman_sidecar";
/// How long a poll is held when there is nothing new, as the sidecar does.
const HOLD: Duration = Duration::from_secs(1);
/// Long enough for the next poll to be waiting.
const REST: Duration = Duration::from_millis(60);

/// Pushes verdicts one after the other; the figure is the slowest worker's.
pub async fn run(profile: &Profile, cores: Cores) -> Result<Value> {
    println!("  {} verdicts", profile.verdicts);
    let responder = Responder::start(cores.others).await?;
    let judged = (format!("{CLUSTER}-0"), responder.address(0).to_string());
    let key = hash::backend_key(&judged.0, &judged.1);
    let mut exchange = Exchange::start()?;
    let container = json!({
        "schema": 1,
        "exchange": {"cluster": SIDECAR},
        "clusters": [{
            "name": CLUSTER,
            "sticky": {"cookie": "POINTSMAN"},
            "backends": [
                {"id": judged.0, "address": judged.1, "stickyId": "moving"},
                {"id": "spare", "address": responder.address(1).to_string(), "backup": true},
            ],
        }],
    });
    let bootstrap = Bootstrap::fixed(&container)?
        .endpoints(CLUSTER, &responder.addresses(2))?
        .endpoints(SIDECAR, &[exchange.port.address()])?
        .concurrency(WORKERS)
        .exact_balance()?;
    let envoy = harness::Envoy::start(bootstrap).await?;
    let clients = envoy.pinned_clients().await?;
    let answers_from = |backend: u32| responder.address(backend).ip().to_string();
    let mut watchers = Watchers::start(clients, &answers_from(0)).await?;
    // The first poll comes with the first tick; the first answer to it is not measured.
    exchange.push(key, true);
    let mut millis = Vec::new();
    for push in 0..=profile.verdicts {
        sleep(REST).await;
        let healthy = push % 2 == 1;
        let pushed = Instant::now();
        exchange.push(key, healthy);
        let news = answers_from(u32::from(!healthy));
        let obeyed = watchers.until_all_see(&news).await?;
        if push > 0 {
            millis.push((obeyed - pushed).as_secs_f64() * 1e3);
        }
    }
    watchers.stop().await;
    let (tail, slowest) = tail(&mut millis);
    Ok(json!({
        "p50Ms": percentile(&mut millis, 0.5).map(rounded),
        tail: slowest,
        "verdicts": millis.len(),
    }))
}

/// The sidecar's end: answers polls with the newest verdict.
struct Exchange {
    port: Port,
    newest: Arc<watch::Sender<Answer>>,
    counter: u64,
    _acceptor: JoinSet<()>,
}

impl Exchange {
    fn start() -> Result<Self> {
        let port = Port::reserve()?;
        let listener = port.listen()?;
        let newest = Arc::new(watch::Sender::new(verdict(1, BackendKey(0), true)));
        let mut acceptor = JoinSet::new();
        let answers = Arc::clone(&newest);
        acceptor.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let answers = Arc::clone(&answers);
                let serve = service_fn(move |request| answer(request, answers.subscribe()));
                let connection =
                    http1::Builder::new().serve_connection(TokioIo::new(stream), serve);
                connections.spawn(async move {
                    // A connection that breaks is opened again by Envoy.
                    let _ = connection.await;
                });
            }
        });
        Ok(Exchange {
            port,
            newest,
            counter: 1,
            _acceptor: acceptor,
        })
    }

    fn push(&mut self, key: BackendKey, healthy: bool) {
        self.counter += 1;
        self.newest
            .send_replace(verdict(self.counter, key, healthy));
    }
}

fn verdict(counter: u64, key: BackendKey, healthy: bool) -> Answer {
    Answer {
        version: Version {
            epoch: 1,
            counter,
            revision: 0,
        },
        full: true,
        clusters: vec![ClusterVerdicts {
            name: CLUSTER.to_owned(),
            unhealthy: if healthy { Vec::new() } else { vec![key] },
            healthy: Vec::new(),
        }],
        hand_back: false,
    }
}

async fn answer(
    request: Request<Incoming>,
    mut news: watch::Receiver<Answer>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let body = request.into_body().collect().await?.to_bytes();
    let have = Poll::parse(&body).map(|poll| poll.have).unwrap_or_default();
    let newer = news.wait_for(|newest| newest.version != have);
    // Nothing newer: the same again, as the sidecar answers.
    let held = timeout(HOLD, newer).await.is_err();
    let newest = news.borrow_and_update().clone();
    let text = match held {
        true => Answer {
            full: false,
            clusters: Vec::new(),
            ..newest
        }
        .to_json(),
        false => newest.to_json(),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    let content_type = hyper::header::HeaderValue::from_static(CONTENT_TYPE);
    response
        .headers_mut()
        .insert(hyper::header::CONTENT_TYPE, content_type);
    Ok(response)
}
