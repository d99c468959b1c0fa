//! What an editor asks over a connection: each one command or script, so nobody sees half of it.

use redis::{Cmd, RedisError};

use super::Connection;
use crate::registry::redis::layout::Key;
use crate::registry::redis::record::Raw;

/// Writes only over what was read before; an empty text stands for no key at all.
const SWAP: &str = "if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
if ARGV[2] == '' then redis.call('DEL', KEYS[1]) else redis.call('SET', KEYS[1], ARGV[2]) end
return 1";

impl Connection {
    /// What stands under a cluster's key.
    pub async fn document(&mut self, cluster: &str) -> Result<Raw, RedisError> {
        let read = self.read(vec![Key::Cluster(cluster.to_owned())]).await?;
        let raw = read.into_iter().next().map(|(_, raw)| raw);
        Ok(raw.unwrap_or(Raw::Missing))
    }

    /// Puts `after` in the place of `before`; false: something else stands there by now.
    pub async fn swap(
        &mut self,
        cluster: &str,
        before: &[u8],
        after: &[u8],
    ) -> Result<bool, RedisError> {
        let key = self.layout.write(&Key::Cluster(cluster.to_owned()));
        let mut swap = Cmd::new();
        swap.arg("EVAL")
            .arg(SWAP)
            .arg(1)
            .arg(key)
            .arg(before)
            .arg(after);
        swap.query_async(&mut self.redis).await
    }

    /// Puts a word on a backend, or takes it back.
    pub async fn say(
        &mut self,
        cluster: &str,
        backend: &str,
        word: Option<&str>,
    ) -> Result<(), RedisError> {
        let key = self.layout.write(&Key::Override(cluster.to_owned()));
        let mut say = Cmd::new();
        match word {
            Some(word) => say.arg("HSET").arg(key).arg(backend).arg(word),
            None => say.arg("HDEL").arg(key).arg(backend),
        };
        say.query_async(&mut self.redis).await
    }
}
