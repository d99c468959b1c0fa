//! What is known of the proxies: what their filters report, and what their xDS streams say.

use std::collections::{BTreeMap, BTreeSet};

use pointsman_filter::base::hash;
use pointsman_filter::config::duration;
use pointsman_filter::fleet::exchange::Rejection;
use tokio::time::Instant;

use crate::api;
use crate::fleet::{Fleet, Node, ProcessReport};
use crate::xds::{Progress, Proxies, Proxy};

/// Every node that reports, that is connected, or both.
pub fn list(fleet: &Fleet, streams: &Proxies, now: Instant) -> Vec<api::Proxy> {
    let mut nodes: BTreeMap<&str, (Option<&Node>, Vec<&Proxy>)> = BTreeMap::new();
    for (node, reports) in &fleet.nodes {
        nodes.entry(node).or_default().0 = Some(reports);
    }
    for stream in streams.streams.values() {
        nodes.entry(&stream.node).or_default().1.push(stream);
    }
    let proxy = |(node, (reports, streams)): (&str, (Option<&Node>, Vec<&Proxy>))| api::Proxy {
        node: node.to_owned(),
        streams: streams.iter().map(|it| stream(it, now)).collect(),
        ..reports.map_or_else(api::Proxy::default, |it| reported(it, now))
    };
    nodes.into_iter().map(proxy).collect()
}

/// What a node's processes report, each and together.
fn reported(node: &Node, now: Instant) -> api::Proxy {
    let reports = || node.processes.values();
    let revisions: BTreeSet<u64> = reports().flat_map(|it| it.revisions.clone()).collect();
    let oldest = reports().map(|it| now.duration_since(it.seen)).max();
    let processes = node.processes.iter();
    api::Proxy {
        doubled: node.is_doubled(now),
        workers: Some(reports().map(|it| it.workers).fold(0, u32::saturating_add)),
        revisions: Some(revisions.into_iter().map(hash::hex).collect()),
        refused: reports().find_map(|it| it.refused.as_ref()).map(refused),
        last_report_ago: oldest.map(duration::print),
        processes: processes.map(|(id, it)| process(*id, it, now)).collect(),
        ..api::Proxy::default()
    }
}

fn process(id: Option<u64>, report: &ProcessReport, now: Instant) -> api::Process {
    api::Process {
        process: id.map(hash::hex),
        workers: report.workers,
        revisions: report.revisions.iter().copied().map(hash::hex).collect(),
        refused: report.refused.as_ref().map(refused),
        last_report_ago: duration::print(now.duration_since(report.seen)),
    }
}

fn refused(rejection: &Rejection) -> api::Refused {
    api::Refused {
        revision: hash::hex(rejection.revision),
        reason: rejection.reason.clone(),
    }
}

fn stream(proxy: &Proxy, now: Instant) -> api::Stream {
    let types = proxy.types.iter();
    api::Stream {
        connected_for: duration::print(now.duration_since(proxy.connected)),
        types: types
            .map(|(kind, it)| (kind.name().to_owned(), progress(it)))
            .collect(),
    }
}

fn progress(progress: &Progress) -> api::Progress {
    let nacked = progress.nacked.as_ref();
    api::Progress {
        acked: progress.acked.clone(),
        nacked: nacked.map(|nack| api::Nack {
            resource: nack.resource.as_deref().map(str::to_owned),
            version: nack.version.clone(),
            error: nack.error.clone(),
        }),
        pending: progress.pending,
    }
}
