//! A plugin configuration in one VM: configured, ticked, answered by the sidecar.

use std::rc::Rc;
use std::time::Duration;

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::ContextType;

use super::metrics::Whole;
use super::sidecar::Exchange;
use super::vm::Vm;
use super::{downstream, host, tick};
use crate::base::hash;
use crate::base::keys;
use crate::base::random::SplitMix64;
use crate::cluster::snapshot::Registry;
use crate::config::FilterConfig;
use crate::fleet::exchange::{Refused, TEXT_MAX};
use crate::fleet::heartbeat::Refusal;

/// How often a VM publishes its loads, merges the others' and looks after its duties.
const TICK: Duration = Duration::from_millis(100);

/// A new root context: one plugin configuration in one VM.
pub fn root(_context_id: u32) -> Box<dyn RootContext> {
    Box::new(Root {
        vm: Vm::here(),
        registry: None,
        order: 0,
        exchange: Exchange::default(),
    })
}

/// One plugin configuration in one VM. Several may live side by side: an old one lives on for as
/// long as a stream holds it, and goes on ticking.
struct Root {
    vm: Rc<Vm>,
    /// Absent until a configuration was taken over.
    registry: Option<Rc<Registry>>,
    /// The order among the roots of this VM in which it was configured.
    order: u64,
    exchange: Exchange,
}

/// Deleted with the last stream of its configuration.
impl Drop for Root {
    fn drop(&mut self) {
        self.vm.retire(self.order);
    }
}

impl Context for Root {
    fn on_http_call_response(&mut self, token: u32, headers: usize, body: usize, _trailers: usize) {
        let Some(registry) = self.registry.clone() else {
            return;
        };
        self.exchange
            .answered(&self.vm, &registry, token, (headers, body));
        if self.vm.is_in_charge(self.order) {
            self.exchange
                .post_if_due(&self.vm, &registry, host::now_ns());
        }
    }
}

impl RootContext for Root {
    /// Only parses, compiles and takes over: Envoy runs this in a canary VM too, whose configuration
    /// may then be refused. The one thing it leaves in shared data is the reason of a refusal, until
    /// a later one is taken over.
    fn on_configure(&mut self, size: usize) -> bool {
        let bytes = host::configuration(size);
        match FilterConfig::parse(&bytes) {
            Ok(config) => {
                self.take_over(&config);
                true
            }
            Err(errors) => {
                self.refuse(&bytes, &errors.to_string());
                false
            }
        }
    }

    fn on_tick(&mut self) {
        let Some(registry) = self.registry.clone() else {
            return;
        };
        if self.vm.is_in_charge(self.order) {
            tick::run(&self.vm, &registry, &mut self.exchange);
        }
    }

    fn create_http_context(&self, _context_id: u32) -> Option<Box<dyn HttpContext>> {
        self.vm.serves();
        Some(Box::new(downstream::Stream::new(
            self.vm.clone(),
            self.registry.clone(),
        )))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

impl Root {
    fn take_over(&mut self, config: &FilterConfig) {
        let now_ns = host::now_ns();
        let mut rng = SplitMix64::new(self.vm.draw() ^ now_ns);
        let registry = Rc::new({
            let mut loads = self.vm.loads.borrow_mut();
            Registry::compile(config, &mut loads, now_ns, &mut rng)
        });
        self.vm.retire(self.order);
        self.order = self.vm.enlist(&registry, now_ns);
        log::debug!(
            "event=config_applied revision={} clusters={}",
            hash::hex(registry.revision),
            registry.clusters().len()
        );
        self.vm.stats.count_whole(Whole::ConfigsApplied);
        self.vm
            .stats
            .record_whole(Whole::Revision, registry.revision >> 16);
        self.vm
            .stats
            .record_whole(Whole::IgnoredFields, u64::from(registry.ignored_fields));
        tick::forget_refused(&self.vm, &registry, now_ns);
        self.registry = Some(registry);
        host::set_tick_period(TICK);
    }

    fn refuse(&self, bytes: &[u8], reason: &str) {
        let mut reason = reason.to_owned();
        while reason.len() > TEXT_MAX {
            reason.pop();
        }
        log::error!("event=config_refused reason={reason:?}");
        self.vm.stats.count_whole(Whole::ConfigsRefused);
        let value: Option<serde_json::Value> = serde_json::from_slice(bytes).ok();
        let revision = value
            .as_ref()
            .and_then(|v| v.get("revision"))
            .and_then(|r| r.as_str());
        let revision = revision.and_then(hash::parse_hex).unwrap_or(0);
        let record = Refusal(Refused { revision, reason });
        host::set_shared(keys::REFUSED, &record.encode());
    }
}
