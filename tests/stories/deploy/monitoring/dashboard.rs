//! The dashboard: nothing bad looks good on it, and every panel shows what a real Prometheus has.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::text;

pub fn dashboard() -> Result<Value> {
    Ok(serde_json::from_str(&text(
        "envoy/monitoring/dashboard.json",
    )?)?)
}

/// Panel and expression, every variable being "all".
pub fn queries() -> Result<Vec<(String, String)>> {
    let dashboard = dashboard()?;
    let panels = dashboard["panels"].as_array().context("no panels")?;
    let mut found = Vec::new();
    for panel in panels {
        let title = panel["title"].as_str().context("a panel without a title")?;
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().context("no expression")?;
            let mut expression = expression.replace("$__rate_interval", "30s");
            for variable in variables(&dashboard)? {
                expression = expression.replace(&format!("\"${variable}\""), "\".*\"");
            }
            ensure!(!expression.contains('$'), "{title}: {expression}");
            found.push((title.to_owned(), expression));
        }
    }
    ensure!(found.len() > 30, "{found:?}");
    Ok(found)
}

fn variables(dashboard: &Value) -> Result<Vec<&str>> {
    let variables = dashboard["templating"]["list"].as_array();
    let variables = variables.context("no variables")?.iter();
    Ok(variables.filter_map(|it| it["name"].as_str()).collect())
}

#[test]
fn it_can_be_narrowed_to_a_namespace_and_an_envoy() -> Result<()> {
    let dashboard = dashboard()?;
    let expected = ["datasource", "namespace", "instance", "cluster"];
    assert_eq!(variables(&dashboard)?, expected);
    let panels = dashboard["panels"].as_array().context("no panels")?;
    for target in panels
        .iter()
        .filter_map(|it| it["targets"].as_array())
        .flatten()
    {
        let expression = target["expr"].as_str().unwrap_or_default();
        let metrics = super::Selector::all(expression).len();
        let narrowed = expression.matches("namespace=~\"$namespace\"").count();
        ensure!(narrowed >= metrics.max(1), "{expression}");
        let legend = target["legendFormat"].as_str().unwrap_or_default();
        ensure!(
            !legend.contains("{{revision"),
            "a series per revision: {legend}"
        );
    }
    Ok(())
}

/// Grafana's default would show "3 clusters down" green.
#[test]
fn every_single_figure_turns_from_green() -> Result<()> {
    let dashboard = dashboard()?;
    let panels = dashboard["panels"].as_array().context("no panels")?;
    let mut bad_at_one = BTreeSet::new();
    for panel in panels.iter().filter(|it| it["type"] == "stat") {
        let title = panel["title"].as_str().unwrap_or_default();
        let steps = &panel["fieldConfig"]["defaults"]["thresholds"]["steps"];
        let steps = steps.as_array().context("no thresholds")?;
        let colour_at = |value: f64| {
            let reached = |step: &&Value| step["value"].as_f64().is_none_or(|from| from <= value);
            let step = steps.iter().rev().find(reached);
            step.and_then(|it| it["color"].as_str()).unwrap_or_default()
        };
        let colours: BTreeSet<&str> = [0.0, 0.3, 1.0, 2.0, 1e6].map(colour_at).into();
        ensure!(
            colours.contains("green") && colours.len() > 1,
            "{title}: {steps:?}"
        );
        if (colour_at(0.0), colour_at(1.0)) == ("green", "red") {
            bad_at_one.insert(title);
        }
    }
    for title in [
        "Clusters all down",
        "Clusters in fail-open",
        "Alerts that fire",
        "Sidecars down",
    ] {
        ensure!(bad_at_one.contains(title), "{title} is not red at 1");
    }
    Ok(())
}
