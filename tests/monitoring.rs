//! What `envoy/monitoring` asks for is there, and its alerts fire.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use harness::{
    Bootstrap, Envoy, Redis, Sidecar, Upstream, artefacts, eventually, registry, report,
};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(30);

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
            if name.starts_with("pointsman_") || name.starts_with("envoy_") {
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
            Some(value) => after.contains(&format!("{label}=\"{value}\"")),
            None => after.contains(&format!("{label}=\"")),
        })
    }
}

/// `a="b"` demands that, `a!=""` demands some `a`; patterns are variables and demand nothing.
fn demands(inside: &str) -> Vec<(String, Option<String>)> {
    let matchers = inside.split(',').map(str::trim);
    matchers
        .filter_map(|matcher| {
            let (label, value) = matcher.split_once('=')?;
            match label.strip_suffix('!') {
                Some(label) => (value == "\"\"").then(|| (label.to_owned(), None)),
                None => {
                    let value = value.strip_prefix('"')?.strip_suffix('"')?;
                    Some((label.to_owned(), Some(value.to_owned())))
                }
            }
        })
        .collect()
}

/// What the rules and the dashboard need to exist.
fn needed() -> Result<BTreeSet<Selector>> {
    let alerts: Value = serde_saphyr::from_str(&text("envoy/monitoring/alerts.yaml")?)?;
    let dashboard: Value = serde_json::from_str(&text("envoy/monitoring/dashboard.json")?)?;
    let mut found = Vec::new();
    expressions(&alerts, &mut found);
    let rules = found.len();
    expressions(&dashboard, &mut found);
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
    assert!(!expected.is_met_by(r#"pointsman_a_total_more{event="e",result="x"} 1"#));
}

/// The filter's counters appear when there is something to count, so all of it happens here.
#[tokio::test]
async fn every_metric_of_alerts_and_dashboard_is_in_a_running_system() -> Result<()> {
    let needed = needed()?;
    let (one, two, spare) = (
        Upstream::new("one")?,
        Upstream::new("two")?,
        Upstream::new("spare")?,
    );
    let redis = Redis::start().await?;
    let check = json!({"http": {}, "interval": "200ms", "timeout": "200ms"});
    let mut document = registry::cluster("orders", &[&one, &two], json!({"healthCheck": check}));
    let backends = document["backends"].as_array_mut().context("backends")?;
    backends.push(registry::backup(&spare));
    redis.put(&document).await?;
    let ttl = ("POINTSMAN_VERDICT_TTL".to_owned(), "1s".to_owned());
    let settings = redis.settings().into_iter().chain([ttl]);
    let sidecar = Sidecar::start_on_store(settings).await?;
    let envoy = Envoy::start(Bootstrap::ads(sidecar.xds_address())?.concurrency(2)).await?;
    let mut client = envoy.client();
    eventually(SOON, "the first answer", async || {
        ensure!(client.get("/").await?.backend().is_some());
        Ok(())
    })
    .await?;

    one.stop().await;
    two.stop().await;
    eventually(SOON, "the backup to serve", async || {
        ensure!(client.get("/").await?.backend() == Some("spare"));
        Ok(())
    })
    .await?;
    spare.stop().await;
    let of_sidecar = eventually(
        SOON,
        "every metric but what a silent sidecar causes",
        async || {
            client.get("/").await?;
            let pages = (sidecar.metrics().await?, envoy.prometheus().await?);
            let unmet = missing(&needed, &[&pages.0, &pages.1]);
            let expired = |it: &Selector| it.metric == "pointsman_verdicts_expired_total";
            ensure!(unmet.iter().all(expired), "missing: {unmet:#?}");
            Ok(pages.0)
        },
    )
    .await?;
    sidecar.kill();
    eventually(SOON, "every metric", async || {
        let unmet = missing(&needed, &[&of_sidecar, &envoy.prometheus().await?]);
        ensure!(unmet.is_empty(), "missing: {unmet:#?}");
        Ok(())
    })
    .await
}

#[test]
fn promtool_reads_the_files_and_every_alert_fires() -> Result<()> {
    report::component("promtool");
    promtool(&[
        "check",
        "config",
        "--syntax-only",
        "envoy/monitoring/prometheus.yaml",
    ])?;
    promtool(&["check", "rules", "envoy/monitoring/alerts.yaml"])?;
    promtool(&["test", "rules", "tests/fixtures/alerts_test.yaml"])?;
    let told = text("tests/fixtures/alerts_test.yaml")?;
    for line in text("envoy/monitoring/alerts.yaml")?.lines() {
        if let Some((_, alert)) = line.split_once("- alert: ") {
            ensure!(
                told.contains(&format!("- name: {alert} fires\n")),
                "{alert} never fires"
            );
        }
    }
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
