//! The admin API's answers, as their two ends read and write them: the sidecar's listener and the
//! client's commands. Fields are only ever added, and a reader leaves alone those it does not know.

mod proxies;

pub use proxies::{Nack, Process, Progress, Proxies, Proxy, Refused, Stream};
