//! What is promised, case by case.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::registry::Published;
use crate::registry::model::{Output, Registry, SourceStatus};
use crate::telemetry::events::Events;

const DEADLINE: Duration = Duration::from_secs(10);

fn exchange() -> ExchangeConfig {
    ExchangeConfig {
        cluster: document::SIDECAR_CLUSTER.to_owned(),
        token: String::new(),
        verdict_ttl: Duration::from_secs(30),
    }
}

/// A registry file whose cluster `a` has one backend at this port; `b` rides along.
fn text(port: u16) -> String {
    format!(
        "schema: 1
clusters: [{{name: a, backends: [{{address: '10.0.0.1:{port}'}}]}}, {{name: b}}]"
    )
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().build().unwrap()
}

fn started(path: &Path) -> Result<Follower<FileFeed>, DocumentError> {
    runtime().block_on(FileFeed::start(path.to_owned(), exchange()))
}

struct Watched {
    published: watch::Receiver<Published>,
    status: watch::Receiver<SourceStatus>,
    reloads: watch::Sender<u64>,
    events: Events,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Watched {
    fn start(path: &Path) -> Self {
        let demo = started(path).unwrap();
        let (published, status) = (watch::Sender::new(None), watch::Sender::default());
        published.send_replace(Some(demo.registry()));
        let (stop, reloads) = (CancellationToken::new(), watch::Sender::new(0));
        let events = Events::default();
        let receivers = (published.subscribe(), status.subscribe());
        let output = Output {
            published,
            status,
            events: events.clone(),
            reloads: reloads.subscribe(),
        };
        let child = stop.clone();
        let follow = async move {
            tokio::select! {
                () = child.cancelled() => {}
                () = demo.run(output) => {}
            }
        };
        let thread = std::thread::spawn(move || runtime().block_on(follow));
        Watched {
            published: receivers.0,
            status: receivers.1,
            reloads,
            events,
            stop,
            thread: Some(thread),
        }
    }

    fn registry(&self) -> Arc<Registry> {
        self.published.borrow().clone().unwrap()
    }

    /// The port of `a`'s backend; 0: there is no `a`.
    fn port(&self) -> u16 {
        let registry = self.registry();
        let a = registry
            .config
            .clusters
            .iter()
            .find(|cluster| cluster.name == "a");
        a.map_or(0, |a| a.backends[0].address.port())
    }

    fn wait(&self, what: &str, is: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !is(self) {
            assert!(start.elapsed() < DEADLINE, "{what}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.stop.cancel();
        self.thread.take().unwrap().join().unwrap();
    }
}

#[test]
fn edits_in_place_by_rename_and_by_swapped_directory() {
    let dir = tempfile::tempdir().unwrap();
    let volume = |name: &str, port| {
        let volume = dir.path().join(name);
        fs::create_dir(&volume).unwrap();
        fs::write(volume.join("c.yaml"), text(port)).unwrap();
    };
    volume("v1", 1);
    volume("v2", 2);
    symlink("v1", dir.path().join("..data")).unwrap();
    symlink("..data/c.yaml", dir.path().join("c.yaml")).unwrap();
    let path = dir.path().join("c.yaml");
    let watched = Watched::start(&path);
    assert_eq!(watched.port(), 1);

    symlink("v2", dir.path().join("..new")).unwrap();
    fs::rename(dir.path().join("..new"), dir.path().join("..data")).unwrap();
    watched.wait("a mounted volume was swapped", |w| w.port() == 2);

    fs::write(&path, text(3)).unwrap();
    watched.wait("written in place", |w| w.port() == 3);

    fs::write(dir.path().join("new"), text(4)).unwrap();
    fs::rename(dir.path().join("new"), dir.path().join("v2/c.yaml")).unwrap();
    watched.wait("renamed over", |w| w.port() == 4);
}

#[test]
fn a_bad_record_keeps_its_last_good_version() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.yaml");
    fs::write(&path, text(1)).unwrap();
    let watched = Watched::start(&path);

    let bad = "schema: 1
clusters: [{name: a, backends: [{address: nowhere}]}, {name: c}, {name: d, x: 1}]";
    fs::write(&path, bad).unwrap();
    watched.wait("read", |w| !w.registry().rejected.is_empty());
    let registry = watched.registry();
    let names: Vec<&str> = registry
        .config
        .clusters
        .iter()
        .map(|c| c.name.as_str())
        .collect();
    assert_eq!(
        names,
        ["a", "c"],
        "b is gone, c is new, d never had a good version"
    );
    assert_eq!(watched.port(), 1);
    let places: Vec<&str> = registry.rejected.iter().map(|r| r.place.as_str()).collect();
    assert_eq!(places, ["clusters.a", "clusters.d"]);
    assert_eq!(
        watched.status.borrow().error,
        None,
        "the file as a whole is fine"
    );

    fs::write(&path, text(2)).unwrap();
    watched.wait("repaired", |w| {
        w.port() == 2 && w.registry().rejected.is_empty()
    });
}

#[test]
fn a_file_that_is_broken_or_gone_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.yaml");
    fs::write(&path, text(1)).unwrap();
    let watched = Watched::start(&path);
    let before = watched.registry();
    let error = |w: &Watched| w.status.borrow().error.clone().unwrap_or_default();

    fs::write(&path, "schema: 1\nclusters: [{na").unwrap();
    watched.wait("broken", |w| error(w).contains("must be YAML"));
    fs::write(&path, "").unwrap();
    watched.wait("truncated", |w| error(w).contains("must be an object"));
    fs::remove_file(&path).unwrap();
    watched.wait("gone", |w| error(w).contains("cannot be read"));
    assert!(Arc::ptr_eq(&before, &watched.registry()));

    fs::write(&path, text(9)).unwrap();
    watched.wait("back", |w| w.port() == 9 && error(w).is_empty());
}

#[test]
fn without_a_first_reading_there_is_no_registry() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.yaml");
    let said = |path: &Path| {
        let refused = started(path).err();
        refused.expect("refused").to_string()
    };
    assert!(said(&path).contains("c.yaml: cannot be read"));
    fs::write(&path, "clusters: []").unwrap();
    assert!(said(&path).contains("c.yaml: schema: is required"));
}

