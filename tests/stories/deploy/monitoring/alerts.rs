//! promtool fires every alert, and each is explained.

use anyhow::{Context, Result, ensure};
use harness::report;
use serde_json::Value;

use super::{promtool, text};

const FIRED: [&str; 2] = ["traffic", "control"];

fn fixture(name: &str) -> String {
    format!("tests/fixtures/alerts/{name}.yaml")
}

/// Every alert of the shipped rules.
fn alerts() -> Result<Vec<Value>> {
    let rules: Value = serde_saphyr::from_str(&text("envoy/monitoring/alerts.yaml")?)?;
    let groups = rules["groups"].as_array().context("no groups")?;
    let rules = groups.iter().filter_map(|group| group["rules"].as_array());
    let alerts = rules.flatten().filter(|rule| rule["alert"].is_string());
    Ok(alerts.cloned().collect())
}

#[test]
fn promtool_reads_the_files_and_every_alert_fires_when_it_should() -> Result<()> {
    report::component("promtool");
    let config = "envoy/monitoring/prometheus.yaml";
    promtool(&["check", "config", "--syntax-only", config])?;
    promtool(&["check", "rules", "envoy/monitoring/alerts.yaml"])?;
    for name in [FIRED.as_slice(), &["quiet"]].concat() {
        promtool(&["test", "rules", &fixture(name)])?;
    }
    Ok(())
}

/// Just below, inside `for`, firing, over a failed scrape, resolved: what promtool is asked.
#[test]
fn every_alert_has_every_case() -> Result<()> {
    let mut stories = Vec::new();
    for name in FIRED {
        let fixture: Value = serde_saphyr::from_str(&text(&fixture(name))?)?;
        stories.extend(fixture["tests"].as_array().context("no tests")?.clone());
    }
    let quiet = text(&fixture("quiet"))?;
    for alert in alerts()? {
        let name = alert["alert"].as_str().unwrap_or_default();
        let story = stories.iter().find(|it| it["name"] == name);
        let story = story.with_context(|| format!("{name} never fires"))?;
        let asked = story["alert_rule_test"].as_array().context("no cases")?;
        ensure!(asked.iter().all(|it| it["alertname"] == name), "{name}");
        let fires = |case: &Value| {
            case["exp_alerts"]
                .as_array()
                .is_some_and(|it| !it.is_empty())
        };
        let cases: Vec<bool> = asked.iter().map(fires).collect();
        let quiet_first = cases.iter().take_while(|fires| !**fires).count();
        let waits = usize::from(alert["for"].is_string());
        ensure!(
            quiet_first > waits,
            "{name}: below, and inside `for`: {cases:?}"
        );
        ensure!(
            cases.iter().filter(|fires| **fires).count() >= 2,
            "{name}: {cases:?}"
        );
        ensure!(cases.last() == Some(&false), "{name} never ends");
        let series = story["input_series"].to_string();
        ensure!(
            series.contains("stale") || series.contains(" _ "),
            "{name}: no scrape fails"
        );
        ensure!(
            quiet.contains(&format!("alertname: {name},")),
            "{name} on a good day"
        );
    }
    Ok(())
}

#[test]
fn every_alert_is_explained_where_its_runbook_url_says() -> Result<()> {
    let readme = text("envoy/README.md")?;
    for alert in alerts()? {
        let name = alert["alert"].as_str().unwrap_or_default();
        let annotations = &alert["annotations"];
        for field in ["summary", "description"] {
            ensure!(annotations[field].is_string(), "{name}: no {field}");
        }
        let anchor = format!("/envoy/README.md#{}", name.to_lowercase());
        let url = annotations["runbook_url"].as_str().unwrap_or_default();
        ensure!(url.ends_with(&anchor), "{name}: {url}");
        let (_, after) = readme
            .split_once(&format!("\n#### {name}\n\n"))
            .with_context(|| format!("{name} is not explained"))?;
        let paragraph = after.split("\n\n").next().unwrap_or_default();
        ensure!(paragraph.len() > 100, "{name}: {paragraph:?}");
        let labels = &alert["labels"];
        ensure!(
            ["critical", "warning"]
                .map(Value::from)
                .contains(&labels["severity"]),
            "{name}"
        );
    }
    Ok(())
}
