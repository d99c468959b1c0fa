//! The sidecar as a process: how it starts, ends and answers for itself (AD-12 to 17).

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::port::Port;
use harness::{Registry, SOON, Sidecar, eventually, raw, sidecar};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use super::scene::{CLUSTER, Scene, answered_by, backends, orders};

/// Far below the grace of 30 s, which it would take if it waited for anybody.
const AT_ONCE: Duration = Duration::from_secs(5);

#[tokio::test]
async fn ad_16_sigterm_ends_it_at_once_though_streams_and_polls_are_open() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let scene = Scene::start(vec![orders(&[&a, &b], json!({}))]).await?;
    let mut clients = scene.clients().await?;
    let start = Instant::now();
    scene.sidecar.stop().await?;
    let took = start.elapsed();
    println!("SIGTERM with an ADS stream and a long poll open: exit code 0 after {took:?}");
    ensure!(took < AT_ONCE);
    answered_by(&mut clients, 40).await?;
    scene.ensure_sane().await
}

/// What callers send who never end what they ask.
const HALVES: [&str; 5] = [
    "",
    "GET / HT",
    "PRI * HTTP/2",
    "GET /livez HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\nGET /",
    "PUT /v1/clusters/a HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 9\r\n\r\n{",
];
/// More of each than all of them are accepted at a time.
const OF_EACH: usize = 70;

#[tokio::test]
async fn ad_16_who_never_ends_a_request_keeps_nobody_waiting() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let scene = Scene::start(vec![orders(&[&a, &b], json!({}))]).await?;
    let (xds, admin) = (scene.sidecar.xds_address(), scene.sidecar.admin_address());
    let mut open = Vec::new();
    for half in HALVES.repeat(OF_EACH) {
        for listener in [xds, admin] {
            let mut stream = TcpStream::connect(listener).await?;
            stream.write_all(half.as_bytes()).await?;
            open.push(stream);
        }
    }
    let start = Instant::now();
    eventually(SOON, "others to be answered", async || {
        let ready = scene.sidecar.get("/readyz").await?;
        ensure!(ready.status == 200, "{}", ready.status);
        Ok(())
    })
    .await?;
    println!(
        "{} unfinished requests: others are answered after {:?}",
        open.len(),
        start.elapsed()
    );
    let mut clients = scene.clients().await?;
    answered_by(&mut clients, 40).await?;
    let start = Instant::now();
    scene.sidecar.stop().await?;
    let took = start.elapsed();
    println!("SIGTERM with them open: exit code 0 after {took:?}");
    ensure!(took < AT_ONCE);
    Ok(())
}

#[tokio::test]
async fn the_admin_listener_answers_before_the_registry_has_been_read() -> Result<()> {
    // Takes connections in and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("redis://{}", silent.local_addr()?);
    let settings = [("POINTSMAN_REGISTRY", "redis"), ("REDIS_URL", &url)];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let sidecar = Sidecar::spawn_on_store(settings)?;
    eventually(AT_ONCE, "/livez while Redis is silent", async || {
        ensure!(sidecar.get("/livez").await?.status == 200);
        Ok(())
    })
    .await?;
    let ready = sidecar.get("/readyz").await?;
    ensure!(ready.status == 503, "{}", ready.status);
    let awaited = ready.json()?["waitingFor"].clone();
    ensure!(awaited == json!(["registry", "xds"]), "{awaited}");
    ensure!(sidecar.get("/v1/clusters").await?.status == 503);
    let start = Instant::now();
    sidecar.stop().await?;
    ensure!(start.elapsed() < AT_ONCE);
    Ok(())
}

#[tokio::test]
async fn scrapers_have_a_listener_of_their_own() -> Result<()> {
    let [a] = backends(["a"])?;
    let registry = Registry::new(vec![orders(&[&a], json!({}))])?;
    let port = Port::reserve()?;
    let address = port.address().to_string();
    let settings = [
        ("POINTSMAN_METRICS_LISTEN", address.as_str()),
        ("POINTSMAN_ADMIN_TOKEN", "the-operators-word"),
    ];
    let sidecar = Sidecar::start_with(&registry, &settings).await?;
    let metrics = raw::get(port.address(), "/metrics", &[]).await?;
    ensure!(metrics.status == 200 && metrics.text().contains("pointsman_build_info"));
    for (path, status) in [
        ("/livez", 200),
        ("/readyz", 200),
        ("/status", 404),
        ("/v1/clusters", 404),
    ] {
        let said = raw::get(port.address(), path, &[]).await?.status;
        ensure!(said == status, "{path}: {said}");
    }
    sidecar.stop().await
}

