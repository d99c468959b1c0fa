//! CDS: how Envoy speaks to a cluster's backends.

use std::collections::HashMap;
use std::time;

use envoy_types::pb::envoy::config::cluster::v3 as cds;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::envoy::extensions::filters::http::header_mutation::v3::HeaderMutation;
use envoy_types::pb::envoy::extensions::filters::http::upstream_codec::v3::UpstreamCodec;
use envoy_types::pb::envoy::extensions::filters::http::wasm::v3::Wasm;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as manager;
use envoy_types::pb::envoy::extensions::load_balancing_policies::least_request::v3::LeastRequest;
use envoy_types::pb::envoy::extensions::load_balancing_policies::override_host::v3 as lb;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
use envoy_types::pb::envoy::extensions::upstreams::http::v3 as http;
use envoy_types::pb::envoy::r#type::matcher::v3 as matcher;
use envoy_types::pb::envoy::r#type::metadata::v3 as metadata;
use envoy_types::pb::envoy::r#type::v3::Percent;
use envoy_types::pb::google::protobuf::{Any, Duration, UInt32Value};
use envoy_types::util::pack_any;
use pointsman_filter::config::{COUNT_MAX, ClusterConfig, Limits, Tls, UPSTREAM_ROLE};
use prost::Name;

use super::number;

/// Where `header_to_metadata` leaves the filter's list, and the policy finds it.
const METADATA_NAMESPACE: &str = "pointsman";
const METADATA_KEY: &str = "endpoints";
/// The filter decides who may be tried how often; where the document sets no limits, Envoy's must never
/// cut a failover short. Its default of three retries at a time fails most requests when a backend dies.
const UNLIMITED: u32 = COUNT_MAX;
/// Longest that a cluster waits for the module in its second role, which is always there.
const ROLE_TIMEOUT: time::Duration = time::Duration::from_secs(2);

/// A cluster whose endpoints come over the same stream and whose backend the filter picks.
pub fn cluster(config: &ClusterConfig) -> cds::Cluster {
    cds::Cluster {
        name: config.name.clone(),
        cluster_discovery_type: Some(cds::cluster::ClusterDiscoveryType::Type(
            cds::cluster::DiscoveryType::Eds.into(),
        )),
        eds_cluster_config: Some(cds::cluster::EdsClusterConfig {
            eds_config: Some(this_stream()),
            service_name: String::new(),
        }),
        connect_timeout: Some(lasting(config.timeouts.connect)),
        load_balancing_policy: Some(picked_by_the_filter()),
        circuit_breakers: Some(circuit_breakers(&config.limits)),
        // Without it a removed host that passes Envoy's own checks would stay pickable.
        ignore_health_on_host_removal: true,
        common_lb_config: Some(cds::cluster::CommonLbConfig {
            // The fallback keeps to what the endpoints say, however many are draining.
            healthy_panic_threshold: Some(Percent { value: 0.0 }),
            ..Default::default()
        }),
        typed_extension_protocol_options: protocol(config),
        transport_socket: config.tls.as_ref().map(|tls| secured(tls, config.http2)),
        ..Default::default()
    }
}

fn this_stream() -> core::ConfigSource {
    core::ConfigSource {
        resource_api_version: core::ApiVersion::V3.into(),
        config_source_specifier: Some(core::config_source::ConfigSourceSpecifier::Ads(
            core::AggregatedConfigSource {},
        )),
        ..Default::default()
    }
}

fn policy(name: &str, config: Any) -> cds::LoadBalancingPolicy {
    cds::LoadBalancingPolicy {
        policies: vec![cds::load_balancing_policy::Policy {
            typed_extension_config: Some(core::TypedExtensionConfig {
                name: name.to_owned(),
                typed_config: Some(config),
            }),
        }],
    }
}

fn picked_by_the_filter() -> cds::LoadBalancingPolicy {
    let list = metadata::MetadataKey {
        key: METADATA_NAMESPACE.to_owned(),
        path: vec![metadata::metadata_key::PathSegment {
            segment: Some(metadata::metadata_key::path_segment::Segment::Key(
                METADATA_KEY.to_owned(),
            )),
        }],
    };
    let fallback = policy(
        "envoy.load_balancing_policies.least_request",
        pack_any(LeastRequest::default()),
    );
    let override_host = lb::OverrideHost {
        override_host_sources: vec![lb::override_host::OverrideHostSource {
            metadata: Some(list),
            ..Default::default()
        }],
        fallback_policy: Some(fallback),
        ..Default::default()
    };
    policy(
        "envoy.load_balancing_policies.override_host",
        pack_any(override_host),
    )
}

/// A document's limits hold for each priority of routes by itself.
fn circuit_breakers(limits: &Limits) -> cds::CircuitBreakers {
    let limit = |count: u32| number(if count == 0 { UNLIMITED } else { count });
    let of = |priority: core::RoutingPriority| cds::circuit_breakers::Thresholds {
        priority: priority.into(),
        max_connections: limit(limits.max_connections),
        max_pending_requests: limit(limits.max_pending_requests),
        max_requests: limit(limits.max_requests),
        retry_budget: Some(cds::circuit_breakers::thresholds::RetryBudget {
            budget_percent: Some(Percent { value: 100.0 }),
            // Requests that wait between two attempts count for no budget, so the floor decides.
            min_retry_concurrency: number(UNLIMITED),
            ..Default::default()
        }),
        ..Default::default()
    };
    cds::CircuitBreakers {
        thresholds: vec![
            of(core::RoutingPriority::Default),
            of(core::RoutingPriority::High),
        ],
        ..Default::default()
    }
}

