//! The lease in Redis: a hash that its holder writes anew again and again.
//!
//! It has a time to live, but that is told by the server's clock, which may be set: who waits for it takes it
//! when it was not renewed for as long as it says.

use std::time::Duration;

use redis::Cmd;
use tokio::time::Instant;

use super::keeper::Keeper;
use super::node;
use crate::stores::lease::{LeaseStore, Renewal, Sight};

/// Takes what is nobody's, ours, or still what was seen of a silent holder. Key: the lease. Arguments:
/// who, for how many s, the version that was seen. Answers nothing where it is ours now, else its version
/// and for how many s it is held. What is no hash is nobody's. Its `since` tells it from every other lease, and
/// so this database from every other.
const TAKE: &str = "local holder = redis.pcall('HGET', KEYS[1], 'holder')
if type(holder) == 'table' then
  if not string.find(holder.err, 'WRONGTYPE') then return holder end
  redis.call('DEL', KEYS[1])
  holder = false
end
local renewals = tonumber(redis.call('HGET', KEYS[1], 'renewals') or 0)
if not renewals or renewals < 0 or renewals > 2^52 then renewals = 0 end
if holder and holder ~= ARGV[1] then
  local version = holder .. ' ' .. renewals
  if version ~= ARGV[3] then
    return {version, tostring(redis.call('HGET', KEYS[1], 'seconds') or '')}
  end
end
redis.call('HSET', KEYS[1], 'holder', ARGV[1], 'renewals', renewals + 1, 'seconds', ARGV[2])
if not redis.call('HGET', KEYS[1], 'since') then
  local time = redis.call('TIME')
  redis.call('HSET', KEYS[1], 'since', time[1] .. '.' .. time[2])
end
redis.call('EXPIRE', KEYS[1], ARGV[2])
return {}";
/// Takes our name off what is ours; its `since` stays.
const RELEASE: &str = "if redis.call('HGET', KEYS[1], 'holder') ~= ARGV[1] then return 0 end
return redis.call('HDEL', KEYS[1], 'holder')";

/// Where the lease stands.
pub struct RedisLease {
    keeper: Keeper,
    sight: Sight,
    /// Another one's lease whose holder is silent: its version.
    silent: Option<Vec<u8>>,
}

impl RedisLease {
    /// The lease below the registry's root.
    pub fn new(keeper: Keeper) -> Self {
        RedisLease {
            keeper,
            sight: Sight::default(),
            silent: None,
        }
    }

    async fn take(&self, holder: &str, seconds: u64) -> Result<Vec<Vec<u8>>, redis::RedisError> {
        let mut take = Cmd::new();
        take.arg("EVAL").arg(TAKE).arg(1);
        take.arg(self.keeper.layout().lease());
        take.arg(holder).arg(seconds);
        take.arg(self.silent.as_deref().unwrap_or_default());
        self.keeper.query(&take).await
    }
}

impl LeaseStore for RedisLease {
    async fn renew(&mut self, holder: &str, duration: Duration) -> Renewal {
        let seconds = duration.as_millis().div_ceil(1000).max(1);
        let seconds = u64::try_from(seconds).unwrap_or(u64::MAX);
        let answer = self.take(holder, seconds).await;
        self.silent = None;
        let theirs = match answer {
            Ok(theirs) => theirs,
            Err(error) if node::is_refusal(&error) => {
                return Renewal::Forbidden(self.keeper.why(&error));
            }
            Err(_) => return Renewal::Unknown,
        };
        let [version, said] = theirs.as_slice() else {
            self.sight.forget();
            return Renewal::Ours;
        };
        let said = std::str::from_utf8(said)
            .ok()
            .and_then(|it| it.parse().ok());
        let lasts = Duration::from_secs(said.unwrap_or(seconds));
        let seen = String::from_utf8_lossy(version);
        if self.sight.is_silent(&seen, lasts, Instant::now()) {
            self.silent = Some(version.clone());
        }
        Renewal::Theirs
    }

    async fn release(&mut self, holder: &str) {
        let mut release = Cmd::new();
        release.arg("EVAL").arg(RELEASE).arg(1);
        release.arg(self.keeper.layout().lease()).arg(holder);
        // What cannot be given back ends by itself.
        self.keeper.query::<u64>(&release).await.unwrap_or_default();
    }
}
