//! The report as JSON, as plots, and as a table that a person can read.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::Result;
use serde_json::{Map, Value};

use crate::plot::{self, Bar, Scale, Series};

/// Writes `report.json` and the plots into a folder.
pub fn write(report: &Value, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    let text = serde_json::to_string_pretty(report)? + "\n";
    fs::write(folder.join("report.json"), text)?;
    let cpu = cases(report, "cpu");
    let bars = |figure: &str| -> Vec<Bar> {
        let bar = |(name, case): (&String, &Value)| {
            let figure = &case[figure];
            let range = figure["min"].as_f64().zip(figure["max"].as_f64());
            Some(Bar {
                name: name.clone(),
                value: figure["median"].as_f64().or_else(|| figure.as_f64())?,
                range,
            })
        };
        cpu.iter().filter_map(bar).collect()
    };
    let plots = [
        (
            "cpu.svg",
            plot::bars(
                "CPU per request, median and range of the starts",
                "µs",
                &bars("usPerRequest"),
            ),
        ),
        (
            "ratio.svg",
            plot::bars("CPU against the no-op module", "×", &bars("toNoop")),
        ),
        (
            "p99.svg",
            plot::bars("p99 of a paced load", "ms", &bars("p99Ms")),
        ),
        (
            "core.svg",
            plot::lines(
                "The routing core, natively",
                "backends",
                "ns",
                Scale::Logarithmic,
                &core(report),
            ),
        ),
        (
            "delivery.svg",
            plot::lines(
                "Delivery of an edit",
                "backends",
                "ms",
                Scale::Logarithmic,
                &delivery(report),
            ),
        ),
        (
            "memory.svg",
            plot::lines(
                "Envoy's resident memory",
                "updates",
                "MB",
                Scale::Linear,
                &memory(report),
            ),
        ),
    ];
    for (name, svg) in plots {
        fs::write(folder.join(name), svg)?;
    }
    Ok(())
}

fn cases(report: &Value, section: &str) -> Map<String, Value> {
    report[section].as_object().cloned().unwrap_or_default()
}

/// Keys `<what>.<size>` as one line per what.
fn by_size(figures: &Map<String, Value>, figure: &str) -> Vec<Series> {
    let mut series: Vec<Series> = Vec::new();
    for (key, value) in figures {
        let Some((name, size)) = key.rsplit_once('.') else {
            continue;
        };
        let (Ok(size), Some(value)) = (size.parse(), value[figure].as_f64()) else {
            continue;
        };
        match series.iter_mut().find(|(known, _)| known == name) {
            Some((_, points)) => points.push((size, value)),
            None => series.push((name.to_owned(), vec![(size, value)])),
        }
    }
    for (_, points) in &mut series {
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    series
}

fn core(report: &Value) -> Vec<Series> {
    by_size(&cases(report, "core"), "ns")
}

fn delivery(report: &Value) -> Vec<Series> {
    let figures = cases(report, "delivery");
    let named = |figure: &str, label: &str| {
        let series = by_size(&figures, figure).into_iter();
        series
            .map(move |(name, points)| (format!("{name} {label}"), points))
            .collect::<Vec<Series>>()
    };
    [named("p50Ms", "p50"), named("p99Ms", "p99")].concat()
}

/// Megabytes over updates, a line for each registry.
fn memory(report: &Value) -> Vec<Series> {
    let points = |figure: &Value| -> Vec<(f64, f64)> {
        let samples = figure["rss"]["samples"].as_array().into_iter().flatten();
        let point = |sample: &Value| Some((sample[0].as_f64()?, sample[1].as_f64()? / 1e6));
        samples.filter_map(point).collect()
    };
    let named = cases(report, "delivery").into_iter();
    let lines = named.map(|(name, figure)| (name, points(&figure)));
    lines.filter(|(_, points)| !points.is_empty()).collect()
}

/// The sections after the comparison: key, title, figures.
const SECTIONS: [(&str, &str, &[&str]); 5] = [
    ("core", "The core, natively", &["ns", "instructions"]),
    (
        "keys",
        "Keys, natively",
        &[
            "ns",
            "firstMs",
            "offPercent",
            "removed",
            "added",
            "down",
            "grown",
        ],
    ),
    (
        "delivery",
        "Delivery",
        &[
            "writeP50Ms",
            "p50Ms",
            "p99Ms",
            "maxMs",
            "bytes",
            "workerMs",
            "mainMs",
            "rssBytesPerUpdate",
        ],
    ),
    (
        "fanout",
        "Proxies.clusters x backends",
        &[
            "p50Ms",
            "p99Ms",
            "maxMs",
            "allP50Ms",
            "allMaxMs",
            "cpuUsPerProxy",
            "bytesPerProxy",
            "residentMb",
            "idleUsPerProxySecond",
            "connectMs",
            "reconnectMs",
            "resentResources",
        ],
    ),
    (
        "failover",
        "Failover",
        &["requests", "errors", "p99MsBefore", "p99Ms"],
    ),
];

/// The report for people.
pub fn table(report: &Value) -> String {
    let mut out = comparison(&cases(report, "cpu"));
    out.push_str(&fields(&cases(report, "pairs")));
    for (section, title, figures) in SECTIONS {
        out.push_str(&columns(&cases(report, section), title, figures));
    }
    out + &closing(report)
}

// Writing to a text cannot fail, here and below.
fn comparison(cpu: &Map<String, Value>) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "\n{:<32} {:>8} {:>22} {:>22} {:>8} {:>8} {:>6} {:>8}",
        "CPU and latency per request",
        "µs",
        "× native",
        "× no-op",
        "p50 ms",
        "p99 ms",
        "calls",
        "VM kB"
    );
    for (name, case) in cpu {
        let kilobytes = case["vmBytes"].as_f64().map(|bytes| bytes / 1024.0);
        let _ = writeln!(
            out,
            "{name:<32} {:>8} {:>22} {:>22} {:>8} {:>8} {:>6} {:>8}",
            number(&case["usPerRequest"]["median"]),
            spread(&case["toNative"]),
            spread(&case["toNoop"]),
            number(&case["p50Ms"]),
            number(&case["p99Ms"]),
            number(&case["hostCalls"]["total"]),
            kilobytes.map_or("-".to_owned(), |k| format!("{k:.0}")),
        );
    }
    out
}

