//! What an editor asks over a connection: each one command or script, so nobody sees half of it.

use redis::{Cmd, RedisError};

use super::{Fields, Link, Raw};
use crate::stores::redis::layout::Key;

/// Writes only over what was read before; an empty text stands for no key at all.
const SWAP: &str = "if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
if ARGV[2] == '' then redis.call('DEL', KEYS[1]) else redis.call('SET', KEYS[1], ARGV[2]) end
return 1";

/// Writes fields of a hash only where all of them are as they were read; an empty text stands for none.
const SWAP_FIELDS: &str = "for i = 1, #ARGV, 3 do
  if (redis.call('HGET', KEYS[1], ARGV[i]) or '') ~= ARGV[i + 1] then return 0 end
end
for i = 1, #ARGV, 3 do
  if ARGV[i + 2] == '' then redis.call('HDEL', KEYS[1], ARGV[i])
  else redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 2]) end
end
return 1";

/// A field of a hash that is to be written.
pub struct Swap {
    /// Its name.
    pub field: String,
    /// What was read there; empty: nothing.
    pub before: Vec<u8>,
    /// What is to stand there; empty: nothing.
    pub after: String,
}

impl Link {
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

    /// The overrides of a cluster's backends, and the store's clock, ms.
    pub async fn overrides(&mut self, cluster: &str) -> Result<(Fields, u64), RedisError> {
        let key = Key::Override(cluster.to_owned());
        let mut read = Cmd::new();
        read.arg("HGETALL").arg(self.layout.write(&key));
        Ok((self.query(&read).await?, self.time().await?))
    }

    /// Puts fields in the place of what was read there; false: something else stands there by now.
    pub async fn swap_overrides(
        &mut self,
        cluster: &str,
        swaps: &[Swap],
    ) -> Result<bool, RedisError> {
        let key = Key::Override(cluster.to_owned());
        let mut swap = Cmd::new();
        swap.arg("EVAL")
            .arg(SWAP_FIELDS)
            .arg(1)
            .arg(self.layout.write(&key));
        for Swap {
            field,
            before,
            after,
        } in swaps
        {
            swap.arg(field).arg(before).arg(after);
        }
        self.query(&swap).await
    }
}
