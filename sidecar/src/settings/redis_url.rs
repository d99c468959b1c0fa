//! Where Redis is, in a form that can be shown: the password is known here and nowhere else.

use std::fmt;
use std::net::Ipv6Addr;

use redis::io::tcp::TcpSettings;
use redis::{
    ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo,
};

use super::Secret;

/// Shorter passwords would blacken half of every sentence they are searched in; a server that is
/// reached with one has no secret to lose.
const REDACTED_MIN: usize = 3;
const REDACTED: &str = "***";
const MUST: &str = "must be redis://[user:password@]host:port[/database], \
                    redis+sentinel://[user:password@]host:port,…/service[/database] or \
                    redis+cluster://[user:password@]host:port,…, each with rediss for TLS \
                    (percent-encode special characters of the password)";

/// How to reach Redis. Shown, it has no password.
#[derive(Clone)]
pub struct RedisUrl {
    /// Login, TLS and database; the address is the first node's.
    info: Box<ConnectionInfo>,
    topology: Topology,
    nodes: Vec<Node>,
    sentinel_login: RedisConnectionInfo,
    shown: String,
    secrets: Vec<String>,
}

/// How the servers that the URL names lead to the one that holds the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Topology {
    /// It is the only one named.
    Single,
    /// They are Sentinels and know it.
    Sentinel {
        /// The name under which they watch it.
        service: String,
    },
    /// They are nodes of a cluster, and each knows which of them it is.
    Cluster,
}

/// A server's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// A name or an address.
    pub host: String,
    /// Its port.
    pub port: u16,
}

impl RedisUrl {
    /// Reads `redis://` or `rediss://` (TLS) `[user][:password@]host[:port][/database]`, or the
    /// forms of several servers; the error says what it must be and nothing of what it is.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (scheme, rest) = text.split_once("://").ok_or(MUST)?;
        let (base, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
        if !["redis", "rediss"].contains(&base) {
            return Err(MUST);
        }
        if kind.is_empty() && scheme == base {
            let (info, node) = plain(text)?;
            return Ok(Self::new(text, scheme, info, Topology::Single, vec![node]));
        }
        let (login, places) = rest.rsplit_once('@').unwrap_or(("", rest));
        let (hosts, path) = places.split_once('/').unwrap_or((places, ""));
        let (topology, database, port) = match kind {
            "sentinel" => {
                let (service, database) = path.split_once('/').unwrap_or((path, ""));
                (sentinel(service)?, database, 26379)
            }
            "cluster" if path.is_empty() => (Topology::Cluster, "", 6379),
            _ => return Err(MUST),
        };
        let login = match login {
            "" => String::new(),
            login => format!("{login}@"),
        };
        let mut first = None;
        let mut nodes = Vec::new();
        for host in hosts.split(',') {
            let port = match has_port(host) {
                true => String::new(),
                false => format!(":{port}"),
            };
            let (info, node) = plain(&format!("{base}://{login}{host}{port}/{database}"))?;
            first.get_or_insert(info);
            nodes.push(node);
        }
        Ok(Self::new(text, scheme, first.ok_or(MUST)?, topology, nodes))
    }

    fn new(
        text: &str,
        scheme: &str,
        info: ConnectionInfo,
        topology: Topology,
        nodes: Vec<Node>,
    ) -> Self {
        let settings = info.redis_settings().clone();
        let shown = shown(scheme, &nodes, &topology, &settings);
        let secrets = secrets(text, settings.password());
        // Change notices are pushed, which only this version of the protocol does.
        let settings = settings.set_protocol(ProtocolVersion::RESP3);
        let info = info
            .set_redis_settings(settings)
            .set_tcp_settings(TcpSettings::default().set_nodelay(true));
        RedisUrl {
            info: Box::new(info),
            topology,
            nodes,
            sentinel_login: RedisConnectionInfo::default(),
            shown,
            secrets,
        }
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

    /// The same, with what the Sentinels themselves ask for.
    pub fn with_sentinel_login(mut self, user: Option<&str>, password: Option<&Secret>) -> Self {
        if let Some(user) = user {
            self.sentinel_login = self.sentinel_login.set_username(user);
        }
        if let Some(password) = password {
            self.sentinel_login = self.sentinel_login.set_password(password.reveal());
            self.secrets.push(password.reveal().to_owned());
            by_length(&mut self.secrets);
        }
        self
    }

    /// What the named servers are to the registry.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The servers that the URL names; never empty.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// What the client connects to a server of the registry with.
    pub fn info(&self, node: &Node) -> ConnectionInfo {
        let Node { host, port } = node.clone();
        let address = match self.info.addr() {
            ConnectionAddr::TcpTls { .. } => ConnectionAddr::TcpTls {
                host,
                port,
                insecure: false,
                tls_params: None,
            },
            _ => ConnectionAddr::Tcp(host, port),
        };
        ConnectionInfo::clone(&self.info).set_addr(address)
    }

    /// What the client connects to a Sentinel with.
    pub fn sentinel_info(&self, node: &Node) -> ConnectionInfo {
        self.info(node)
            .set_redis_settings(self.sentinel_login.clone())
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

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Node { host, port } = self;
        match host.contains(':') {
            true => write!(f, "[{host}]:{port}"),
            false => write!(f, "{host}:{port}"),
        }
    }
}

/// Reads the form of one server.
fn plain(text: &str) -> Result<(ConnectionInfo, Node), &'static str> {
    let info = text.into_connection_info().map_err(|_| MUST)?;
    let (host, port) = match info.addr() {
        ConnectionAddr::Tcp(host, port) => (host.clone(), *port),
        ConnectionAddr::TcpTls { insecure: true, .. } => {
            return Err("must not say #insecure: the server's certificate is always checked");
        }
        ConnectionAddr::TcpTls { host, port, .. } => (host.clone(), *port),
        _ => return Err(MUST),
    };
    Ok((info, Node { host, port }))
}

fn sentinel(service: &str) -> Result<Topology, &'static str> {
    let good = |b: u8| b.is_ascii_alphanumeric() || b".-_".contains(&b);
    match !service.is_empty() && service.bytes().all(good) {
        true => Ok(Topology::Sentinel {
            service: service.to_owned(),
        }),
        false => Err(MUST),
    }
}

fn has_port(host: &str) -> bool {
    let after = host.rsplit_once(']').map_or(host, |(_, after)| after);
    after.contains(':')
}

fn shown(
    scheme: &str,
    nodes: &[Node],
    topology: &Topology,
    settings: &RedisConnectionInfo,
) -> String {
    let nodes: Vec<String> = nodes.iter().map(Node::to_string).collect();
    let nodes = nodes.join(",");
    let user = settings.username().unwrap_or("");
    let login = match (user, settings.password()) {
        (user, Some(_)) => format!("{user}:{REDACTED}@"),
        ("", None) => String::new(),
        (user, None) => format!("{user}@"),
    };
    let service = match topology {
        Topology::Sentinel { service } => format!("/{service}"),
        Topology::Single | Topology::Cluster => String::new(),
    };
    let database = match settings.db() {
        0 => String::new(),
        db => format!("/{db}"),
    };
    format!("{scheme}://{login}{nodes}{service}{database}")
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
    by_length(&mut secrets);
    secrets
}

/// The longer first, so that none hides within another.
fn by_length(secrets: &mut Vec<String>) {
    secrets.retain(|secret| secret.len() >= REDACTED_MIN);
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets.dedup();
}

#[cfg(test)]
mod tests;
