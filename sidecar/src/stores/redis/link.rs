//! One connection to Redis and what is asked over it; no rule stands here.

mod edits;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, ErrorKind, FromRedisValue, Pipeline, PushInfo, RedisError, Value};

use super::hints::Hints;
use super::layout::{self, Key, Layout};
use super::node;
use crate::settings::{Node, RedisSettings, RedisUrl, Topology};
pub use edits::Swap;

/// Keys per SCAN and commands per pipeline.
const BATCH: usize = 500;

/// Written only by the lease's holder where there is a lease, and only by whoever read later: an older
/// status never replaces a newer one. What is no status, or is of a time that has not come, is no newer one.
const WRITE_STATUS: &str =
    "if ARGV[1] ~= '' and redis.pcall('HGET', KEYS[2], 'holder') ~= ARGV[1] then return 0 end
local seen = redis.pcall('HGET', KEYS[1], 'updatedAt')
seen = type(seen) == 'string' and tonumber(seen)
local latest = redis.call('TIME')[1] * 1000 + 60000
if seen and seen > tonumber(ARGV[2]) and seen <= latest then return 0 end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'updatedAt', unpack(ARGV, 2))
return 1";
/// Deleted only by the lease's holder where there is a lease.
const DELETE_STATUS: &str =
    "if ARGV[1] ~= '' and redis.pcall('HGET', KEYS[2], 'holder') ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])";
/// Deleted only if it is still as silent as when it was read.
const REAP: &str = "if redis.call('HGET', KEYS[1], 'heartbeatAt') ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])";

/// Adds to the counters and answers what was no count and begins anew, and what all are then. An empty name
/// stands for the whole key.
const COUNT: &str = "local repaired = {}
local held = redis.pcall('HGET', KEYS[1], '')
if type(held) == 'table' then
  if not string.find(held.err, 'WRONGTYPE') then return held end
  redis.call('DEL', KEYS[1])
  repaired = {''}
end
for i = 1, #ARGV, 2 do
  local count = redis.pcall('HINCRBY', KEYS[1], ARGV[i], ARGV[i + 1])
  if type(count) == 'table' and not string.find(count.err, 'integer')
    and not string.find(count.err, 'overflow') then return count end
  if type(count) == 'table' or count < 0 then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
    repaired[#repaired + 1] = ARGV[i]
  end
end
return {repaired, redis.call('HGETALL', KEYS[1])}";

/// A hash as Redis answers it.
pub type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// What stands under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Raw {
    /// Nothing.
    Missing,
    /// A string.
    Text(Vec<u8>),
    /// A hash; never empty.
    Hash(Fields),
    /// Something else than the layout asks for.
    WrongType,
}

/// One connection; dropped, it closes.
pub struct Link {
    redis: MultiplexedConnection,
    url: RedisUrl,
    node: Node,
    layout: Layout,
    hints: Arc<Hints>,
}

impl Link {
    /// Connects and asks for a sign of life.
    pub async fn open(settings: &RedisSettings, layout: &Layout) -> Result<Self, RedisError> {
        let hints = Arc::new(Hints::default());
        let hears = Arc::clone(&hints);
        let hear = move |push: PushInfo| -> Result<(), ()> {
            hears.hear(&push);
            Ok(())
        };
        let url = settings.url.clone();
        let node = node::find(&url, layout).await?;
        let config = node::config().set_push_sender(hear);
        let mut connection = Link {
            redis: node::connect(url.info(&node), &config).await?,
            url,
            node,
            layout: layout.clone(),
            hints,
        };
        connection.ping().await?;
        Ok(connection)
    }

    /// Where this connection's change notices arrive.
    pub fn hints(&self) -> Arc<Hints> {
        Arc::clone(&self.hints)
    }

    /// A sign of life, soon; in a cluster also that the registry is still here.
    pub async fn ping(&mut self) -> Result<(), RedisError> {
        if *self.url.topology() == Topology::Cluster {
            return node::ensure_owner(&mut self.redis, &self.layout).await;
        }
        let mut ping = Cmd::new();
        ping.arg("PING");
        node::ask::<Value>(&mut self.redis, &ping).await.map(drop)
    }

    /// Fails when the Sentinels name another master by now. Who is cut off from them stays.
    async fn ensure_master(&self) -> Result<(), RedisError> {
        if !matches!(self.url.topology(), Topology::Sentinel { .. }) {
            return Ok(());
        }
        match node::find(&self.url, &self.layout).await {
            Ok(named) if named != self.node => {
                let why = "the Sentinels name another master";
                Err(RedisError::from((ErrorKind::Io, why, named.to_string())))
            }
            _ => Ok(()),
        }
    }

