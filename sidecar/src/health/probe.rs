//! One probe: one connection, one deadline, one outcome.

mod http;
mod tls;

use std::io;
use std::net::SocketAddr;

use pointsman_filter::config::Probe;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::target::Plan;
use crate::model::outcome::{Failure, Obstacle, Outcome};
pub use tls::TlsClients;

/// Why a probe did not pass.
type Fault = Outcome;

/// Makes one probe and closes its connection.
pub async fn probe(plan: &Plan, address: SocketAddr, tls: &TlsClients) -> Outcome {
    // Boxed: the future of a TLS exchange is large, and thousands of them may be under way.
    match timeout(plan.timeout, Box::pin(attempt(plan, address, tls))).await {
        Ok(Ok(())) => Outcome::Passed,
        Ok(Err(fault)) => fault,
        Err(_) => Outcome::Failed(Failure::Timeout),
    }
}

async fn attempt(plan: &Plan, address: SocketAddr, tls: &TlsClients) -> Result<(), Fault> {
    // Before connecting: a probe that cannot be made must not open a connection.
    let session = match (&plan.probe, &plan.tls) {
        (Probe::Http(_), Some(settings)) => Some(tls.session(settings, plan.http2, address)?),
        _ => None,
    };
    let stream = TcpStream::connect(address)
        .await
        .map_err(|error| connect_fault(&error))?;
    let Probe::Http(http) = &plan.probe else {
        // Closed by a reset: at a thousand probes a second, waiting out each close would use up
        // our ports. Best effort; a plain close is as good a probe.
        let _ = stream.set_zero_linger();
        return Ok(());
    };
    // Best effort too: without it a probe is slower, not wrong.
    let _ = stream.set_nodelay(true);
    let host = host(plan, &http.host, address);
    match session {
        Some(session) => {
            let stream = session.connect(stream).await?;
            http::exchange(http, &host, "https", plan.http2, stream).await
        }
        None => http::exchange(http, &host, "http", plan.http2, stream).await,
    }
}

/// For whom a request asks: what the check says, else the name that TLS asks for, as a server that
/// has several names would refuse another one (421); else the address.
fn host(plan: &Plan, host: &str, address: SocketAddr) -> String {
    let sni = plan.tls.as_ref().map_or("", |tls| tls.sni.as_str());
    let mut names = [host, sni].into_iter().filter(|name| !name.is_empty());
    names
        .next()
        .map_or_else(|| address.to_string(), str::to_owned)
}

fn connect_fault(error: &io::Error) -> Fault {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Outcome::Failed(Failure::Refused),
        io::ErrorKind::ConnectionReset => Outcome::Failed(Failure::Closed),
        io::ErrorKind::TimedOut => Outcome::Failed(Failure::Timeout),
        _ if lacks_resources(error) => Outcome::Unknown(Obstacle::Resources),
        _ => Outcome::Failed(Failure::Unreachable),
    }
}

/// Whether it is this machine that cannot connect, rather than the backend that cannot be reached.
fn lacks_resources(error: &io::Error) -> bool {
    const ENOMEM: i32 = 12;
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    const ENOBUFS: i32 = 105;
    let kind = matches!(
        error.kind(),
        io::ErrorKind::OutOfMemory | io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse
    );
    kind || matches!(
        error.raw_os_error(),
        Some(ENOMEM | ENFILE | EMFILE | ENOBUFS)
    )
}

#[cfg(test)]
mod tests;
