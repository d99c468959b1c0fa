//! An endpoint picker for `ext_proc`: a gRPC server that names the next endpoint in turn, the least
//! that such a server can do. One process, one thread.

use std::env;
use std::net::SocketAddr;
use std::pin::Pin;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use envoy_types::pb::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use envoy_types::pb::envoy::service::ext_proc::v3::external_processor_server::{
    ExternalProcessor, ExternalProcessorServer,
};
use envoy_types::pb::envoy::service::ext_proc::v3::processing_response::Response as Answer;
use envoy_types::pb::envoy::service::ext_proc::v3::{
    CommonResponse, HeaderMutation, HeadersResponse, ProcessingRequest, ProcessingResponse,
};
use harness::eventually;
use harness::port::Port;
use harness::process::Process;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use crate::machine;

/// The argument that makes this program a picker.
pub const COMMAND: &str = "picker";
const HEADER: &str = "x-gateway-destination-endpoint";

/// A running picker; dropping it kills it.
pub struct Picker {
    process: Process,
    port: Port,
    _folder: TempDir,
}

impl Picker {
    /// Starts one that picks among these, and waits until it listens.
    pub async fn start(addresses: &[SocketAddr], core: usize) -> Result<Self> {
        let (port, folder) = (Port::reserve()?, tempfile::tempdir()?);
        let mut command = Command::new(env::current_exe()?);
        command.arg(COMMAND).arg(port.address().to_string());
        command.args(addresses.iter().map(SocketAddr::to_string));
        let process = Process::start(command, &folder.path().join("picker.log"))?;
        machine::pin(process.pid(), core)?;
        let picker = Picker {
            process,
            port,
            _folder: folder,
        };
        eventually(Duration::from_secs(10), "the picker", async || {
            picker.process.ensure_running()?;
            TcpStream::connect(picker.address()).await?;
            Ok(())
        })
        .await?;
        Ok(picker)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.process.pid()
    }
}

/// Runs as a picker: `ADDRESS BACKEND…`, for ever.
pub fn serve(arguments: &[String]) -> Result<()> {
    let (listen, backends) = arguments.split_first().context("no address to listen on")?;
    ensure!(!backends.is_empty(), "no backend to pick");
    let service = Service(Arc::new(InTurn {
        backends: backends.to_vec(),
        turn: AtomicUsize::new(0),
    }));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let server = tonic::transport::Server::builder()
        .tcp_nodelay(true)
        .add_service(ExternalProcessorServer::new(service));
    Ok(runtime.block_on(server.serve(listen.parse()?))?)
}

struct InTurn {
    backends: Vec<String>,
    turn: AtomicUsize,
}

impl InTurn {
    fn answer(&self) -> ProcessingResponse {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.backends.len();
        let header = HeaderValue {
            key: HEADER.to_owned(),
            raw_value: self.backends[turn].clone().into_bytes(),
            ..HeaderValue::default()
        };
        let option = HeaderValueOption {
            header: Some(header),
            ..HeaderValueOption::default()
        };
        let mutation = HeaderMutation {
            set_headers: vec![option],
            ..HeaderMutation::default()
        };
        let response = CommonResponse {
            header_mutation: Some(mutation),
            ..CommonResponse::default()
        };
        ProcessingResponse {
            response: Some(Answer::RequestHeaders(HeadersResponse {
                response: Some(response),
            })),
            ..ProcessingResponse::default()
        }
    }
}

struct Service(Arc<InTurn>);

#[tonic::async_trait]
impl ExternalProcessor for Service {
    type ProcessStream = Pin<Box<dyn Stream<Item = Result<ProcessingResponse, Status>> + Send>>;

    async fn process(
        &self,
        request: Request<Streaming<ProcessingRequest>>,
    ) -> Result<Response<Self::ProcessStream>, Status> {
        let picks = Arc::clone(&self.0);
        let answers = request
            .into_inner()
            .map(move |asked| asked.map(|_| picks.answer()));
        Ok(Response::new(Box::pin(answers)))
    }
}
