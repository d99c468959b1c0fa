//! From the servers that the URL names to the one that holds the registry.
//!
//! With Sentinels it is the master they name. In a cluster all keys have one hash tag, so they are
//! all on one node: whoever is asked for a key says which. Nothing is remembered: every session
//! asks again.

use std::future::Future;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionInfo, ErrorKind, FromRedisValue, RedisError,
    ServerErrorKind,
};
use tokio::time::timeout;

use super::layout::Layout;
use crate::settings::{Node, RedisUrl, Topology};

/// Longest time to connect, and to answer a question that costs nothing.
pub const PING_MAX: Duration = Duration::from_secs(2);
/// Longest time to answer anything else.
pub const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Nodes of a cluster that may send us on before this is no cluster but a circle.
const REDIRECTIONS_MAX: usize = 5;

/// How every connection to a server is made, but for who hears its pushes.
pub fn config() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(PING_MAX))
        .set_response_timeout(Some(ANSWER_MAX))
}

/// Connects to one server.
pub async fn connect(
    info: ConnectionInfo,
    config: &AsyncConnectionConfig,
) -> Result<MultiplexedConnection, RedisError> {
    let client = Client::open(info)?;
    let connecting = client.get_multiplexed_async_connection_with_config(config);
    // The library's own limit covers the dial, not what is said to set the connection up.
    within(ANSWER_MAX, connecting).await
}

/// The server that holds the registry now.
pub async fn find(url: &RedisUrl, layout: &Layout) -> Result<Node, RedisError> {
    let mut failed = RedisError::from((ErrorKind::InvalidClientConfig, "no server is named"));
    for node in url.nodes() {
        let found = match url.topology() {
            Topology::Single => Ok(node.clone()),
            Topology::Sentinel { service } => master(url, node, service).await,
            Topology::Cluster => owner(url, node, layout).await,
        };
        match found {
            Ok(found) => return Ok(found),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// Fails unless this server of a cluster holds the registry, all of it.
pub async fn ensure_owner(
    redis: &mut MultiplexedConnection,
    layout: &Layout,
) -> Result<(), RedisError> {
    let mut exists = Cmd::new();
    // A key that never exists: while a slot moves, the old node answers only for keys it still has.
    exists.arg("EXISTS").arg(layout.nothing());
    ask::<u64>(redis, &exists).await.map(drop)
}

/// What a server answers that will do what it was asked when its trouble is over: a replica, one without
/// memory, disk or replicas, one that is busy, or starts, or has lost its cluster.
const TROUBLES: [&str; 9] = [
    "READONLY",
    "OOM",
    "NOREPLICAS",
    "MISCONF",
    "BUSY",
    "LOADING",
    "MASTERDOWN",
    "CLUSTERDOWN",
    "TRYAGAIN",
];

/// Whether the server answered and said no. A node that sends us elsewhere did not, nor did one in
/// trouble, such as one that has become a replica: another one holds the registry now.
pub fn is_refusal(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::Server(_) | ErrorKind::Extension => {
            error.redirect_node().is_none() && !is_trouble(error)
        }
        _ => false,
    }
}

/// Whether the server answered that it cannot now.
pub fn is_trouble(error: &RedisError) -> bool {
    error.code().is_some_and(|code| TROUBLES.contains(&code))
}

/// Asks what costs nothing to answer.
pub async fn ask<T: FromRedisValue>(
    redis: &mut MultiplexedConnection,
    command: &Cmd,
) -> Result<T, RedisError> {
    within(PING_MAX, command.query_async::<T>(redis)).await
}

async fn within<T>(
    limit: Duration,
    answer: impl Future<Output = Result<T, RedisError>>,
) -> Result<T, RedisError> {
    let late = || RedisError::from((ErrorKind::Io, "no answer in time"));
    timeout(limit, answer).await.map_err(|_| late())?
}

async fn master(url: &RedisUrl, sentinel: &Node, service: &str) -> Result<Node, RedisError> {
    let mut redis = connect(url.sentinel_info(sentinel), &config()).await?;
    let mut question = Cmd::new();
    question
        .arg("SENTINEL")
        .arg("GET-MASTER-ADDR-BY-NAME")
        .arg(service);
    let answer: Option<(String, u16)> = ask(&mut redis, &question).await?;
    let (host, port) = answer.ok_or_else(|| {
        let why = "the Sentinel watches no master of that name";
        RedisError::from((ErrorKind::InvalidClientConfig, why, service.to_owned()))
    })?;
    Ok(Node { host, port })
}

async fn owner(url: &RedisUrl, seed: &Node, layout: &Layout) -> Result<Node, RedisError> {
    let mut node = seed.clone();
    for _ in 0..REDIRECTIONS_MAX {
        let mut redis = connect(url.info(&node), &config()).await?;
        let Err(error) = ensure_owner(&mut redis, layout).await else {
            return Ok(node);
        };
        node = redirected(&error, &node).ok_or(error)?;
    }
    let why = "the nodes of the cluster send us round in circles";
    Err(RedisError::from((ErrorKind::Io, why)))
}

/// Where a node of a cluster sends us; one that does not know its own name means itself.
fn redirected(error: &RedisError, from: &Node) -> Option<Node> {
    if error.kind() != ErrorKind::Server(ServerErrorKind::Moved) {
        return None;
    }
    let (place, _) = error.redirect_node()?;
    let (host, port) = place.rsplit_once(':')?;
    let host = match host.trim_start_matches('[').trim_end_matches(']') {
        "" | "?" => &from.host,
        host => host,
    };
    Some(Node {
        host: host.to_owned(),
        port: port.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use redis::parse_redis_value;

    use super::*;

    fn answered(text: &str) -> RedisError {
        parse_redis_value(format!("-{text}\r\n").as_bytes())
            .and_then(redis::Value::extract_error)
            .unwrap_err()
    }

    #[test]
    fn a_refusal_is_told_from_a_server_that_is_the_registrys_no_more() {
        for (answer, refusal) in [
            ("NOPERM no", true),
            ("ERR no", true),
            ("WRONGTYPE no", true),
            ("OOM no", false),
            ("NOREPLICAS no", false),
            ("MISCONF no", false),
            ("BUSY no", false),
            ("LOADING no", false),
            ("MASTERDOWN no", false),
            ("CLUSTERDOWN no", false),
            ("TRYAGAIN no", false),
            (
                "READONLY You can't write against a read only replica.",
                false,
            ),
            ("MOVED 3999 10.0.0.1:6381", false),
        ] {
            let error = answered(answer);
            assert_eq!(is_refusal(&error), refusal, "{answer}");
            let moved = answer.starts_with("MOVED");
            assert_eq!(is_trouble(&error), !refusal && !moved, "{answer}");
        }
    }

    #[test]
    fn where_a_node_sends_us() {
        let from = Node {
            host: "a".to_owned(),
            port: 1,
        };
        for (answer, expected) in [
            ("MOVED 3999 10.0.0.1:6381", Some("10.0.0.1:6381")),
            ("MOVED 3999 :7", Some("a:7")),
            ("MOVED 3999 ?:7", Some("a:7")),
            ("MOVED 3999 ::1:7", Some("[::1]:7")),
            ("MOVED 3999 redis.svc:7", Some("redis.svc:7")),
            ("ASK 3999 10.0.0.1:6381", None),
            ("CLUSTERDOWN The cluster is down", None),
        ] {
            let error = answered(answer);
            let found = redirected(&error, &from).map(|node| node.to_string());
            assert_eq!(found.as_deref(), expected, "{answer}");
        }
    }
}
