//! ECDS: the filter's module and its configuration.

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::filters::http::wasm::v3::Wasm;
use envoy_types::pb::envoy::extensions::wasm::v3 as wasm;
use envoy_types::pb::google::protobuf::{BoolValue, Duration, StringValue};
use envoy_types::util::pack_any;
use pointsman_filter::config::{FilterConfig, UPSTREAM_ROLE};

use super::FILTER_NAME;

/// How soon a VM that died comes back. Never as little as 1 ms: that kills Envoy.
const RELOAD_INTERVAL: Duration = Duration {
    seconds: 0,
    nanos: 20_000_000,
};

/// The filter's module, as Envoy gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Code {
    /// A path as Envoy sees it.
    Path(String),
    /// The module itself.
    Inline(Vec<u8>),
}

/// The filter with its configuration, under the name that the bootstrap asks for.
pub fn filter(config: &FilterConfig, code: &Code) -> core::TypedExtensionConfig {
    plugin(FILTER_NAME, config.to_json(), code)
}

/// The same module as the filter that sees each attempt of a cluster. Which name its root context has
/// is all that it needs to know: it is the same in every snapshot, and nothing is ever changed in it.
pub fn upstream(code: &Code) -> core::TypedExtensionConfig {
    plugin(UPSTREAM_ROLE, String::new(), code)
}

/// Both roles have one VM: what describes it is the same to the byte.
fn plugin(name: &str, configuration: String, code: &Code) -> core::TypedExtensionConfig {
    let code = core::DataSource {
        specifier: Some(match code {
            Code::Path(path) => core::data_source::Specifier::Filename(path.clone()),
            Code::Inline(bytes) => core::data_source::Specifier::InlineBytes(bytes.clone()),
        }),
        ..Default::default()
    };
    let vm = wasm::VmConfig {
        vm_id: FILTER_NAME.to_owned(),
        runtime: "envoy.wasm.runtime.v8".to_owned(),
        code: Some(core::AsyncDataSource {
            specifier: Some(core::async_data_source::Specifier::Local(code)),
        }),
        ..Default::default()
    };
    let plugin = wasm::PluginConfig {
        name: name.to_owned(),
        root_id: name.to_owned(),
        failure_policy: wasm::FailurePolicy::FailReload.into(),
        reload_config: Some(wasm::ReloadConfig {
            backoff: Some(core::BackoffStrategy {
                base_interval: Some(RELOAD_INTERVAL),
                ..Default::default()
            }),
        }),
        configuration: Some(pack_any(StringValue {
            value: configuration,
        })),
        vm: Some(wasm::plugin_config::Vm::VmConfig(vm)),
        // Without it a request that waits for its body waits for ever. Others it does not touch.
        allow_on_headers_stop_iteration: Some(BoolValue { value: true }),
        ..Default::default()
    };
    core::TypedExtensionConfig {
        name: name.to_owned(),
        typed_config: Some(pack_any(Wasm {
            config: Some(plugin),
        })),
    }
}