/// Settings that differ from good ones, the exit code, and words that must be said. `FOLDER` stands
/// for an empty folder and `TAKEN` for an address that somebody listens on.
const WRONG: [(&[&str], i32, &[&str]); 10] = [
    (
        &["DEMO_MODE="],
        2,
        &["POINTSMAN_REGISTRY: must be", "DEMO_MODE=true keeps"],
    ),
    (
        &["DEMO_MODE=yes"],
        2,
        &["DEMO_MODE: must be true or false, not \"yes\""],
    ),
    (
        &["POINTSMAN_DEMO_FILE="],
        2,
        &["POINTSMAN_DEMO_FILE or --demo-file: is required"],
    ),
    (
        &["POINTSMAN_DEMO_FILE=FOLDER/a.yaml"],
        1,
        &["a.yaml: cannot be read"],
    ),
    (
        &[
            "POINTSMAN_XDS_LISTEN=0.0.0.0:0",
            "POINTSMAN_ADMIN_LISTEN=0.0.0.0:0",
        ],
        2,
        &[
            "unless POINTSMAN_XDS_TOKEN is set",
            "unless POINTSMAN_ADMIN_TOKEN is set",
        ],
    ),
    (
        &["POINTSMAN_XDS_LISTEN=TAKEN"],
        1,
        &["cannot listen on TAKEN"],
    ),
    (
        &["POINTSMAN_ADMIN_LISTEN=TAKEN"],
        1,
        &["cannot listen on TAKEN"],
    ),
    (
        &["POINTSMAN_WASM=inline:FOLDER/a.wasm"],
        1,
        &["FOLDER/a.wasm", "POINTSMAN_WASM"],
    ),
    (
        &["POINTSMAN_VERDICT_TTL=0s", "POINTSMAN_SHUTDOWN_GRACE=soon"],
        2,
        &[
            "POINTSMAN_VERDICT_TTL: must be a duration",
            "POINTSMAN_SHUTDOWN_GRACE: must be",
        ],
    ),
    (
        &["POINTSMAN_PORTS_FILE=FOLDER/a/b"],
        1,
        &["cannot write FOLDER/a/b"],
    ),
];

#[tokio::test]
async fn wrong_settings_are_told_all_at_once_and_end_the_start() -> Result<()> {
    let [a] = backends(["a"])?;
    let registry = Registry::new(vec![orders(&[&a], json!({}))])?;
    let file = registry.file().to_str().unwrap_or_default();
    let good = [
        ("DEMO_MODE", "true"),
        ("POINTSMAN_DEMO_FILE", file),
        ("POINTSMAN_WASM", "/etc/envoy/pointsman.wasm"),
    ];
    for (changed, code, words) in WRONG {
        let (log, folder) = (tempfile::tempdir()?, tempfile::tempdir()?);
        let place = folder.path().display().to_string();
        let fill = |text: &str| {
            text.replace("FOLDER", &place)
                .replace("TAKEN", &a.address().to_string())
        };
        let changes: Vec<String> = changed.iter().map(|setting| fill(setting)).collect();
        let changes = changes.iter().filter_map(|setting| setting.split_once('='));
        let settings: Vec<(&str, &str)> = good.into_iter().chain(changes).collect();
        let (ended, said) = sidecar::run(&["serve"], &settings, log.path()).await?;
        println!("{changed:?}: exit code {ended}");
        ensure!(ended == code, "{changed:?}: {ended}, {said}");
        let told = words.iter().all(|word| said.contains(&fill(word)));
        ensure!(told, "{changed:?}: {said}");
    }
    let log = tempfile::tempdir()?;
    let (ended, said) = sidecar::run(&["serve", "--colour", "red"], &good, log.path()).await?;
    ensure!(ended == 2 && said.contains("--colour"), "{ended}: {said}");
    Ok(())
}