#[test]
fn the_revision_is_the_contents() {
    let listing = |port| {
        let items = document::check(Path::new("r.yaml"), &text(port)).unwrap();
        document::judged(items, document::judge)
    };
    let one = Registry::new(listing(1), exchange());
    let again = Registry::new(listing(1), exchange());
    assert_eq!(one, again);
    assert_ne!(one.revision, Registry::new(listing(2), exchange()).revision);
    assert_eq!(format!("{:016x}", one.revision), one.config.revision);
}

#[test]
fn words_survive_a_restart_and_end_by_themselves() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.yaml");
    fs::write(&path, text(1)).unwrap();
    let beside = dir.path().join("c.yaml.overrides");
    let states = |w: &Watched| {
        let registry = w.registry();
        let clusters = registry.config.clusters.iter();
        clusters
            .flat_map(|it| &it.backends)
            .map(|it| it.state.name())
            .collect::<Vec<_>>()
    };
    let entry =
        |end: u64| format!(r#"{{"a":{{"10.0.0.1:1":{{"state":"Cordoned","expiresAt":{end}}}}}}}"#);
    let watched = Watched::start(&path);
    assert_eq!(states(&watched), ["Normal"]);
    fs::write(&beside, entry(clock::now() + 86_400_000)).unwrap();
    watched.wait("obeyed", |w| states(w) == ["Cordoned"]);
    drop(watched);
    let watched = Watched::start(&path);
    assert_eq!(states(&watched), ["Cordoned"]);

    fs::write(&beside, "{").unwrap();
    let error = |w: &Watched| w.status.borrow().error.clone().unwrap_or_default();
    watched.wait("said", |w| {
        error(w).contains("c.yaml.overrides: must be JSON")
    });
    assert_eq!(
        states(&watched),
        ["Cordoned"],
        "the last good overrides hold"
    );
    assert!(started(&path).is_err(), "but are no start");

    fs::write(&beside, entry(clock::now() + 300)).unwrap();
    watched.wait("ended", |w| states(w) == ["Normal"] && error(w).is_empty());
    let expired = ("override_expired", 1);
    watched.wait("counted", |w| w.events.counts().contains(&expired));
}

#[test]
fn a_word_that_cannot_be_read_is_named_and_costs_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.yaml");
    fs::write(&path, text(1)).unwrap();
    let beside = dir.path().join("c.yaml.overrides");
    let bad = r#"{"a": {"10.0.0.1:1": "Cordoned", "x": "Bogus"}, "b": 3, "gone": {"y": 1}}"#;
    fs::write(&beside, bad).unwrap();
    let watched = Watched::start(&path);
    let seen = |w: &Watched| {
        let registry = w.registry();
        let rejected = registry.rejected.iter().map(|it| it.place.clone());
        let a = &registry.config.clusters[0].backends[0];
        (a.state.name(), rejected.collect::<Vec<_>>())
    };
    let places = ["overrides.a[x]", "overrides.b", "overrides.gone[y]"];
    assert_eq!(
        seen(&watched),
        ("Cordoned", places.map(str::to_owned).to_vec())
    );
    assert_eq!(watched.status.borrow().error, None);
    // What turns bad later keeps what it said before.
    fs::write(&beside, r#"{"a": {"10.0.0.1:1": "Bogus"}}"#).unwrap();
    let place = "overrides.a[10.0.0.1:1]".to_owned();
    watched.wait("named", |w| seen(w) == ("Cordoned", vec![place.clone()]));
    fs::write(&beside, "{}").unwrap();
    watched.wait("repaired", |w| seen(w) == ("Normal", Vec::new()));
}

#[test]
fn ad_8_a_reload_reads_now_and_says_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.yaml");
    fs::write(&path, text(1)).unwrap();
    let watched = Watched::start(&path);
    fs::remove_file(&path).unwrap();
    watched.reloads.send_replace(1);
    watched.wait("granted", |w| w.status.borrow().reloaded == 1);
    assert!(watched.status.borrow().error.is_some());
    assert_eq!(watched.port(), 1);
    fs::write(&path, text(2)).unwrap();
    watched.reloads.send_replace(2);
    watched.wait("granted again", |w| w.status.borrow().reloaded == 2);
    assert_eq!(
        (watched.port(), watched.status.borrow().error.is_none()),
        (2, true)
    );
}
