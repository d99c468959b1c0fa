//! A proxy without requests: it takes what the sidecar sends as Envoy does, accepts all of it, and
//! posts what its workers run. Hundreds of them fit where one Envoy would.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3 as discovery;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client as ads;
use pointsman_filter::fleet::exchange as wire;
use prost::Message;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::client::{self, Client, DEADLINE};

const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
const ENDPOINTS: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
const FILTER: &str = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig";
/// Under this name every bootstrap asks for the filter.
const FILTER_NAME: &str = "pointsman";
/// The longest answer that is read, bytes.
const ANSWER_MAX: usize = 64 << 20;
/// Requests that may wait for the connection.
const QUEUE: usize = 16;

/// One delta ADS stream; dropping it ends the stream.
#[derive(Debug)]
pub struct Proxy {
    node: String,
    sidecar: SocketAddr,
    requests: mpsc::Sender<discovery::DeltaDiscoveryRequest>,
    answers: Streaming<discovery::DeltaDiscoveryResponse>,
    has: Versions,
}

/// Versions by type and name: what it has been sent and not been told to drop.
type Versions = BTreeMap<String, Names>;
type Names = BTreeMap<String, String>;

/// One answer that a proxy took in and accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// The registry's revision, where the answer brought the filter.
    pub revision: Option<u64>,
    /// Resources it brought.
    pub resources: usize,
    /// Its length.
    pub bytes: usize,
}

impl Proxy {
    /// Opens the stream to a sidecar's xDS address, and asks for all clusters and the filter.
    pub async fn connect(sidecar: SocketAddr, node: &str) -> Result<Self> {
        Self::open(sidecar, node.to_owned(), Versions::new()).await
    }

    /// Opens another stream in the place of this one, which brings along what this one was sent.
    pub async fn reconnect(self) -> Result<Self> {
        let (sidecar, node, has) = (self.sidecar, self.node, self.has);
        drop((self.requests, self.answers));
        Self::open(sidecar, node, has).await
    }

    async fn open(sidecar: SocketAddr, node: String, has: Versions) -> Result<Self> {
        let mut client =
            ads::AggregatedDiscoveryServiceClient::connect(format!("http://{sidecar}"))
                .await?
                .max_decoding_message_size(ANSWER_MAX);
        let (requests, queue) = mpsc::channel(QUEUE);
        let ask = |type_url: &str, names: Vec<String>| discovery::DeltaDiscoveryRequest {
            node: Some(Node {
                id: node.clone(),
                ..Node::default()
            }),
            type_url: type_url.to_owned(),
            resource_names_subscribe: names,
            initial_resource_versions: has
                .get(type_url)
                .map(|has| has.clone().into_iter().collect())
                .unwrap_or_default(),
            ..discovery::DeltaDiscoveryRequest::default()
        };
        requests.send(ask(CLUSTER, Vec::new())).await?;
        requests
            .send(ask(FILTER, vec![FILTER_NAME.to_owned()]))
            .await?;
        if let Some(endpoints) = has.get(ENDPOINTS) {
            let names = endpoints.keys().cloned().collect();
            requests.send(ask(ENDPOINTS, names)).await?;
        }
        let call = client.delta_aggregated_resources(ReceiverStream::new(queue));
        let answers = timeout(DEADLINE, call)
            .await
            .context("no stream in time")??
            .into_inner();
        Ok(Proxy {
            node,
            sidecar,
            requests,
            answers,
            has,
        })
    }

    /// Its node id.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Takes answers until it has these clusters' endpoints, among others or not, and the filter.
    pub async fn take(&mut self, clusters: &BTreeSet<String>) -> Result<()> {
        let has_all = |has: &Names| clusters.iter().all(|name| has.contains_key(name));
        self.until(DEADLINE, has_all).await
    }

    /// Takes answers until it has these clusters' endpoints and no other's, and the filter.
    pub async fn settle_on(
        &mut self,
        clusters: &BTreeSet<String>,
        deadline: Duration,
    ) -> Result<()> {
        self.until(deadline, |has| has.keys().eq(clusters)).await
    }

