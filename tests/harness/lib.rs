//! What every story needs: real processes on free ports, scriptable backends, clients that count.
//!
//! Three rules. Whoever starts something owns it: dropping the value ends it, also when the test
//! panics. Nothing waits but [`wait`], and every wait has a deadline and says what it waited for.
//! What is tested is what ships: Envoy starts from `envoy/envoy.yaml` and `envoy/static.yaml`.
//!
//! In reading order: [`wait`], [`port`], [`process`], [`clock`], [`upstream`] (backends), [`tls`],
//! [`registry`] (the demo file), [`redis`], [`kubernetes`], [`home`] (any of these three), [`sidecar`],
//! [`envoy`], [`scene`] (all of them together), then the clients [`client`], [`load`], [`raw`],
//! [`websocket`] and [`grpc`]; [`proxy`] stands for many Envoys, [`vm`]
//! runs the module in an interpreter, [`compose`] the compose file on a Docker engine; [`artefacts`]
//! finds what was built, [`report`] says what ran.

pub mod artefacts;
pub mod client;
pub mod clock;
pub mod compose;
pub mod envoy;
pub mod grpc;
pub mod home;
pub mod kubernetes;
pub mod load;
pub mod port;
pub mod process;
pub mod proxy;
pub mod raw;
pub mod redis;
pub mod registry;
pub mod report;
pub mod scene;
pub mod sidecar;
pub mod tls;
pub mod upstream;
pub mod vm;
pub mod wait;
pub mod websocket;

pub use client::{Client, Response};
pub use clock::Clock;
pub use envoy::{Bootstrap, Envoy};
pub use home::{Home, Kind, Store};
pub use kubernetes::Kubernetes;
pub use load::{Load, Tally};
pub use proxy::Proxy;
pub use redis::Redis;
pub use registry::Registry;
pub use scene::Scene;
pub use sidecar::Sidecar;
pub use tls::TlsFront;
pub use upstream::{Behaviour, Upstream};
pub use wait::{SOON, eventually, throughout};