/// What fields of a document cost, where that was measured.
fn fields(pairs: &Map<String, Value>) -> String {
    let mut out = String::new();
    if !pairs.is_empty() {
        let _ = writeln!(
            out,
            "\n{:<32} {:>22} {:>8}",
            "Fields", "µs per request more", "without"
        );
    }
    for (name, case) in pairs {
        let (more, plain) = (spread(&case["moreUs"]), number(&case["plainUs"]));
        let _ = writeln!(out, "{name:<32} {more:>22} {plain:>8}");
    }
    out
}

/// A line for each case, a column for each figure.
fn columns(cases: &Map<String, Value>, title: &str, figures: &[&str]) -> String {
    let mut out = format!("\n{title:<32}");
    for figure in figures {
        let _ = write!(out, " {figure:>17}");
    }
    out.push('\n');
    for (name, case) in cases {
        let _ = write!(out, "{name:<32}");
        for figure in figures {
            let _ = write!(out, " {:>17}", number(&case[figure]));
        }
        out.push('\n');
    }
    out
}

/// The targets, what could not be measured, and how it was measured.
fn closing(report: &Value) -> String {
    let mut out = format!("\n{:<32} {:>12} {:>12}\n", "Targets", "limit", "value");
    for target in report["targets"].as_array().into_iter().flatten() {
        let verdict = match target["met"].as_bool() {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "-",
        };
        let _ = writeln!(
            out,
            "{:<32} {:>12} {:>12} {verdict} {}",
            target["id"].as_str().unwrap_or_default(),
            number(&target["limit"]),
            number(&target["value"]),
            target["reason"].as_str().unwrap_or_default(),
        );
    }
    for skipped in report["skipped"].as_array().into_iter().flatten() {
        let _ = writeln!(out, "skipped: {}: {}", skipped["case"], skipped["reason"]);
    }
    let method = &report["method"];
    let _ = writeln!(
        out,
        "\n{} starts of {} rounds; {} disturbed samples were repeated, {} were kept although disturbed",
        method["starts"],
        method["roundsPerStart"],
        method["disturbedRepeated"],
        method["disturbedKept"]
    );
    let _ = writeln!(out, "seconds: {}", method["secondsOfSections"]);
    out
}

fn number(value: &Value) -> String {
    match value.as_f64() {
        None => "-".to_owned(),
        Some(whole) if whole.fract() == 0.0 => format!("{whole}"),
        Some(small) if small.abs() < 10.0 => format!("{small:.3}"),
        Some(large) => format!("{large:.1}"),
    }
}

fn spread(value: &Value) -> String {
    let part = |name: &str| value[name].as_f64().map(|figure| format!("{figure:.3}"));
    match (part("median"), part("min"), part("max")) {
        (Some(median), Some(min), Some(max)) => format!("{median} ({min}–{max})"),
        _ => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn people_see_the_spread_the_misses_and_what_was_skipped() {
        let report = json!({
            "cpu": {"lua": {
                "usPerRequest": {"median": 44.81}, "p99Ms": 9.561,
                "toNative": {"median": 1.187, "min": 1.157, "max": 1.2}, "toNoop": null,
            }},
            "pairs": {"limits.10": {
                "moreUs": {"median": 2.25, "min": 2.0, "max": 3.0}, "plainUs": 41.5,
            }},
            "core": {"Random.pick.3": {"ns": 31.0}},
            "targets": [{"id": "a", "limit": 1.1, "value": 1.2, "met": false, "reason": "why"}],
            "skipped": [{"case": "b", "reason": "no b"}],
            "method": {"starts": 7, "roundsPerStart": 3, "disturbedRepeated": 2, "disturbedKept": 0},
        });
        let table = table(&report);
        let line = |start: &str| {
            let found = table.lines().find(|line| line.starts_with(start));
            let words: Vec<&str> = found.unwrap().split_whitespace().collect();
            words.join(" ")
        };
        assert_eq!(line("lua"), "lua 44.8 1.187 (1.157–1.200) - - 9.561 - -");
        assert_eq!(line("limits"), "limits.10 2.250 (2.000–3.000) 41.5");
        assert_eq!(line("Random"), "Random.pick.3 31 -");
        assert_eq!(line("a "), "a 1.100 1.200 MISSED why");
        assert_eq!(line("skipped"), r#"skipped: "b": "no b""#);
        assert_eq!(
            line("7 "),
            "7 starts of 3 rounds; 2 disturbed samples were repeated, 0 were kept although disturbed"
        );
    }
}
