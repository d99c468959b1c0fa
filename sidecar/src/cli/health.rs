//! `pointsman health`: asks the sidecar on this machine how it is, for containers, whose images
//! have no other client.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use clap::Args;

const VARIABLE: &str = "POINTSMAN_ADMIN_LISTEN";
const DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 18080);
/// How long each step of the conversation may take.
const DEADLINE: Duration = Duration::from_secs(2);
/// The answers are a line or two; more is not read.
const ANSWER_MAX: u64 = 4096;

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
        error: std::io::Error,
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
pub fn ask(
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
    let answer = get(address, path).map_err(|error| HealthError::Silent {
        address,
        path,
        error,
    })?;
    if is_ok(&answer) {
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

fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, DEADLINE)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_MAX).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn is_ok(answer: &str) -> bool {
    answer.starts_with("HTTP/1.1 200 ")
}

fn gist(answer: &str) -> String {
    let status = answer.lines().next().unwrap_or("an empty answer");
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    format!("{status} {body}").trim().to_owned()
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
    fn only_200_is_good_and_anything_else_is_told() {
        assert!(is_ok("HTTP/1.1 200 OK\r\n\r\nok\n"));
        let unwell = "HTTP/1.1 503 Service Unavailable\r\na: b\r\n\r\n{\"waitingFor\":[\"xds\"]}";
        assert!(!is_ok(unwell));
        let told = "HTTP/1.1 503 Service Unavailable {\"waitingFor\":[\"xds\"]}";
        assert_eq!(gist(unwell), told);
        assert!(!is_ok(""));
        assert_eq!(gist(""), "an empty answer");
    }

    #[test]
    fn the_flag_wins_and_a_wrong_address_is_named() {
        let flags = |address: Option<&str>| HealthFlags {
            admin_listen: address.map(str::to_owned),
            live: false,
        };
        let variable = |name: &str| (name == VARIABLE).then(|| "nowhere".to_owned());
        let error = |address| ask(&flags(address), variable).unwrap_err().to_string();
        let expected = r#"POINTSMAN_ADMIN_LISTEN: must be ip:port, not "nowhere""#;
        assert_eq!(error(None), expected);
        assert_eq!(error(Some("")), expected);
        let expected = r#"--admin-listen: must be ip:port, not "x""#;
        assert_eq!(error(Some("x")), expected);
    }
}
