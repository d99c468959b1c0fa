//! The admin API's answers, as their two ends read and write them: the sidecar's listener and the
//! client's commands. Fields are only ever added, and a reader leaves alone those it does not know.

mod clusters;
mod jobs;
mod overrides;
mod proxies;
mod writes;

pub use clusters::{Backend, BackendReach, Cluster, Clusters, Registry, Rejected, Status, Store};
pub use jobs::{APPLY, Job, Jobs, Wanted};
pub use overrides::{Overridden, Override, Overrides};
pub use proxies::{Nack, Process, Progress, Proxies, Proxy, Refused, Stream};
pub use writes::{Fault, Held, Serving, Written, WrongField};
