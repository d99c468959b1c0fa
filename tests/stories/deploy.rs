//! What `envoy/` hands to operators: bootstraps, manifests, monitoring, and a sidecar on another host.

mod bootstraps;
mod manifests;
mod monitoring;
mod remote;
mod shipped;
