//! EDS: where a cluster's backends are, and what Envoy's fallback policy may do with them.
//!
//! The filter's list overrides everything said here but the addresses; the rest is for requests
//! that have no list, or one that Envoy cannot follow.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::endpoint::v3 as eds;
use pointsman_filter::config::{BackendConfig, ClusterConfig, State};

use super::number;

/// Percent; so high that one open primary keeps all of the fallback's traffic off the backups.
const OVERPROVISIONING: u32 = 1_000_000;
const PRIMARY: u32 = 0;
const BACKUP: u32 = 1;

/// What the backends of one address come to.
struct Share {
    open: bool,
    backup: bool,
    weight: u32,
}

/// A cluster's endpoints, one per distinct address; those that are leaving take nothing new.
pub fn endpoints(
    config: &ClusterConfig,
    leaving: &BTreeSet<SocketAddr>,
) -> eds::ClusterLoadAssignment {
    let mut shares = shares(config);
    for address in leaving {
        shares.entry(*address).or_insert(Share {
            open: false,
            backup: false,
            weight: 0,
        });
    }
    // Priorities must start at 0, also where there are only backups.
    let has_primary = shares.values().any(|share| !share.backup);
    let of = |priority: u32| eds::LocalityLbEndpoints {
        priority,
        lb_endpoints: shares
            .iter()
            .filter(|(_, share)| priority == u32::from(has_primary && share.backup))
            .map(|(address, share)| endpoint(*address, share))
            .collect(),
        ..Default::default()
    };
    eds::ClusterLoadAssignment {
        cluster_name: config.name.clone(),
        endpoints: [of(PRIMARY), of(BACKUP)]
            .into_iter()
            .filter(|locality| !locality.lb_endpoints.is_empty())
            .collect(),
        policy: Some(eds::cluster_load_assignment::Policy {
            overprovisioning_factor: number(OVERPROVISIONING),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn shares(config: &ClusterConfig) -> BTreeMap<SocketAddr, Share> {
    let normal = |backend: &&BackendConfig| backend.state == State::Normal;
    // Weight 0 stands back only while another of its tier has more.
    let outweighed = |tier: bool| {
        let tier = config
            .backends
            .iter()
            .filter(|backend| backend.backup == tier);
        tier.filter(normal).any(|backend| backend.weight > 0)
    };
    let (primaries, backups) = (outweighed(false), outweighed(true));
    let mut shares: BTreeMap<SocketAddr, Share> = BTreeMap::new();
    for backend in &config.backends {
        let outweighed = if backend.backup { backups } else { primaries };
        let open = normal(&backend) && (backend.weight > 0 || !outweighed);
        let share = shares.entry(backend.address).or_insert(Share {
            open: false,
            backup: true,
            weight: 0,
        });
        share.open |= open;
        share.backup &= backend.backup;
        if open {
            share.weight += u32::from(backend.weight);
        }
    }
    shares
}

fn endpoint(address: SocketAddr, share: &Share) -> eds::LbEndpoint {
    let health = match share.open {
        true => core::HealthStatus::Healthy,
        false => core::HealthStatus::Draining,
    };
    let socket = core::SocketAddress {
        address: address.ip().to_string(),
        port_specifier: Some(core::socket_address::PortSpecifier::PortValue(
            address.port().into(),
        )),
        ..Default::default()
    };
    let address = core::Address {
        address: Some(core::address::Address::SocketAddress(socket)),
    };
    eds::LbEndpoint {
        health_status: health.into(),
        load_balancing_weight: number(share.weight.max(1)),
        host_identifier: Some(eds::lb_endpoint::HostIdentifier::Endpoint(eds::Endpoint {
            address: Some(address),
            ..Default::default()
        })),
        ..Default::default()
    }
}
