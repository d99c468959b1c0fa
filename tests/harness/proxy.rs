//! A proxy without requests: it takes what the sidecar sends as Envoy does, accepts all of it, and
//! posts what its workers run. Hundreds of them fit where one Envoy would.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use envoy_types::pb::envoy::config::core::v3::{Node, TypedExtensionConfig};
use envoy_types::pb::envoy::extensions::filters::http::wasm::v3::Wasm;
use envoy_types::pb::envoy::service::discovery::v3 as discovery;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client as ads;
use envoy_types::pb::google::protobuf::StringValue;
use pointsman_filter::fleet::exchange as wire;
use prost::Message;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::client::{Client, DEADLINE, post};

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
    /// Names by type: what it has been sent and not been told to drop.
    has: BTreeMap<String, BTreeSet<String>>,
}

impl Proxy {
    /// Opens the stream to a sidecar's xDS address, and asks for all clusters and the filter.
    pub async fn connect(sidecar: SocketAddr, node: &str) -> Result<Self> {
        let mut client =
            ads::AggregatedDiscoveryServiceClient::connect(format!("http://{sidecar}"))
                .await?
                .max_decoding_message_size(ANSWER_MAX);
        let (requests, queue) = mpsc::channel(QUEUE);
        let ask = |type_url: &str, names: &[&str]| discovery::DeltaDiscoveryRequest {
            node: Some(Node {
                id: node.to_owned(),
                ..Node::default()
            }),
            type_url: type_url.to_owned(),
            resource_names_subscribe: names.iter().map(|&name| name.to_owned()).collect(),
            ..discovery::DeltaDiscoveryRequest::default()
        };
        requests.send(ask(CLUSTER, &[])).await?;
        requests.send(ask(FILTER, &[FILTER_NAME])).await?;
        let call = client.delta_aggregated_resources(ReceiverStream::new(queue));
        let answers = timeout(DEADLINE, call)
            .await
            .context("no stream in time")??
            .into_inner();
        Ok(Proxy {
            node: node.to_owned(),
            sidecar,
            requests,
            answers,
            has: BTreeMap::new(),
        })
    }

    /// Takes answers until it has these clusters' endpoints, among others or not, and the filter.
    pub async fn take(&mut self, clusters: &BTreeSet<String>) -> Result<()> {
        self.until(DEADLINE, |has| has.is_superset(clusters)).await
    }

    /// Takes answers until it has these clusters' endpoints and no other's, and the filter.
    pub async fn settle_on(
        &mut self,
        clusters: &BTreeSet<String>,
        deadline: Duration,
    ) -> Result<()> {
        self.until(deadline, |has| has == clusters).await
    }

    async fn until(
        &mut self,
        deadline: Duration,
        enough: impl Fn(&BTreeSet<String>) -> bool,
    ) -> Result<()> {
        let taken = timeout(deadline, async {
            while !self.has.get(ENDPOINTS).is_some_and(&enough) || !self.has.contains_key(FILTER) {
                let answer = self.answers.message().await?;
                self.accept(answer.context("the sidecar ended the stream")?)
                    .await?;
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

    /// Posts to the exchange as the filter of an Envoy with one worker that runs this revision.
    async fn post(&self, revision: u64) -> Result<()> {
        let request = wire::Request {
            node: self.node.clone(),
            workers: 1,
            revisions: vec![revision],
            ..wire::Request::default()
        };
        let mut request = post(wire::PATH, request.to_json());
        let content_type = wire::CONTENT_TYPE.parse()?;
        request.headers_mut().insert("content-type", content_type);
        let response = Client::new(self.sidecar).send(request).await?;
        ensure!(response.status == 200, "{}", response.text());
        Ok(())
    }

    /// As Envoy and its filter do: endpoints are asked for when their cluster comes, and dropped with it.
    async fn accept(&mut self, answer: discovery::DeltaDiscoveryResponse) -> Result<()> {
        let filter = answer.resources.iter().find(|it| it.name == FILTER_NAME);
        let revision = match filter.and_then(|it| it.resource.as_ref()) {
            Some(filter) => Some(revision(&filter.value)?),
            None => None,
        };
        let came: Vec<String> = answer.resources.into_iter().map(|it| it.name).collect();
        let has = self.has.entry(answer.type_url.clone()).or_default();
        has.extend(came.iter().cloned());
        has.retain(|name| !answer.removed_resources.contains(name));
        let accepted = discovery::DeltaDiscoveryRequest {
            type_url: answer.type_url.clone(),
            response_nonce: answer.nonce,
            ..discovery::DeltaDiscoveryRequest::default()
        };
        self.requests.send(accepted).await?;
        if let Some(revision) = revision {
            self.post(revision).await?;
        }
        if answer.type_url == CLUSTER {
            let gone = answer.removed_resources;
            if let Some(endpoints) = self.has.get_mut(ENDPOINTS) {
                endpoints.retain(|name| !gone.contains(name));
            }
            let endpoints = discovery::DeltaDiscoveryRequest {
                type_url: ENDPOINTS.to_owned(),
                resource_names_subscribe: came,
                resource_names_unsubscribe: gone,
                ..discovery::DeltaDiscoveryRequest::default()
            };
            self.requests.send(endpoints).await?;
        }
        Ok(())
    }
}

/// The registry's revision that a resource of the filter holds.
fn revision(filter: &[u8]) -> Result<u64> {
    let filter = TypedExtensionConfig::decode(filter)?.typed_config;
    let wasm = Wasm::decode(&*filter.context("no filter")?.value)?.config;
    let text = wasm
        .and_then(|it| it.configuration)
        .context("no configuration")?;
    let text = StringValue::decode(&*text.value)?.value;
    let container: Value = serde_json::from_str(&text)?;
    let revision = container["revision"].as_str().context("no revision")?;
    Ok(u64::from_str_radix(revision, 16)?)
}
