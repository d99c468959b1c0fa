//! The exchange through a real server, and its rules where only time matters.

mod reports;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::http::Request as HttpRequest;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use pointsman_filter::base::hash;
use pointsman_filter::fleet::exchange::{ClusterVerdicts, Rejection};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::*;
use crate::health::Health;
use crate::model::outcome::{Failure, Outcome};

const DEADLINE: Duration = Duration::from_secs(10);
const TOKEN: &str = "0123abcd";

/// An exchange at a port of its own, for one cluster `orders` with one probed backend.
struct Stage {
    address: SocketAddr,
    health: Arc<Hand>,
    fleet: watch::Sender<Fleet>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Stage {
    async fn start(token: &str, ready: bool) -> Self {
        Self::young(token, ready, Duration::ZERO).await
    }

    /// One that asks proxies for so long what they know from before.
    async fn young(token: &str, ready: bool, young: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let address = listener.local_addr().expect("its address");
        let health = Arc::new(Hand::new());
        if ready {
            apply(&health, 1);
        }
        let fleet = watch::Sender::new(Fleet::default());
        let stop = CancellationToken::new();
        let (handing, mut handed_back) = mpsc::channel::<HandedBack>(1);
        tokio::spawn({
            let health = Arc::clone(&health);
            async move {
                while let Some(back) = handed_back.recv().await {
                    health.change(|health| drop(health.take_back(back.verdicts)));
                    back.taken.send(()).expect("it waits");
                }
            }
        });
        let routes = router(Exchange {
            handed_back: handing,
            young_until: Instant::now() + young,
            verdicts: health.verdicts.subscribe(),
            fleet: fleet.clone(),
            offers: watch::Sender::new(None).subscribe(),
            token: token.to_owned(),
            metrics: Metrics::default(),
            events: Events::default(),
            stop: stop.clone(),
        });
        let task = tokio::spawn(async move {
            axum::serve(listener, routes).await.expect("it serves");
        });
        Stage {
            address,
            health,
            fleet,
            stop,
            task,
        }
    }

    /// Posts these bytes; returns status and body.
    async fn post(&self, headers: &[(&str, &str)], body: impl Into<Bytes>) -> (u16, Vec<u8>) {
        let exchange = async {
            let stream = TcpStream::connect(self.address)
                .await
                .expect("a connection");
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
                .await
                .expect("a handshake");
            let mut request = HttpRequest::post(wire::PATH).header("host", "pointsman");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let request = request.body(Full::new(body.into())).expect("a request");
            let response = async {
                let response = sender.send_request(request).await.expect("a response");
                let status = response.status().as_u16();
                (
                    status,
                    response
                        .into_body()
                        .collect()
                        .await
                        .expect("a body")
                        .to_bytes()
                        .to_vec(),
                )
            };
            tokio::select! {
                response = response => response,
                ended = connection => panic!("no response: {ended:?}"),
            }
        };
        timeout(DEADLINE, exchange)
            .await
            .expect("a response in time")
    }

    async fn poll(&self, request: &wire::Request) -> Answer {
        let headers = [
            ("content-type", wire::CONTENT_TYPE),
            ("authorization", "Bearer 0123abcd"),
        ];
        let (status, body) = self.post(&headers, request.to_json()).await;
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        Answer::parse(&body).expect("an answer")
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The prober's part.
struct Hand {
    state: Mutex<Health>,
    verdicts: watch::Sender<Arc<Verdicts>>,
}

impl Hand {
    fn new() -> Self {
        let state = Health::new(5, 7, Duration::from_secs(30));
        Hand {
            verdicts: watch::Sender::new(Arc::new(state.verdicts().clone())),
            state: Mutex::new(state),
        }
    }

    fn change(&self, act: impl FnOnce(&mut Health)) {
        let mut state = self.state.lock().expect("no panic");
        act(&mut state);
        self.verdicts
            .send_replace(Arc::new(state.verdicts().clone()));
    }
}

fn apply(health: &Hand, revision: u64) {
    let document = json!({"name": "orders", "healthCheck": {"tcp": {}, "unhealthyThreshold": 1},
        "backends": [{"id": "a", "address": "10.0.0.1:80"}]});
    let cluster =
        pointsman_filter::config::ClusterConfig::parse(&document).expect("a good document");
    health.change(|health| drop(health.apply(&[cluster], revision, Duration::ZERO)));
}

/// Makes the one backend unhealthy, as the prober would.
fn fail(health: &Hand) {
    let now = Duration::from_secs(60);
    health.change(|health| {
        let jobs = health.start_due(now, 1);
        let outcome = Outcome::Failed(Failure::Refused);
        let events = health
            .take_result(jobs[0].target, outcome, now)
            .expect("it counts");
        assert_eq!(events.len(), 1);
    });
}

fn request(have: Version) -> wire::Request {
    wire::Request {
        node: "edge-1".to_owned(),
        workers: 2,
        have,
        ..wire::Request::default()
    }
}

fn unhealthy() -> Vec<ClusterVerdicts> {
    vec![ClusterVerdicts {
        name: "orders".to_owned(),
        unhealthy: vec![hash::backend_key("a", "10.0.0.1:80")],
        healthy: Vec::new(),
    }]
}

#[tokio::test]
async fn a_filter_without_verdicts_gets_all_at_once_and_a_flip_reaches_a_waiting_poll() {
    let stage = Arc::new(Stage::start(TOKEN, true).await);
    let full = stage.poll(&request(Version::default())).await;
    assert!(
        full.full && full.clusters.is_empty() && full.version.revision == 1,
        "{full:?}"
    );
    let waiting = tokio::spawn({
        let stage = Arc::clone(&stage);
        async move { (stage.poll(&request(full.version)).await, Instant::now()) }
    });
    let mut fleet = stage.fleet.subscribe();
    let reported = fleet.wait_for(|fleet| !fleet.nodes.is_empty());
    drop(
        timeout(DEADLINE, reported)
            .await
            .expect("the poll arrived")
            .expect("it runs"),
    );
    let flipped = Instant::now();
    fail(&stage.health);
    let (delta, answered) = waiting.await.expect("an answer");
    assert!(!delta.full, "{delta:?}");
    assert_eq!(delta.clusters, unhealthy());
    let took = answered - flipped;
    assert!(
        took < HOLD / 2,
        "it did not wait for the end of the poll: {took:?}"
    );
}

#[tokio::test]
async fn a_poll_without_news_is_held_and_answered_with_nothing() {
    let stage = Stage::start(TOKEN, true).await;
    let have = stage.poll(&request(Version::default())).await.version;
    let asked = Instant::now();
    let answer = stage.poll(&request(have)).await;
    assert!(asked.elapsed() >= HOLD);
    assert_eq!(
        answer,
        Answer {
            version: have,
            ..Answer::default()
        }
    );
}

#[tokio::test]
async fn a_young_sidecar_asks_each_proxy_what_it_knows_from_before() {
    let stage = Stage::young(TOKEN, true, DEADLINE).await;
    let before = version_of(3);
    let of_process = |process, unhealthy| wire::Request {
        process,
        unhealthy,
        ..request(before)
    };
    let expected = Answer {
        version: before,
        hand_back: true,
        ..Answer::default()
    };
    assert_eq!(stage.poll(&of_process(Some(1), None)).await, expected);
    let full = stage.poll(&of_process(Some(1), Some(unhealthy()))).await;
    assert_eq!((full.full, full.clusters), (true, unhealthy()));
    let later = stage.poll(&of_process(Some(1), None)).await;
    assert!(!later.hand_back, "it has said what it knows");
    // One that knows nothing waits no longer, and one that does not understand is asked in vain.
    let full = stage.poll(&of_process(Some(2), Some(Vec::new()))).await;
    assert_eq!((full.full, full.clusters), (true, unhealthy()));
    for asked in [true, true, true, false, false] {
        let answer = stage.poll(&of_process(Some(3), None)).await;
        assert_eq!((answer.hand_back, answer.full), (asked, !asked));
    }
    let older = stage.poll(&of_process(None, None)).await;
    assert!(!older.hand_back && older.full, "a filter before the field");
    let grown = Stage::young(TOKEN, true, Duration::ZERO).await;
    let full = grown.poll(&of_process(Some(1), Some(unhealthy()))).await;
    assert!(!full.hand_back && full.full && full.clusters.is_empty());
}

/// A state of another sidecar's verdicts.
fn version_of(epoch: u64) -> Version {
    Version {
        epoch,
        counter: 1,
        revision: 1,
    }
}

#[tokio::test]
async fn another_epoch_or_revision_gets_the_full_set() {
    let stage = Stage::start(TOKEN, true).await;
    fail(&stage.health);
    let now = stage.poll(&request(Version::default())).await.version;
    for have in [Version { epoch: 8, ..now }, Version { revision: 9, ..now }] {
        let answer = stage.poll(&request(have)).await;
        assert_eq!(
            (answer.full, answer.clusters, answer.version),
            (true, unhealthy(), now)
        );
    }
    apply(&stage.health, 2);
    let answer = stage.poll(&request(now)).await;
    assert_eq!(
        (answer.full, answer.clusters, answer.version.revision),
        (true, unhealthy(), 2)
    );
}

#[tokio::test]
async fn the_end_of_the_sidecar_ends_the_wait() {
    let stage = Stage::start(TOKEN, true).await;
    let have = stage.poll(&request(Version::default())).await.version;
    stage.stop.cancel();
    let asked = Instant::now();
    assert_eq!(stage.poll(&request(have)).await.version, have);
    assert!(asked.elapsed() < HOLD);
}

#[tokio::test]
async fn before_the_registry_is_read_there_is_no_answer() {
    let stage = Stage::start("", false).await;
    let headers = [("content-type", wire::CONTENT_TYPE)];
    let body = request(Version::default()).to_json();
    let (status, _) = stage.post(&headers, body.clone()).await;
    assert_eq!(
        status, 503,
        "no verdicts are not the same as no unhealthy backend"
    );
    apply(&stage.health, 1);
    assert_eq!(stage.post(&headers, body).await.0, 200);
}

#[tokio::test]
async fn bad_posts_are_refused_with_a_reason() {
    let stage = Stage::start(TOKEN, true).await;
    let (kind, token) = (
        ("content-type", wire::CONTENT_TYPE),
        ("authorization", "Bearer 0123abcd"),
    );
    let good = request(Version::default()).to_json();
    let big = vec![b' '; wire::MESSAGE_MAX + 1];
    let wrong_token = ("authorization", "Bearer 0123abce");
    let other_scheme = ("authorization", "0123abcd");
    let other_kind = ("content-type", "application/json");
    let with_charset = (
        "content-type",
        "Application/vnd.pointsman.exchange+json; charset=utf-8",
    );
    for (headers, body, expected, why) in [
        (&[kind][..], good.clone().into_bytes(), 401, "token"),
        (
            &[kind, wrong_token],
            good.clone().into_bytes(),
            401,
            "token",
        ),
        (
            &[kind, other_scheme],
            good.clone().into_bytes(),
            401,
            "token",
        ),
        (&[token], good.clone().into_bytes(), 415, "content type"),
        (
            &[token, other_kind],
            good.clone().into_bytes(),
            415,
            "content type",
        ),
        (&[token, kind], big, 413, "bytes"),
        (&[token, kind], b"{".to_vec(), 400, "must be JSON"),
        (&[token, kind], b"{}".to_vec(), 400, "revisions"),
        (&[token, with_charset], good.into_bytes(), 200, ""),
    ] {
        let (status, body) = stage.post(headers, body).await;
        assert_eq!(status, expected, "{headers:?}");
        let body: Value = serde_json::from_slice(&body).expect("JSON");
        let error = body["error"].as_str().unwrap_or_default();
        assert!(error.contains(why), "{error}");
    }
}
