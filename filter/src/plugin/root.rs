//! A plugin configuration in one VM: configured, ticked, answered by the sidecar.

use std::rc::Rc;
use std::time::Duration;

use log::Level;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::ContextType;

use super::downstream::Downstream;
use super::metrics::Whole;
use super::sidecar::SidecarLink;
use super::upstream::Upstream;
use super::vm::Vm;
use super::{host, tick};
use crate::base::event::EventName;
use crate::base::hash;
use crate::base::keys;
use crate::cluster::snapshot::Snapshot;
use crate::config::{ConfigErrors, UPSTREAM_ROLE};
use crate::fleet::exchange::{Rejection, TEXT_MAX};
use crate::fleet::rejection::RejectionRecord;

/// How often a VM publishes its loads, merges the others' and does its jobs.
const TICK: Duration = Duration::from_millis(100);

/// A new root context: one plugin configuration in one VM.
pub fn root(_context_id: u32) -> Box<dyn RootContext> {
    Box::new(Root {
        vm: Vm::here(),
        is_upstream: false,
        snapshot: None,
        order: 0,
        sidecar: SidecarLink::default(),
    })
}

/// One plugin configuration in one VM. Several may live side by side: an old one lives on for as
/// long as a stream holds it, and goes on ticking.
struct Root {
    vm: Rc<Vm>,
    /// It sees the attempts of streams, and has no clusters of its own.
    is_upstream: bool,
    /// Absent until a configuration was taken over.
    snapshot: Option<Rc<Snapshot>>,
    /// The order among the roots of this VM in which it was configured.
    order: u64,
    sidecar: SidecarLink,
}

/// Deleted with the last stream of its configuration.
impl Drop for Root {
    fn drop(&mut self) {
        self.vm.retire(self.order);
    }
}

impl Context for Root {
    fn on_http_call_response(&mut self, token: u32, headers: usize, body: usize, _trailers: usize) {
        let Some(snapshot) = self.snapshot.clone() else {
            return;
        };
        self.sidecar
            .answered(&self.vm, &snapshot, token, (headers, body));
        if self.vm.is_in_charge(self.order) {
            self.sidecar.post_if_due(&self.vm, &snapshot, host::now());
        }
    }
}

impl RootContext for Root {
    /// Only parses, compiles and takes over: Envoy runs this in a canary VM too, whose configuration
    /// may then be rejected. The one thing that leaves there in shared data is the reason of a
    /// rejection, until a later one is taken over.
    fn on_configure(&mut self, size: usize) -> bool {
        let name = host::property("plugin_root_id");
        self.is_upstream = name.as_deref() == Some(UPSTREAM_ROLE.as_bytes());
        if self.is_upstream {
            return true;
        }
        let bytes = host::configuration(size);
        match self.compile(&bytes) {
            Ok(snapshot) => {
                self.take_over(snapshot);
                true
            }
            Err(errors) => {
                self.reject(&bytes, &errors.to_string());
                false
            }
        }
    }

    fn on_tick(&mut self) {
        let Some(snapshot) = self.snapshot.clone() else {
            return;
        };
        if self.vm.is_in_charge(self.order) {
            tick::run(&self.vm, &snapshot, &mut self.sidecar);
        }
    }

    fn create_http_context(&self, _context_id: u32) -> Option<Box<dyn HttpContext>> {
        if self.is_upstream {
            return Some(Box::new(Upstream::new(self.vm.clone())));
        }
        self.vm.serves();
        Some(Box::new(Downstream::new(
            self.vm.clone(),
            self.snapshot.clone(),
        )))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

impl Root {
    fn compile(&self, bytes: &[u8]) -> Result<Snapshot, ConfigErrors> {
        let (living, seed) = (self.vm.snapshots(), self.vm.draw());
        let mut loads = self.vm.loads.borrow_mut();
        Snapshot::compile(bytes, &living, &mut loads, host::now(), seed)
    }

    fn take_over(&mut self, snapshot: Snapshot) {
        let (snapshot, now) = (Rc::new(snapshot), host::now());
        self.vm.retire(self.order);
        self.order = self.vm.enlist(&snapshot, now);
        let revision = hash::hex(snapshot.revision);
        let fields = format!("revision={revision} clusters={}", snapshot.clusters().len());
        self.vm
            .metrics
            .happened_whole(EventName::ConfigApplied, Level::Debug, &fields);
        self.vm.metrics.count_whole(Whole::ConfigsApplied);
        self.vm
            .metrics
            .record_whole(Whole::Revision, snapshot.revision >> 16);
        self.vm
            .metrics
            .record_whole(Whole::IgnoredFields, u64::from(snapshot.ignored_fields));
        tick::forget_rejected(&self.vm, &snapshot, now);
        self.snapshot = Some(snapshot);
        host::set_tick_period(TICK);
    }

    fn reject(&self, bytes: &[u8], reason: &str) {
        let mut reason = reason.to_owned();
        while reason.len() > TEXT_MAX {
            reason.pop();
        }
        let fields = format!("reason={reason:?}");
        self.vm
            .metrics
            .happened_whole(EventName::ConfigRefused, Level::Error, &fields);
        self.vm.metrics.count_whole(Whole::ConfigsRefused);
        let value: Option<serde_json::Value> = serde_json::from_slice(bytes).ok();
        let revision = value
            .as_ref()
            .and_then(|v| v.get("revision"))
            .and_then(|r| r.as_str());
        let revision = revision.and_then(hash::parse_hex).unwrap_or(0);
        let record = RejectionRecord(Rejection { revision, reason });
        host::set_shared(keys::REJECTED, &record.encode());
    }
}