    /// Asks one question.
    pub async fn query<T: FromRedisValue>(&mut self, command: &Cmd) -> Result<T, RedisError> {
        command.query_async(&mut self.redis).await
    }

    /// Asks several at once.
    pub async fn query_all<T: FromRedisValue>(&mut self, pipe: &Pipeline) -> Result<T, RedisError> {
        pipe.query_async(&mut self.redis).await
    }

    /// From now on every change below the watched prefixes is heard.
    pub async fn track(&mut self) -> Result<(), RedisError> {
        let mut track = Cmd::new();
        track.arg("CLIENT").arg("TRACKING").arg("ON").arg("BCAST");
        for prefix in self.layout.watched() {
            track.arg("PREFIX").arg(prefix);
        }
        track.query_async::<()>(&mut self.redis).await
    }

    /// The store's clock, ms.
    pub async fn time(&mut self) -> Result<u64, RedisError> {
        let mut time = Cmd::new();
        time.arg("TIME");
        let (seconds, micros): (u64, u64) = time.query_async(&mut self.redis).await?;
        Ok(seconds.saturating_mul(1000).saturating_add(micros / 1000))
    }

    /// What tells this database from another one that was put in its place: when its lease was made.
    /// `None`: it has none.
    pub async fn identity(&mut self) -> Result<Option<Vec<u8>>, RedisError> {
        let mut since = Cmd::new();
        since.arg("HGET").arg(self.layout.lease()).arg("since");
        match since.query_async(&mut self.redis).await {
            // A lease that is none says nothing, nor does a user without the right to it.
            Err(error) if node::is_refusal(&error) => Ok(None),
            answer => answer,
        }
    }

