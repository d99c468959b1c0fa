//! A request whose headers wait for what its body asks for.

use std::rc::Rc;

use crate::cluster::Cluster;
use crate::config::JsonRpc;
use crate::json_rpc::{Asked, Body, Fault};

/// A request that is held.
pub struct Held {
    /// Its cluster.
    pub cluster: Rc<Cluster>,
    /// Some of the body came, or its end.
    pub has_body: bool,
    body: Body,
}

impl Held {
    /// A request of whose body nothing has come.
    pub fn new(cluster: &Rc<Cluster>, rules: &JsonRpc) -> Self {
        Held {
            cluster: cluster.clone(),
            has_body: false,
            body: Body::new(rules, cluster.burst_max),
        }
    }

    /// Reads on; at the end what was not known before is no JSON.
    pub fn read(&mut self, bytes: &[u8], is_end: bool) -> Option<Result<Asked, Fault>> {
        self.has_body = true;
        let known = self.body.read(bytes);
        known.or_else(|| is_end.then_some(Err(Fault::NotJson)))
    }
}
