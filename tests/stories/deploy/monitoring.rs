//! What `envoy/monitoring` asks for is there: in the metrics of a running system, and in a Prometheus
//! that scrapes it.

mod alerts;
mod dashboard;
mod prometheus;

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use harness::client::post;
use harness::{Bootstrap, Envoy, Redis, SOON, Sidecar, Upstream, artefacts, eventually, registry};
use prometheus::Prometheus;
use serde_json::{Value, json};

/// The text of a file of the repository.
fn text(path: &str) -> Result<String> {
    std::fs::read_to_string(artefacts::root().join(path)).context(path.to_owned())
}

/// Every PromQL expression in a document: what stands under `expr`, or is a dashboard's variable.
fn expressions(document: &Value, found: &mut Vec<String>) {
    match document {
        Value::Object(fields) => {
            for (name, value) in fields {
                match (name.as_str(), value) {
                    ("expr" | "query", Value::String(text)) => found.push(text.clone()),
                    _ => expressions(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| expressions(item, found)),
        _ => {}
    }
}

/// A metric that an expression names, with the labels that it demands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Selector {
    metric: String,
    /// Label and value; without a value any will do.
    labels: Vec<(String, Option<String>)>,
}

impl Selector {
    /// Every selector of Pointsman's or Envoy's metrics in an expression.
    fn all(expression: &str) -> Vec<Selector> {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let mut found = Vec::new();
        let mut rest = expression;
        while let Some(start) = rest.find(is_name) {
            let tail = rest.get(start..).unwrap_or_default();
            let end = tail.find(|c| !is_name(c)).unwrap_or(tail.len());
            let (name, after) = tail.split_at(end);
            rest = after;
            let label = name == "pointsman_cluster" || name.starts_with("envoy_response_code");
            let label =
                label || name.starts_with("envoy_http_conn") || name == "envoy_cluster_name";
            if !label && (name.starts_with("pointsman_") || name.starts_with("envoy_")) {
                let braces = after.strip_prefix('{').and_then(|it| it.split_once('}'));
                let labels = braces.map_or(Vec::new(), |(inside, _)| demands(inside));
                found.push(Selector {
                    metric: name.to_owned(),
                    labels,
                });
            }
        }
        found
    }

    fn is_met_by(&self, line: &str) -> bool {
        let Some(after) = line.strip_prefix(self.metric.as_str()) else {
            return false;
        };
        if !after.starts_with(['{', ' ']) {
            return false;
        }
        self.labels.iter().all(|(label, value)| match value {
            // Prometheus takes a label that is not there for an empty one.
            Some(value) if value.is_empty() => !after.contains(&format!("{label}=\"")),
            Some(value) => after.contains(&format!("{label}=\"{value}\"")),
            None => after.contains(&format!("{label}=\"")),
        })
    }
}

/// `a="b"` demands that, `a!=""` demands some `a`; patterns are variables and demand nothing, and what
/// Prometheus knows of a target is not the target's to say.
fn demands(inside: &str) -> Vec<(String, Option<String>)> {
    let matchers = inside.split(',').map(str::trim);
    matchers
        .filter_map(|matcher| {
            let (label, value) = matcher.split_once('=')?;
            match label.strip_suffix('!') {
                Some(label) => (value == "\"\"").then(|| (label.to_owned(), None)),
                None => {
                    let value = value.strip_prefix('"')?.strip_suffix('"')?;
                    (label != "job").then_some(())?;
                    Some((label.to_owned(), Some(value.to_owned())))
                }
            }
        })
        .collect()
}

/// What the rules and the dashboard need to exist.
fn needed() -> Result<BTreeSet<Selector>> {
    let alerts: Value = serde_saphyr::from_str(&text("envoy/monitoring/alerts.yaml")?)?;
    let mut found = Vec::new();
    expressions(&alerts, &mut found);
    let rules = found.len();
    expressions(&dashboard::dashboard()?, &mut found);
    ensure!(
        rules > 10 && found.len() > rules + 20,
        "expressions: {found:?}"
    );
    Ok(found.iter().flat_map(|it| Selector::all(it)).collect())
}

fn missing(needed: &BTreeSet<Selector>, pages: &[&str]) -> Vec<Selector> {
    let is_there = |selector: &Selector| {
        let mut lines = pages.iter().flat_map(|page| page.lines());
        lines.any(|line| selector.is_met_by(line))
    };
    let unmet = needed.iter().filter(|selector| !is_there(selector));
    unmet.cloned().collect()
}

#[test]
fn selectors_are_read_with_what_they_demand() {
    let expression =
        r#"sum(rate(pointsman_a_total{cluster=~"$c", result="x", event!=""}[5m])) > up"#;
    let expected = Selector {
        metric: "pointsman_a_total".to_owned(),
        labels: vec![
            ("result".to_owned(), Some("x".to_owned())),
            ("event".to_owned(), None),
        ],
    };
    let found = Selector::all(expression);
    assert_eq!(found, std::slice::from_ref(&expected));
    assert!(expected.is_met_by(r#"pointsman_a_total{event="e",result="x"} 1"#));
    assert!(!expected.is_met_by(r#"pointsman_a_total{result="x"} 1"#));
    assert!(!expected.is_met_by(r#"pointsman_a_total{event="e",result="y"} 1"#));
    let without = &Selector::all(r#"pointsman_a_total{event=""}"#)[0];
    assert!(without.is_met_by(r#"pointsman_a_total{result="x"} 1"#));
    assert!(!without.is_met_by(r#"pointsman_a_total{event="e",result="x"} 1"#));
    assert!(!expected.is_met_by(r#"pointsman_a_total_more{event="e",result="x"} 1"#));
}

/// What a sound system never counts: changes of shared state that were given up, bodies that nobody hands
/// over, and picks of Envoy's fallback policy. Their names are in the module.
fn never_counted(metric: &str, labels: &str) -> bool {
    let never = [
        "pointsman_state_conflicts_total",
        "pointsman_bodies_missed_total",
    ];
    never.iter().any(|name| metric.contains(name)) || labels.contains("spill")
}

/// The filter's counters appear when there is something to count, so all of it happens here.
#[tokio::test]
async fn every_metric_of_alerts_and_dashboard_is_in_a_running_system() -> Result<()> {
    let (never, needed): (BTreeSet<_>, BTreeSet<_>) = needed()?
        .into_iter()
        .partition(|it| never_counted(&it.metric, &format!("{:?}", it.labels)));
    let module = std::fs::read(artefacts::module()?)?;
    for name in never
        .iter()
        .map(|it| it.metric.as_bytes())
        .chain([b"spill".as_slice()])
    {
        ensure!(module.windows(name.len()).any(|it| it == name), "{never:?}");
    }
    let mut panels = dashboard::queries()?;
    panels.retain(|(_, query)| !never_counted(query, ""));
    let (one, two, spare) = (
        Upstream::new("one")?,
        Upstream::new("two")?,
        Upstream::new("spare")?,
    );
    let redis = Redis::start().await?;
    let check = json!({"http": {}, "interval": "200ms", "timeout": "200ms"});
    let mut document = registry::cluster(
        "orders",
        &[&one, &two],
        json!({"healthCheck": check, "jsonRpc": {}}),
    );
    let backends = document["backends"].as_array_mut().context("backends")?;
    backends.push(registry::backup(&spare));
    redis.put(&document).await?;
    let ttl = ("POINTSMAN_VERDICT_TTL".to_owned(), "1s".to_owned());
    let settings = redis.settings().into_iter().chain([ttl]);
    let sidecar = Sidecar::start_on_store(settings).await?;
    let envoy = Envoy::start(Bootstrap::ads(sidecar.xds_address())?.concurrency(2)).await?;
    let prometheus = Prometheus::start(sidecar.admin_address(), envoy.admin_address())?;
    let mut client = envoy.client();
    eventually(SOON, "the first answer", async || {
        ensure!(client.get("/").await?.backend().is_some());
        Ok(())
    })
    .await?;
    // What happens before the first scrape is no increase.
    eventually(SOON, "a scrape of the sidecar", async || {
        let scraped = prometheus.query("pointsman_events_total").await?;
        ensure!(!scraped.is_empty());
        Ok(())
    })
    .await?;

    let mut call = post("/", r#"{"method":"a"}"#);
    call.headers_mut()
        .insert("content-type", "application/json".parse()?);
    client.send(call).await?;
    one.stop().await;
    two.stop().await;
    eventually(SOON, "the backup to serve", async || {
        ensure!(client.get("/").await?.backend() == Some("spare"));
        Ok(())
    })
    .await?;
    spare.stop().await;
    let mut weight = 1;
    let of_sidecar = eventually(
        SOON,
        "every metric but what a silent sidecar causes",
        async || {
            // Each time: what happened is an increase for 30 s only, and on a busy machine it takes as
            // long until everything has been asked for once.
            client.get("/").await?;
            weight = 3 - weight;
            document["backends"][0]["weight"] = json!(weight);
            redis.put(&document).await?;
            unfilled(&mut panels, &prometheus).await?;
            let pages = (sidecar.metrics().await?, envoy.prometheus().await?);
            let unmet = missing(&needed, &[&pages.0, &pages.1]);
            let expired = |it: &Selector| it.metric == "pointsman_verdicts_expired_total";
            ensure!(unmet.iter().all(expired), "missing: {unmet:#?}");
            let expired = |query: &str| query.contains("pointsman_verdicts_expired_total");
            ensure!(panels.iter().all(|it| expired(&it.1)), "empty: {panels:#?}");
            Ok(pages.0)
        },
    )
    .await?;
    sidecar.kill();
    eventually(SOON, "every metric, and every panel filled", async || {
        unfilled(&mut panels, &prometheus).await?;
        let unmet = missing(&needed, &[&of_sidecar, &envoy.prometheus().await?]);
        ensure!(unmet.is_empty(), "missing: {unmet:#?}");
        ensure!(panels.is_empty(), "empty: {panels:#?}");
        Ok(())
    })
    .await?;
    eventually(SOON, "every rule to be evaluated", async || {
        let failing = prometheus.failing_rules().await?;
        ensure!(failing.is_empty(), "{failing:#?}");
        Ok(())
    })
    .await
}

/// Keeps the queries that a Prometheus has no answer to yet.
async fn unfilled(queries: &mut Vec<(String, String)>, prometheus: &Prometheus) -> Result<()> {
    let mut empty = Vec::new();
    for (panel, query) in queries.iter() {
        if prometheus.query(query).await?.is_empty() {
            empty.push((panel.clone(), query.clone()));
        }
    }
    *queries = empty;
    Ok(())
}

fn promtool(arguments: &[&str]) -> Result<()> {
    let mut command = Command::new(artefacts::promtool()?);
    let output = command
        .current_dir(artefacts::root())
        .args(arguments)
        .output()?;
    if !output.status.success() {
        let words = [output.stdout, output.stderr].concat();
        bail!(
            "promtool {arguments:?}: {}",
            String::from_utf8_lossy(&words)
        );
    }
    Ok(())
}