    async fn until(&mut self, deadline: Duration, enough: impl Fn(&Names) -> bool) -> Result<()> {
        let taken = timeout(deadline, async {
            while !self.has.get(ENDPOINTS).is_some_and(&enough) || !self.has.contains_key(FILTER) {
                if let Some(revision) = self.next().await?.revision {
                    Poster::new(self.sidecar, &self.node).post(revision).await?;
                }
            }
            anyhow::Ok(())
        });
        let taken = taken.await.with_context(|| {
            let has = self.has.iter();
            let has: Vec<_> = has.map(|(kind, names)| (kind, names.len())).collect();
            format!("not enough in {deadline:?}: {has:?}")
        });
        taken?
    }

    /// Takes the next answer in and accepts it.
    pub async fn next(&mut self) -> Result<Taken> {
        let answer = self.answers.message().await?;
        let answer = answer.context("the sidecar ended the stream")?;
        let filter = answer.resources.iter().find(|it| it.name == FILTER_NAME);
        let filter = filter.and_then(|it| it.resource.as_ref());
        let taken = Taken {
            revision: filter.map(|it| revision(&it.value)).transpose()?,
            resources: answer.resources.len(),
            bytes: answer.encoded_len(),
        };
        self.accept(answer).await?;
        Ok(taken)
    }

    /// As Envoy does: endpoints are asked for when their cluster comes, and dropped with it.
    async fn accept(&mut self, answer: discovery::DeltaDiscoveryResponse) -> Result<()> {
        let came = answer.resources.into_iter().map(|it| (it.name, it.version));
        let came: Vec<(String, String)> = came.collect();
        let has = self.has.entry(answer.type_url.clone()).or_default();
        has.extend(came.iter().cloned());
        has.retain(|name, _| !answer.removed_resources.contains(name));
        let accepted = discovery::DeltaDiscoveryRequest {
            type_url: answer.type_url.clone(),
            response_nonce: answer.nonce,
            ..discovery::DeltaDiscoveryRequest::default()
        };
        self.requests.send(accepted).await?;
        if answer.type_url == CLUSTER {
            let gone = answer.removed_resources;
            if let Some(endpoints) = self.has.get_mut(ENDPOINTS) {
                endpoints.retain(|name, _| !gone.contains(name));
            }
            let endpoints = discovery::DeltaDiscoveryRequest {
                type_url: ENDPOINTS.to_owned(),
                resource_names_subscribe: came.into_iter().map(|(name, _)| name).collect(),
                resource_names_unsubscribe: gone,
                ..discovery::DeltaDiscoveryRequest::default()
            };
            self.requests.send(endpoints).await?;
        }
        Ok(())
    }
}

/// The exchange of one proxy, over one connection.
#[derive(Debug)]
pub struct Poster {
    node: String,
    client: Client,
    have: wire::Version,
}

impl Poster {
    /// Nothing is sent yet.
    pub fn new(sidecar: SocketAddr, node: &str) -> Self {
        Poster {
            node: node.to_owned(),
            client: Client::new(sidecar),
            have: wire::Version::default(),
        }
    }

    /// Posts that its one worker runs this revision, and waits for the answer.
    pub async fn post(&mut self, revision: u64) -> Result<()> {
        let request = wire::Request {
            node: self.node.clone(),
            workers: 1,
            revisions: vec![revision],
            have: self.have,
            ..wire::Request::default()
        };
        let mut request = client::post(wire::PATH, request.to_json());
        let content_type = wire::CONTENT_TYPE.parse()?;
        request.headers_mut().insert("content-type", content_type);
        let response = self.client.send(request).await?;
        ensure!(response.status == 200, "{}", response.text());
        self.have = wire::Answer::parse(&response.body)?.version;
        Ok(())
    }
}

/// The registry's revision that a resource of the filter holds, found without reading all of it.
fn revision(filter: &[u8]) -> Result<u64> {
    const FIELD: &[u8] = br#""revision":""#;
    // It stands behind the clusters.
    let found = filter.windows(FIELD.len()).rposition(|text| text == FIELD);
    let start = found.context("no revision")? + FIELD.len();
    let end = filter[start..].iter().position(|byte| *byte == b'"');
    let digits = &filter[start..start + end.context("an open revision")?];
    Ok(u64::from_str_radix(std::str::from_utf8(digits)?, 16)?)
}
