//! Writes what became of each object beside it: only what is news, and not too much at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use pointsman_filter::config::ClusterConfig;
use pointsman_filter::fleet::exchange::Version;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::conditions::{Seen, status};
use super::warned::warned;
use crate::fleet::{Fleet, reach};
use crate::health::HealthView;
use crate::registry::feeds::crd::{self, status::BackendClusterStatus};
use crate::registry::follow::Told;
use crate::registry::record::Object;
use crate::stores::kubernetes::access::{Access, error_chain, is_passing};
use crate::stores::kubernetes::lease::KubernetesLease;
use crate::stores::lease::Lease;
use crate::trust::Trust;

/// Who writes, in the objects' `managedFields`.
const MANAGER: &str = "pointsman";
/// Between two passes over all objects: what flaps is written once a second, no more.
const PASS_INTERVAL: Duration = Duration::from_secs(1);
/// From news to the pass that writes them. Most proxies run a change sooner, so that one write says
/// both that it was taken and that it is in use, and the API server has no work with statuses while
/// a change is on its way.
const SETTLING: Duration = Duration::from_millis(250);
/// Objects per pass: between two passes the Lease is renewed.
const PASS_MAX: usize = 500;
/// Objects per answer to a reading.
const READ_MAX: u32 = 500;
/// Writes under way at a time.
const WRITES_MAX: usize = 8;
/// Until a status is written again that the server, in trouble, did not take.
const TROUBLE_PAUSE: Duration = Duration::from_secs(5);
/// Answers of a server in trouble that end a pass; fewer may be about these objects only.
const TROUBLES_MAX: usize = 8;

/// The writer of statuses.
pub struct Writer {
    objects: Api<DynamicObject>,
    lease: Lease<KubernetesLease>,
    told: watch::Receiver<Told>,
    /// What the proxies run.
    fleet: watch::Receiver<Fleet>,
    /// What the probes found.
    health: watch::Receiver<Arc<HealthView>>,
    /// Whom clusters trust.
    trust: watch::Receiver<Arc<Trust>>,
    /// Which verdicts were looked at last.
    verdicts: Version,
    /// Another one may have written since `written` was read.
    outdated: bool,
    /// What stands there, by the object's uid.
    written: BTreeMap<String, BackendClusterStatus>,
    /// What the server did not take, and from when it is tried again; `None`: once everything is
    /// read again.
    failed: BTreeMap<String, Option<Instant>>,
    /// Which reading `written` is of.
    listings: u64,
    /// A refusal was said already.
    refusal_told: bool,
}

/// What the writer hears: what is to be said, what the proxies run, what the probes found, whom
/// clusters trust.
pub type Inputs = (
    watch::Receiver<Told>,
    watch::Receiver<Fleet>,
    watch::Receiver<Arc<HealthView>>,
    watch::Receiver<Arc<Trust>>,
);

/// What became of one write.
enum Outcome {
    /// It stands there.
    Written(BackendClusterStatus),
    /// The object is gone or another one by now.
    Gone,
    /// The server does not want it.
    Refused(kube::Error),
    /// The server is in trouble, or has too much to do.
    Trouble,
    /// The server is out of reach.
    Lost,
}

impl Outcome {
    fn of(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) if status.is_not_found() || status.is_conflict() => {
                Outcome::Gone
            }
            error @ kube::Error::Api(_) if is_passing(&error) => Outcome::Trouble,
            error @ kube::Error::Api(_) => Outcome::Refused(error),
            _ => Outcome::Lost,
        }
    }
}

impl Writer {
    /// Nothing is known of what stands there, beyond what the reports say.
    pub fn new(
        access: &Access,
        lease: Lease<KubernetesLease>,
        (told, fleet, health, trust): Inputs,
    ) -> Self {
        Writer {
            lease,
            objects: access.objects.clone(),
            told,
            fleet,
            health,
            trust,
            verdicts: Version::default(),
            outdated: true,
            written: BTreeMap::new(),
            failed: BTreeMap::new(),
            listings: 0,
            refusal_told: false,
        }
    }

