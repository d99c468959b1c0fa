//! The lease in Redis: a hash with a time to live, by the server's clock.

use std::time::Duration;

use redis::Cmd;

use super::keeper::Keeper;
use super::node;
use crate::stores::lease::{LeaseStore, Renewal};

/// Takes what is nobody's or ours.
const TAKE: &str = "local holder = redis.call('HGET', KEYS[1], 'holder')
if holder and holder ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'holder', ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 1";
/// Deletes what is ours.
const RELEASE: &str = "if redis.call('HGET', KEYS[1], 'holder') ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])";

/// Where the lease stands.
pub struct RedisLease(pub Keeper);

impl LeaseStore for RedisLease {
    async fn renew(&mut self, holder: &str, duration: Duration) -> Renewal {
        let Self(keeper) = self;
        let mut take = Cmd::new();
        take.arg("EVAL")
            .arg(TAKE)
            .arg(1)
            .arg(keeper.layout().lease());
        let seconds = duration.as_millis().div_ceil(1000).max(1);
        take.arg(holder).arg(seconds.to_string());
        match keeper.query::<u64>(&take).await {
            Ok(1) => Renewal::Ours,
            Ok(_) => Renewal::Theirs,
            Err(error) if node::is_refusal(&error) => Renewal::Forbidden(keeper.why(&error)),
            Err(_) => Renewal::Unknown,
        }
    }

    async fn release(&mut self, holder: &str) {
        let Self(keeper) = self;
        let mut release = Cmd::new();
        release.arg("EVAL").arg(RELEASE).arg(1);
        release.arg(keeper.layout().lease()).arg(holder);
        // What cannot be given back ends by itself.
        keeper.query::<u64>(&release).await.unwrap_or_default();
    }
}
