//! `pointsman health`: asks the sidecar on this machine how it is, for containers, whose images
//! have no other client.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use clap::Args;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Request, Response, StatusCode};

use crate::net::client::{CallError, Client, Limits};

const VARIABLE: &str = "POINTSMAN_ADMIN_LISTEN";
const DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 18080);
/// The answers are a line or two.
const LIMITS: Limits = Limits {
    connect: Duration::from_secs(2),
    answer: Duration::from_secs(2),
    body_max: 4096,
};

/// What `health` is told.
#[derive(Args)]
pub struct HealthFlags {
    /// Where the sidecar's admin API listens [env: POINTSMAN_ADMIN_LISTEN=] [default:
    /// 127.0.0.1:18080]
    #[arg(long, value_name = "ADDRESS")]
    admin_listen: Option<String>,
    /// Ask whether it is alive, instead of whether it is ready
    #[arg(long)]
    live: bool,
}

/// Why there is no good word.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// The address is none.
    #[error("{place}: must be ip:port, not {value:?}")]
    Address {
        /// The flag or the variable.
        place: &'static str,
        /// What it says.
        value: String,
    },
    /// Nobody answers.
    #[error("http://{address}{path}: {error}")]
    Silent {
        /// Who was asked.
        address: SocketAddr,
        /// What was asked.
        path: &'static str,
        /// What became of it.
        error: CallError,
    },
    /// The answer is not 200.
    #[error("http://{address}{path}: {answer}")]
    Unwell {
        /// Who was asked.
        address: SocketAddr,
        /// What was asked.
        path: &'static str,
        /// The status line and what stands below the headers.
        answer: String,
    },
}

/// Asks once; `variable` reads the environment.
pub async fn ask(
    flags: &HealthFlags,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<(), HealthError> {
    let given = |value: Option<String>| value.filter(|value| !value.is_empty());
    let text = given(flags.admin_listen.clone())
        .map(|value| ("--admin-listen", value))
        .or_else(|| given(variable(VARIABLE)).map(|value| (VARIABLE, value)));
    let address = match text {
        None => DEFAULT,
        Some((place, value)) => match value.parse() {
            Ok(listen) => reachable(listen),
            Err(_) => return Err(HealthError::Address { place, value }),
        },
    };
    let path = if flags.live { "/livez" } else { "/readyz" };
    let answer = get(address, path).await;
    let answer = answer.map_err(|error| HealthError::Silent {
        address,
        path,
        error,
    })?;
    if answer.status() == StatusCode::OK {
        return Ok(());
    }
    let answer = gist(&answer);
    Err(HealthError::Unwell {
        address,
        path,
        answer,
    })
}

/// Where a listener on every address can be reached from here.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

async fn get(address: SocketAddr, path: &'static str) -> Result<Response<Bytes>, CallError> {
    let mut request = Request::new(Full::default());
    *request.uri_mut() = hyper::Uri::from_static(path);
    let mut client = Client::open(&address.to_string(), LIMITS).await?;
    client.call(request).await
}

fn gist(answer: &Response<Bytes>) -> String {
    let (version, status) = (answer.version(), answer.status());
    let body = String::from_utf8_lossy(answer.body());
    format!("{version:?} {status} {body}").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(listen: &str) -> String {
        reachable(listen.parse().expect("an address")).to_string()
    }

    #[test]
    fn a_listener_on_every_address_is_asked_on_loopback() {
        assert_eq!(address("0.0.0.0:1"), "127.0.0.1:1");
        assert_eq!(address("[::]:1"), "[::1]:1");
        assert_eq!(address("10.0.0.1:1"), "10.0.0.1:1");
    }

    #[test]
    fn what_is_not_good_is_told() {
        let mut unwell = Response::new(Bytes::from_static(b"{\"waitingFor\":[\"xds\"]}\n"));
        *unwell.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        let told = "HTTP/1.1 503 Service Unavailable {\"waitingFor\":[\"xds\"]}";
        assert_eq!(gist(&unwell), told);
    }

    #[tokio::test]
    async fn the_flag_wins_and_a_wrong_address_is_named() {
        let flags = |address: Option<&str>| HealthFlags {
            admin_listen: address.map(str::to_owned),
            live: false,
        };
        let variable = |name: &str| (name == VARIABLE).then(|| "nowhere".to_owned());
        let error = async |address| {
            let asked = ask(&flags(address), variable).await;
            asked.unwrap_err().to_string()
        };
        let expected = r#"POINTSMAN_ADMIN_LISTEN: must be ip:port, not "nowhere""#;
        assert_eq!(error(None).await, expected);
        assert_eq!(error(Some("")).await, expected);
        let expected = r#"--admin-listen: must be ip:port, not "x""#;
        assert_eq!(error(Some("x")).await, expected);
    }
}