    /// Writes until told to stop, and then lets another one write.
    pub async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.write_all() => {}
        }
        self.lease.release().await;
        Ok(())
    }

    /// Writes until the registry's stage ends.
    async fn write_all(&mut self) {
        let mut beat = interval(self.lease.beat());
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // From when there is something to say.
        let mut dirty = Some(Instant::now());
        let mut next_pass = Instant::now();
        loop {
            let due = dirty.filter(|_| self.lease.held(Instant::now()));
            let pass_at = due.map_or(next_pass, |since| next_pass.max(since + SETTLING));
            tokio::select! {
                _ = beat.tick() => {
                    if self.lease.renew().await {
                        // Another one wrote until now.
                        self.outdated = true;
                        dirty = dirty.or(Some(Instant::now()));
                    }
                }
                () = sleep_until(pass_at), if due.is_some() => {
                    let all = self.pass().await;
                    dirty = (!all).then(Instant::now);
                    next_pass = Instant::now() + PASS_INTERVAL;
                }
                changed = self.told.changed(), if dirty.is_none() => match changed {
                    Ok(()) => dirty = Some(Instant::now()),
                    // The registry's stage ended, so all do.
                    Err(_) => return,
                },
                Ok(()) = self.health.changed(), if dirty.is_none() => {
                    let verdicts = self.health.borrow_and_update().version;
                    dirty = (verdicts != self.verdicts).then(Instant::now);
                }
                Ok(()) = self.trust.changed(), if dirty.is_none() => {
                    dirty = Some(Instant::now());
                }
                Ok(()) = self.fleet.changed(), if dirty.is_none() => {
                    dirty = Some(Instant::now());
                }
            }
        }
    }

    /// Writes what is news; false: not all of it could be.
    async fn pass(&mut self) -> bool {
        if self.outdated && !self.read().await {
            return false;
        }
        // Whole seconds, as Kubernetes writes times.
        let now = Timestamp::now();
        let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
        let mut news = self.news(now);
        let mut all = news.len() <= PASS_MAX && self.failed.values().all(Option::is_none);
        let mut troubles = 0;
        news.truncate(PASS_MAX);
        let objects = self.objects.clone();
        let mut writes = stream::iter(news)
            .map(|(object, status)| write(objects.clone(), object, status))
            .buffer_unordered(WRITES_MAX);
        while let Some((uid, outcome)) = writes.next().await {
            match outcome {
                Outcome::Written(status) => drop(self.written.insert(uid, status)),
                Outcome::Gone => {}
                Outcome::Refused(error) => {
                    self.failed.insert(uid, None);
                    if !std::mem::replace(&mut self.refusal_told, true) {
                        let why = error_chain(&error);
                        warn!(
                            event = "registry_read_only",
                            "the status of a BackendCluster cannot be written: {why}"
                        );
                    }
                }
                Outcome::Trouble => {
                    self.failed
                        .insert(uid, Some(Instant::now() + TROUBLE_PAUSE));
                    (all, troubles) = (false, troubles + 1);
                    if troubles >= TROUBLES_MAX {
                        return false;
                    }
                }
                Outcome::Lost => return false,
            }
        }
        all
    }

    /// Reads what stands there; whether it could be read. The reports do not say: nobody is told of a
    /// status that another sidecar writes.
    async fn read(&mut self) -> bool {
        let mut page = ListParams::default().limit(READ_MAX);
        self.listings = self.told.borrow().listings;
        self.written.clear();
        loop {
            let Ok(read) = self.objects.list(&page).await else {
                return false;
            };
            self.written
                .extend(read.items.into_iter().filter_map(stands));
            let next = read.metadata.continue_.filter(|next| !next.is_empty());
            let Some(next) = next else {
                self.outdated = false;
                return true;
            };
            page = page.continue_token(&next);
        }
    }

    /// The objects whose status is not what it should be, each with what it should be.
    fn news(&mut self, now: Timestamp) -> Vec<(Object, BackendClusterStatus)> {
        let told = self.told.borrow_and_update();
        if told.listings != self.listings {
            // What somebody deleted is written again.
            self.listings = told.listings;
            self.written.clear();
            self.failed.clear();
        }
        let ripe = Instant::now();
        self.failed
            .retain(|_, again| again.is_none_or(|again| again > ripe));
        let health = Arc::clone(&self.health.borrow_and_update());
        self.verdicts = health.version;
        let fleet = self.fleet.borrow_and_update();
        let trust = Arc::clone(&self.trust.borrow_and_update());
        let view = &told.view;
        let clusters = view.registry.config.clusters.iter();
        let clusters: BTreeMap<&str, &ClusterConfig> =
            clusters.map(|it| (it.name.as_str(), it)).collect();
        let mut news = Vec::new();
        let objects = || {
            let reports = view.reports.iter();
            reports.filter_map(|report| Some((report, report.object.as_ref()?)))
        };
        for (report, object) in objects() {
            let before = self.written.get(&object.uid).or(object.status.as_ref());
            let cluster = report.cluster.as_deref();
            let seen = Seen {
                reach: reach(&view.history, cluster.unwrap_or(""), &fleet),
                by: self.lease.holder(),
            };
            let cluster = cluster.and_then(|name| clusters.get(name).copied());
            let report = warned(report, cluster, &trust);
            let wanted = status((&report, object), cluster, seen, &health, before, now);
            if before != Some(&wanted) && !self.failed.contains_key(&object.uid) {
                news.push((object.clone(), wanted));
            }
        }
        let known: BTreeSet<&str> = objects().map(|(_, it)| it.uid.as_str()).collect();
        self.written.retain(|uid, _| known.contains(uid.as_str()));
        news
    }
}

/// The status of an object, by its uid; `None` where it has none that we would write.
fn stands(mut object: DynamicObject) -> Option<(String, BackendClusterStatus)> {
    let status = object.data.get_mut("status")?.take();
    Some((object.metadata.uid?, serde_json::from_value(status).ok()?))
}

async fn write(
    objects: Api<DynamicObject>,
    object: Object,
    status: BackendClusterStatus,
) -> (String, Outcome) {
    let patch = patch(&object, &status);
    let params = PatchParams::apply(MANAGER).force();
    let written = objects
        .patch_status(&object.name, &params, &Patch::Apply(&patch))
        .await;
    let outcome = match written {
        Ok(_) => Outcome::Written(status),
        Err(error) => Outcome::of(error),
    };
    (object.uid, outcome)
}

/// With the uid: what was made anew under the same name is left alone.
fn patch(object: &Object, status: &BackendClusterStatus) -> Value {
    let kind = crd::resource();
    json!({
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": {"name": object.name, "uid": object.uid},
        "status": status,
    })
}