    /// Reads all there is.
    pub async fn everything(&mut self) -> Result<Vec<(Key, Raw)>, RedisError> {
        self.ensure_master().await?;
        let mut found: BTreeSet<Key> = BTreeSet::new();
        let mut cursor = 0u64;
        loop {
            let mut scan = Cmd::new();
            scan.arg("SCAN")
                .arg(cursor)
                .arg("MATCH")
                .arg(self.layout.pattern());
            scan.arg("COUNT").arg(BATCH);
            let (next, keys): (u64, Vec<Vec<u8>>) = scan.query_async(&mut self.redis).await?;
            // A key may be named twice: the set forgets the second time.
            found.extend(keys.iter().filter_map(|key| self.layout.parse(key)));
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
        // A node from which the registry moves away lists only what it still has.
        self.ping().await?;
        self.read(found.into_iter().collect()).await
    }

    /// Reads what stands under these keys now.
    pub async fn read(&mut self, keys: Vec<Key>) -> Result<Vec<(Key, Raw)>, RedisError> {
        let mut read = Vec::with_capacity(keys.len());
        for chunk in keys.chunks(BATCH) {
            let mut pipe = Pipeline::new();
            pipe.ignore_errors();
            for key in chunk {
                let verb = match key {
                    Key::Backend { .. } | Key::Override(_) => "HGETALL",
                    Key::Status(_) => "HGET",
                    Key::Cluster(_) => "GET",
                    Key::Malformed(_) => "EXISTS",
                };
                let ask = pipe.cmd(verb).arg(self.layout.bytes(key));
                if matches!(key, Key::Status(_)) {
                    // A status is ours: that it is one is enough.
                    ask.arg("updatedAt");
                }
            }
            let answers: Vec<Result<Value, RedisError>> = pipe.query_async(&mut self.redis).await?;
            for (key, answer) in chunk.iter().zip(answers) {
                read.push((key.clone(), raw(answer)?));
            }
        }
        Ok(read)
    }

    /// Writes what is to be said of clusters, as of `now` (ms of Redis time), while the lease is the
    /// `holder`'s (empty: there are none), and removes what was said of those that are gone. The names of
    /// those that could not be, and why.
    pub async fn write_statuses(
        &mut self,
        holder: &str,
        news: &[(String, Vec<(&'static str, String)>)],
        gone: &[String],
        now: u64,
    ) -> Result<Vec<(String, RedisError)>, RedisError> {
        let mut failed = Vec::new();
        for chunk in news.chunks(BATCH) {
            let mut pipe = Pipeline::new();
            for (name, fields) in chunk {
                let key = self.layout.write(&Key::Status(name.clone()));
                let write = pipe.cmd("EVAL").arg(WRITE_STATUS).arg(2).arg(key);
                write.arg(self.layout.lease()).arg(holder).arg(now);
                for (field, value) in fields {
                    write.arg(field).arg(value);
                }
            }
            let names = chunk.iter().map(|(name, _)| name);
            failed.extend(self.each(pipe, names).await?);
        }
        for chunk in gone.chunks(BATCH) {
            let mut pipe = Pipeline::new();
            for name in chunk {
                let key = self.layout.write(&Key::Status(name.clone()));
                let delete = pipe.cmd("EVAL").arg(DELETE_STATUS).arg(2).arg(key);
                delete.arg(self.layout.lease()).arg(holder);
            }
            failed.extend(self.each(pipe, chunk.iter()).await?);
        }
        Ok(failed)
    }

    /// Asks for each of these by itself; what failed.
    async fn each<'a>(
        &mut self,
        mut pipe: Pipeline,
        names: impl Iterator<Item = &'a String>,
    ) -> Result<Vec<(String, RedisError)>, RedisError> {
        pipe.ignore_errors();
        let answers: Vec<Result<Value, RedisError>> = pipe.query_async(&mut self.redis).await?;
        let failed = names.zip(answers);
        let failed = failed.filter_map(|(name, answer)| Some((name.clone(), answer.err()?)));
        Ok(failed.collect())
    }

    /// Fails where nothing can be written now. Changes nothing.
    pub async fn ensure_writable(&mut self) -> Result<(), RedisError> {
        let mut write = Cmd::new();
        // Refused as every write is, but it makes no stream where there is none.
        write.arg("XADD").arg(self.layout.nothing());
        write.arg("NOMKSTREAM").arg("*").arg("a").arg("b");
        write.query_async::<Value>(&mut self.redis).await.map(drop)
    }

    /// Adds to what all sidecars have counted; what it is then.
    pub async fn count(&mut self, news: &[(&'static str, u64)]) -> Result<Counted, RedisError> {
        let mut count = Cmd::new();
        count
            .arg("EVAL")
            .arg(COUNT)
            .arg(1)
            .arg(self.layout.counters());
        for (name, more) in news {
            count.arg(name).arg(more);
        }
        let (repaired, all): (Vec<Vec<u8>>, Vec<Vec<u8>>) =
            count.query_async(&mut self.redis).await?;
        Ok(counted(&self.layout.counters(), &repaired, &all))
    }

    /// Deletes backends that are still as silent as they were.
    pub async fn reap(&mut self, silent: &[(Key, Vec<u8>)]) -> Result<(), RedisError> {
        for chunk in silent.chunks(BATCH) {
            let mut pipe = Pipeline::new();
            for (key, heartbeat) in chunk {
                let key = self.layout.write(key);
                let reap = pipe.cmd("EVAL").arg(REAP).arg(1).arg(key);
                reap.arg(heartbeat.as_slice());
            }
            pipe.query_async::<()>(&mut self.redis).await?;
        }
        Ok(())
    }
}

/// What all sidecars have counted, and what stands there that is no count.
#[derive(Debug, PartialEq, Eq)]
pub struct Counted {
    /// By name.
    pub totals: BTreeMap<String, u64>,
    /// Where, and what is wrong.
    pub odd: Vec<(String, String)>,
}

/// Names and values in turn → the counts; `repaired` are names of the key that were no counts until now.
fn counted(key: &str, repaired: &[Vec<u8>], all: &[Vec<u8>]) -> Counted {
    let mut found = Counted {
        totals: BTreeMap::new(),
        odd: Vec::new(),
    };
    for name in repaired {
        let place = match name.is_empty() {
            true => key.to_owned(),
            false => format!("{key}[{}]", layout::text(name)),
        };
        found
            .odd
            .push((place, "was no count, and begins anew".to_owned()));
    }
    for pair in all.chunks_exact(2) {
        let [name, value] = pair else { continue };
        let texts = (std::str::from_utf8(name), std::str::from_utf8(value));
        let count = texts.1.ok().and_then(|it| it.parse().ok());
        match (texts.0, count) {
            (Ok(name), Some(count)) => drop(found.totals.insert(name.to_owned(), count)),
            _ => {
                let place = format!("{key}[{}]", layout::text(name));
                let why = format!("must be a count, not {:?}", layout::text(value));
                found.odd.push((place, why));
            }
        }
    }
    found
}

/// What an answer says of a key; an error that is not about the key's type is the session's end.
fn raw(answer: Result<Value, RedisError>) -> Result<Raw, RedisError> {
    let value = match answer {
        Err(error) if error.code() == Some("WRONGTYPE") => return Ok(Raw::WrongType),
        answer => answer?,
    };
    Ok(match value {
        Value::Nil | Value::Int(0) => Raw::Missing,
        Value::BulkString(text) => Raw::Text(text),
        Value::Map(fields) if fields.is_empty() => Raw::Missing,
        Value::Map(fields) => Raw::Hash(
            fields
                .into_iter()
                .filter_map(|pair| match pair {
                    (Value::BulkString(field), Value::BulkString(value)) => Some((field, value)),
                    _ => None,
                })
                .collect(),
        ),
        _ => Raw::WrongType,
    })
}
