//! Where Redis is, in a form that can be shown: the password is known here and nowhere else.

use std::fmt;
use std::net::Ipv6Addr;

use redis::io::tcp::TcpSettings;
use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion};

/// Shorter passwords would blacken half of every sentence they are searched in; a server that is
/// reached with one has no secret to lose.
const REDACTED_MIN: usize = 3;
const REDACTED: &str = "***";

/// How to reach Redis. Shown, it has no password.
#[derive(Clone)]
pub struct RedisUrl {
    info: Box<ConnectionInfo>,
    shown: String,
    secrets: Vec<String>,
}

impl RedisUrl {
    /// Reads `redis://` or `rediss://` (TLS) `[user][:password@]host[:port][/database]`; the error
    /// says what it must be and nothing of what it is.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const MUST: &str = "must be redis://[user:password@]host:port[/database], or rediss:// \
                            for TLS (percent-encode special characters of the password)";
        let scheme = ["redis", "rediss"]
            .into_iter()
            .find(|scheme| text.starts_with(&format!("{scheme}://")));
        let scheme = scheme.ok_or(MUST)?;
        let info = text.into_connection_info().map_err(|_| MUST)?;
        let (host, port) = match info.addr() {
            ConnectionAddr::Tcp(host, port) => (host.clone(), *port),
            ConnectionAddr::TcpTls { insecure: true, .. } => {
                return Err("must not say #insecure: the server's certificate is always checked");
            }
            ConnectionAddr::TcpTls { host, port, .. } => (host.clone(), *port),
            _ => return Err(MUST),
        };
        let settings = info.redis_settings().clone();
        let shown = shown(scheme, &host, port, &settings);
        let secrets = secrets(text, settings.password());
        // Change notices are pushed, which only this version of the protocol does.
        let settings = settings.set_protocol(ProtocolVersion::RESP3);
        let info = info
            .set_redis_settings(settings)
            .set_tcp_settings(TcpSettings::default().set_nodelay(true));
        Ok(RedisUrl {
            info: Box::new(info),
            shown,
            secrets,
        })
    }

    /// The URL of a host and a port, without TLS and password.
    pub fn of(host: &str, port: u16) -> Result<Self, &'static str> {
        let good = |b: u8| b.is_ascii_alphanumeric() || b".-_:[]".contains(&b);
        if !host.bytes().all(good) {
            return Err("must be a host name or an address");
        }
        let host = match host.parse::<Ipv6Addr>() {
            Ok(v6) => format!("[{v6}]"),
            Err(_) => host.to_owned(),
        };
        Self::parse(&format!("redis://{host}:{port}"))
            .map_err(|_| "must be a host name or an address")
    }

    /// What the client connects with.
    pub fn info(&self) -> ConnectionInfo {
        ConnectionInfo::clone(&self.info)
    }

    /// A text, such as a library's error, without the password.
    pub fn redact(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.secrets {
            text = text.replace(secret.as_str(), REDACTED);
        }
        text
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

fn shown(scheme: &str, host: &str, port: u16, settings: &redis::RedisConnectionInfo) -> String {
    let host = match host.contains(':') {
        true => format!("[{host}]"),
        false => host.to_owned(),
    };
    let user = settings.username().unwrap_or("");
    let login = match (user, settings.password()) {
        (user, Some(_)) => format!("{user}:{REDACTED}@"),
        ("", None) => String::new(),
        (user, None) => format!("{user}@"),
    };
    let database = match settings.db() {
        0 => String::new(),
        db => format!("/{db}"),
    };
    format!("{scheme}://{login}{host}:{port}{database}")
}

/// The password as it is and as the URL spells it, the longer first.
fn secrets(url: &str, password: Option<&str>) -> Vec<String> {
    let Some(password) = password else {
        return Vec::new();
    };
    let login = url
        .split_once("://")
        .and_then(|(_, rest)| rest.rsplit_once('@'))
        .map_or("", |(login, _)| login);
    let spelled = login.split_once(':').map_or("", |(_, password)| password);
    let mut secrets: Vec<String> = [password, spelled].map(str::to_owned).into();
    secrets.retain(|secret| secret.len() >= REDACTED_MIN);
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets.dedup();
    secrets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_without_its_password() {
        for (url, expected) in [
            ("redis://h:6379", "redis://h:6379"),
            ("redis://h", "redis://h:6379"),
            ("redis://:geheim@h:1/3", "redis://:***@h:1/3"),
            ("rediss://pm:ge%40heim@h:1", "rediss://pm:***@h:1"),
            ("redis://pm@[::1]:7", "redis://pm@[::1]:7"),
            ("redis://h:1?password=geheim", "redis://h:1"),
        ] {
            let url = RedisUrl::parse(url).unwrap();
            assert_eq!(url.to_string(), expected);
            assert_eq!(format!("{url:?}"), expected);
        }
        let url = RedisUrl::parse("redis://pm:ge%40heim@h:1").unwrap();
        assert_eq!(url.info().redis_settings().password(), Some("ge@heim"));
        let words = url.redact("no ge@heim, no ge%40heim, but geheim");
        assert_eq!(words, "no ***, no ***, but geheim");
    }

    #[test]
    fn what_is_no_url_is_refused_without_a_word_of_it() {
        for text in [
            "geheim",
            "http://u:geheim@h",
            "redis+unix:///geheim",
            "unix:///geheim",
            "redis://u:geheim@h:99999",
            "redis://u:geheim@:1",
            "redis://u:geheim@h/x",
            "redis://u:ge/heim@h:1",
            "rediss://u:geheim@h:1#insecure",
        ] {
            let error = RedisUrl::parse(text).unwrap_err();
            assert!(
                error.starts_with("must") && !error.contains("heim"),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn of_a_host_and_a_port() {
        assert_eq!(
            RedisUrl::of("::1", 7).unwrap().to_string(),
            "redis://[::1]:7"
        );
        assert_eq!(
            RedisUrl::of("redis.svc", 7).unwrap().to_string(),
            "redis://redis.svc:7"
        );
        for host in ["u:p@h", "h/1", "h?x", "a b", "h:1"] {
            assert!(RedisUrl::of(host, 7).is_err(), "{host}");
        }
    }
}
