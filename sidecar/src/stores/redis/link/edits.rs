//! What an editor asks over a connection: each one command or script, so nobody sees half of it.

use redis::{Cmd, RedisError};

use super::{Link, Raw};
use crate::stores::redis::layout::Key;

/// Writes only over what was read before; an empty text stands for no key at all.
const SWAP: &str = "if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
if ARGV[2] == '' then redis.call('DEL', KEYS[1]) else redis.call('SET', KEYS[1], ARGV[2]) end
return 1";

/// For scripts: sets the override of a backend, or takes it back where the text is empty. What has ended
/// goes with it, so that the hash does not grow for ever.
pub const SET_OVERRIDE: &str = "local function set_override(key, backend, text)
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  local held = redis.call('HGETALL', key)
  for i = 1, #held, 2 do
    local ok, entry = pcall(cjson.decode, held[i + 1])
    local ends = ok and type(entry) == 'table' and entry['expiresAt']
    if type(ends) == 'number' and ends <= now then redis.call('HDEL', key, held[i]) end
  end
  if text == '' then redis.call('HDEL', key, backend) else redis.call('HSET', key, backend, text) end
end
";

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

    /// Sets the override of a backend, or takes it back; what has ended goes with it.
    pub async fn set_override(
        &mut self,
        cluster: &str,
        backend: &str,
        entry: Option<&str>,
    ) -> Result<(), RedisError> {
        let key = self.layout.write(&Key::Override(cluster.to_owned()));
        let script = format!("{SET_OVERRIDE}set_override(KEYS[1], ARGV[1], ARGV[2])");
        let mut set = Cmd::new();
        set.arg("EVAL").arg(script).arg(1).arg(key);
        set.arg(backend).arg(entry.unwrap_or_default());
        set.query_async(&mut self.redis).await
    }
}