#[tokio::test]
async fn ad_17_validate_says_what_is_wrong_and_where() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for (nth, (text, code, wanted)) in [
        (
            "{schema: 1, clusters: [{name: x, backends: [{address: '10.0.0.1:1'}]}]}",
            0,
            "1 backends",
        ),
        (
            "{schema: 1, clusters: [{name: x, weight: 1}]}",
            1,
            "clusters.x.weight: ",
        ),
        (
            "{schema: 1, clusters: [{name: 'a:b'}]}",
            1,
            "clusters[0].name: ",
        ),
        (
            "{schema: 1, clusters: [{name: x}, {name: x}]}",
            1,
            "clusters.x: must be unique",
        ),
        ("{schema: 1, clusters: [", 1, "must be YAML"),
        ("{clusters: []}", 1, "schema: is required"),
    ]
    .into_iter()
    .enumerate()
    {
        let file = folder.path().join(format!("{nth}.yaml"));
        std::fs::write(&file, text)?;
        let path = file.to_str().unwrap_or_default();
        let log = folder.path().join(nth.to_string());
        std::fs::create_dir(&log)?;
        let (ended, said) = sidecar::run(&["validate", path], &[], &log).await?;
        print!("{ended}: {said}");
        ensure!(
            ended == code && said.contains(wanted),
            "{text}: {ended}: {said}"
        );
        ensure!(said.starts_with(path), "the file is not named: {said}");
    }
    Ok(())
}

/// One line of a text for Prometheus: a comment, or `name{label="value",…} number`.
fn parse_line(line: &str) -> bool {
    if let Some(comment) = line.strip_prefix("# ") {
        let kind = comment.split(' ').next().unwrap_or_default();
        return ["HELP", "TYPE", "UNIT", "EOF"].contains(&kind);
    }
    let Some((series, value)) = line.rsplit_once(' ') else {
        return false;
    };
    let (name, labels) = match series.split_once('{') {
        Some((name, labels)) => (name, labels.strip_suffix('}')),
        None => (series, Some("")),
    };
    let named =
        name.starts_with("pointsman_") && name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    let label = |label: &str| {
        let Some((key, value)) = label.split_once('=') else {
            return false;
        };
        key.chars().all(|c| c.is_ascii_lowercase() || c == '_')
            && value.len() >= 2
            && value.starts_with('"')
            && value.ends_with('"')
    };
    let labels = labels.is_some_and(|all| all.is_empty() || all.split(',').all(label));
    named && labels && value.parse::<f64>().is_ok()
}

#[tokio::test]
async fn ad_12_13_14_the_admin_listener_tells_the_truth_and_no_secrets() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let probe_header = json!([{"name": "authorization", "value": "a-secret-of-the-probe"}]);
    let check = json!({"http": {"headers": probe_header, "body": "b-secret"}, "interval": "100ms"});
    let document = orders(&[&a, &b], json!({"healthCheck": check}));
    let registry = Registry::new(vec![document])?;
    let sidecar = Sidecar::start_with(&registry, &[("ENVIRONMENT", "staging")]).await?;
    ensure!(sidecar.get("/livez").await?.status == 200);
    ensure!(sidecar.get("/readyz").await?.status == 200);
    ensure!(sidecar.get("/nothing").await?.status == 404);

    let metrics = sidecar.metrics().await?;
    let bad: Vec<&str> = metrics.lines().filter(|line| !parse_line(line)).collect();
    println!(
        "/metrics: {} lines, {} do not parse",
        metrics.lines().count(),
        bad.len()
    );
    ensure!(bad.is_empty(), "{bad:#?}");
    ensure!(metrics.ends_with("# EOF\n"));
    let series: Vec<&str> = metrics
        .lines()
        .filter_map(|line| Some(line.rsplit_once(' ')?.0))
        .collect();
    let mut distinct = series
        .iter()
        .filter(|name| !name.starts_with('#'))
        .collect::<Vec<_>>();
    let count = distinct.len();
    distinct.sort_unstable();
    distinct.dedup();
    ensure!(distinct.len() == count, "a series stands twice");

    let status = sidecar.status().await?;
    ensure!(status["environment"] == "staging" && status["proxies"] == json!([]));
    let shown = &status["clusters"][0];
    ensure!(
        shown["name"] == CLUSTER && shown["total"] == 2 && shown["healthy"] == 2,
        "{shown}"
    );
    ensure!(shown["backends"][1]["address"] == b.address().to_string());
    let said = status.to_string() + &metrics + &sidecar.process().log();
    ensure!(!said.contains("a-secret") && !said.contains("b-secret"));
    Ok(())
}