/// A duration as protobuf has it.
fn lasting(duration: time::Duration) -> Duration {
    Duration {
        seconds: duration.as_secs().cast_signed(),
        nanos: duration.subsec_nanos().cast_signed(),
    }
}

/// The protocol, a retry policy that is the same for every cluster, and who sees each attempt.
fn protocol(config: &ClusterConfig) -> HashMap<String, Any> {
    use http::http_protocol_options as options;
    use options::explicit_http_config::ProtocolConfig;
    let protocol = match config.http2 {
        true => ProtocolConfig::Http2ProtocolOptions(core::Http2ProtocolOptions::default()),
        false => ProtocolConfig::HttpProtocolOptions(core::Http1ProtocolOptions::default()),
    };
    let explicit = options::ExplicitHttpConfig {
        protocol_config: Some(protocol),
    };
    let message = http::HttpProtocolOptions {
        upstream_protocol_options: Some(options::UpstreamProtocolOptions::ExplicitHttpConfig(
            explicit,
        )),
        retry_policy: Some(only_the_filter_retries()),
        http_filters: match config.retry.needs_upstream() {
            true => seen_upstream(),
            false => Vec::new(),
        },
        ..Default::default()
    };
    let name = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    HashMap::from([(name.to_owned(), pack_any(message))])
}

/// Replaces the route's policy as a whole, so that a route has no say in retries: how often and on
/// what comes with each request, in the filter's headers. What is left to say here is how long Envoy
/// waits between two attempts. Envoy reads this field since 1.37.
fn only_the_filter_retries() -> route::RetryPolicy {
    let milliseconds = |number| lasting(time::Duration::from_millis(number));
    route::RetryPolicy {
        retry_on: String::new(),
        num_retries: Some(UInt32Value { value: 0 }),
        retry_back_off: Some(route::retry_policy::RetryBackOff {
            base_interval: Some(milliseconds(2)),
            max_interval: Some(milliseconds(20)),
        }),
        ..Default::default()
    }
}

/// The module once more, between the router and the backend: it sees what each attempt met. A name of
/// its own: with the listener's, Envoy would wait for it until the time is out.
fn seen_upstream() -> Vec<manager::HttpFilter> {
    use manager::http_filter::ConfigType;
    let filter = |name: &str, config: ConfigType| manager::HttpFilter {
        name: name.to_owned(),
        config_type: Some(config),
        ..Default::default()
    };
    let found = core::ExtensionConfigSource {
        config_source: Some(core::ConfigSource {
            initial_fetch_timeout: Some(lasting(ROLE_TIMEOUT)),
            ..this_stream()
        }),
        // Where the module cannot be loaded, requests pass as if it stood there not.
        default_config: Some(pack_any(HeaderMutation::default())),
        type_urls: vec![Wasm::type_url(), HeaderMutation::type_url()],
        ..Default::default()
    };
    vec![
        filter(UPSTREAM_ROLE, ConfigType::ConfigDiscovery(found)),
        filter(
            "envoy.filters.http.upstream_codec",
            ConfigType::TypedConfig(pack_any(UpstreamCodec {})),
        ),
    ]
}

fn secured(config: &Tls, http2: bool) -> core::TransportSocket {
    let context = tls::UpstreamTlsContext {
        sni: config.sni.clone(),
        common_tls_context: Some(tls::CommonTlsContext {
            alpn_protocols: match http2 {
                true => vec!["h2".to_owned()],
                false => vec![],
            },
            validation_context_type: (!config.ca_file.is_empty()).then(|| checked(config)),
            ..Default::default()
        }),
        ..Default::default()
    };
    core::TransportSocket {
        name: "envoy.transport_sockets.tls".to_owned(),
        config_type: Some(core::transport_socket::ConfigType::TypedConfig(pack_any(
            context,
        ))),
    }
}

/// A chain that ends at a trusted authority says who signed; the name says for whom. The authorities
/// come over the same stream: they change while the cluster and its connections stay.
fn checked(config: &Tls) -> tls::common_tls_context::ValidationContextType {
    let name = matcher::StringMatcher {
        match_pattern: Some(matcher::string_matcher::MatchPattern::Exact(
            config.sni.clone(),
        )),
        ..Default::default()
    };
    let names = tls::SubjectAltNameMatcher {
        san_type: tls::subject_alt_name_matcher::SanType::Dns.into(),
        matcher: Some(name),
        ..Default::default()
    };
    let context = tls::CertificateValidationContext {
        match_typed_subject_alt_names: match config.sni.is_empty() {
            true => vec![],
            false => vec![names],
        },
        ..Default::default()
    };
    let authorities = tls::SdsSecretConfig {
        name: config.ca_file.clone(),
        sds_config: Some(this_stream()),
    };
    tls::common_tls_context::ValidationContextType::CombinedValidationContext(
        tls::common_tls_context::CombinedCertificateValidationContext {
            default_validation_context: Some(context),
            validation_context_sds_secret_config: Some(authorities),
            ..Default::default()
        },
    )
}
