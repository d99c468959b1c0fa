//! The tables of `pointsman get`.

use std::time::Duration;

use comfy_table::{Table, presets};
use pointsman_filter::config::duration;

use crate::api::{Backend, Cluster, Job, Overridden, Process, Proxy};

/// Every cluster with its counts.
pub fn clusters(clusters: &[Cluster]) -> String {
    let mut table = table(&["CLUSTER", "BACKENDS", "HEALTHY", "CHECK", "WORDS"]);
    for cluster in clusters {
        let words = cluster.backends.iter().filter(|it| it.in_force.is_some());
        let check = cluster.health_check.as_object();
        let kind = check.and_then(|it| {
            ["http", "tcp", "grpc"]
                .into_iter()
                .find(|k| it.contains_key(*k))
        });
        table.add_row([
            printable(&cluster.name),
            cluster.backends.len().to_string(),
            cluster.healthy.to_string(),
            kind.unwrap_or("-").to_owned(),
            words.count().to_string(),
        ]);
    }
    finish(&table)
}

/// The backends of one.
pub fn backends(cluster: &Cluster) -> String {
    let head = [
        "BACKEND", "ADDRESS", "WEIGHT", "BACKUP", "STATE", "HEALTHY", "WHY",
    ];
    let mut table = table(&head);
    for backend in &cluster.backends {
        table.add_row([
            printable(&backend.id),
            printable(&backend.address),
            backend.weight.to_string(),
            backend.backup.to_string(),
            printable(&backend.state),
            health(cluster, backend),
            why(backend),
        ]);
    }
    finish(&table)
}

/// Every proxy and what it runs; each of its processes, where there are several.
pub fn proxies(proxies: &[Proxy]) -> String {
    let mut table = table(&[
        "PROXY",
        "WORKERS",
        "REVISIONS",
        "STREAMS",
        "LAST REPORT",
        "REFUSED",
    ]);
    for proxy in proxies {
        let types = proxy
            .streams
            .iter()
            .flat_map(|stream| stream.types.values());
        let mut nacked = types.filter_map(|it| it.nacked.as_ref());
        let nacked = nacked.next().map(|nack| nack.error.as_str());
        let row = |process: &Process| {
            let refused = process.refused.as_ref().map(|it| it.reason.as_str());
            [
                printable(&proxy.node),
                process.workers.to_string(),
                process.revisions.join(" "),
                proxy.streams.len().to_string(),
                age(&process.last_report_ago),
                printable(refused.or(nacked).unwrap_or("-")),
            ]
        };
        match proxy.processes.as_slice() {
            [] => drop(table.add_row([
                printable(&proxy.node),
                "-".to_owned(),
                String::new(),
                proxy.streams.len().to_string(),
                "-".to_owned(),
                printable(nacked.unwrap_or("-")),
            ])),
            processes => drop(table.add_rows(processes.iter().map(row))),
        }
    }
    finish(&table)
}

/// Every word in force or to follow, at `now`, ms since 1970.
pub fn overrides(overrides: &[Overridden], now: u64) -> String {
    let head = [
        "CLUSTER",
        "BACKEND",
        "STATE",
        "REASON",
        "ACTOR",
        "STARTS IN",
        "ENDS IN",
        "PRESENT",
    ];
    let mut table = table(&head);
    for Overridden {
        cluster,
        backend,
        present,
        word,
        ..
    } in overrides
    {
        table.add_row([
            printable(cluster),
            printable(backend),
            text(word.state.as_ref()),
            text(word.reason.as_ref()),
            text(word.actor.as_ref()),
            left(word.starts_at, now),
            left(word.expires_at, now),
            present.to_string(),
        ]);
    }
    finish(&table)
}

/// Every job and how far it is.
pub fn jobs(jobs: &[Job]) -> String {
    let mut table = table(&["JOB", "ACT", "STATE", "DONE", "ERROR"]);
    for job in jobs {
        table.add_row([
            printable(&job.id),
            printable(&job.act),
            printable(&job.state),
            format!("{}/{}", job.done, job.total),
            text(job.error.as_ref()),
        ]);
    }
    finish(&table)
}

/// Its two largest units: `1h 59m`.
fn for_people(duration: Duration) -> String {
    let mut left = duration.as_secs();
    let mut parts = Vec::new();
    for (unit, seconds) in [("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)] {
        let count = left / seconds;
        left %= seconds;
        match (count, parts.len()) {
            (0, 0) => {}
            // What is no whole number of the larger unit is said in the next one alone.
            (0, _) => break,
            _ => parts.push(format!("{count}{unit}")),
        }
        if parts.len() == 2 {
            break;
        }
    }
    match parts.is_empty() {
        true => "0s".to_owned(),
        false => parts.join(" "),
    }
}

/// How long it is until a moment that has not passed, in whole seconds.
fn left(moment: Option<u64>, now: u64) -> String {
    let left = moment.filter(|moment| *moment > now);
    let left = left.map(|moment| for_people(Duration::from_millis(moment.saturating_sub(now))));
    left.unwrap_or_else(|| "-".to_owned())
}

/// A duration as the API writes it, for people.
fn age(text: &str) -> String {
    duration::parse(text).map_or_else(|| printable(text), for_people)
}

/// What probes say: `healthy`, or `unhealthy: refused, 3 of 3`, how the last one failed and how many
/// in a row of those that it takes.
fn health(cluster: &Cluster, backend: &Backend) -> String {
    if backend.healthy {
        return "healthy".to_owned();
    }
    let reason = backend.last_failure_reason.as_ref();
    let reason = reason.map_or(String::new(), |reason| format!(": {}", printable(reason)));
    let takes = cluster.health_check["unhealthyThreshold"].as_u64();
    let row = match (u64::from(backend.failures), takes) {
        (failures @ 1.., Some(takes)) => format!(", {} of {takes}", failures.min(takes)),
        _ => String::new(),
    };
    format!("unhealthy{reason}{row}")
}

/// An operator's reason.
fn why(backend: &Backend) -> String {
    let word = backend.in_force.as_ref();
    let text = |text: Option<&String>| text.map(|text| printable(text));
    let reason = text(word.and_then(|it| it.reason.as_ref()));
    let actor = text(word.and_then(|it| it.actor.as_ref()));
    match (reason, actor) {
        (Some(reason), Some(actor)) => format!("{reason} ({actor})"),
        (Some(said), None) | (None, Some(said)) => said,
        (None, None) => "-".to_owned(),
    }
}

fn table(head: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(head);
    table
}

/// Without the spaces that fill the last column.
fn finish(table: &Table) -> String {
    let lines = table.to_string();
    lines
        .lines()
        .map(|line| format!("{}\n", line.trim_end()))
        .collect()
}

/// A text in a cell; control characters, which could drive a terminal, are escaped.
fn printable(text: &str) -> String {
    match text.chars().any(char::is_control) {
        true => text.escape_debug().to_string(),
        false => text.to_owned(),
    }
}

/// A text in a cell, where there is one.
fn text(text: Option<&String>) -> String {
    text.map_or_else(|| "-".to_owned(), |text| printable(text))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn words(table: &str) -> Vec<Vec<&str>> {
        table
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect()
    }

    #[test]
    fn a_cluster_and_its_backends_are_lines() {
        let cluster = json!({"name": "orders", "healthy": 1,
            "healthCheck": {"tcp": {}, "unhealthyThreshold": 3},
            "backends": [
                {"id": "a", "address": "10.0.0.1:80", "weight": 7, "backup": false,
                    "state": "Cordoned", "healthy": true, "lastFailureReason": null,
                    "override": {"state": "Cordoned", "reason": "disk", "actor": "me"}},
                {"id": "b\u{1b}", "address": "10.0.0.2:80", "weight": 1, "backup": true,
                    "state": "Normal", "healthy": false, "failures": 5,
                    "lastFailureReason": "timeout"}]});
        let cluster: Cluster = serde_json::from_value(cluster).unwrap();
        let list = clusters(std::slice::from_ref(&cluster));
        assert_eq!(words(&list)[1], ["orders", "2", "1", "tcp", "1"]);
        let shown = backends(&cluster);
        let expected = [
            "a",
            "10.0.0.1:80",
            "7",
            "false",
            "Cordoned",
            "healthy",
            "disk",
            "(me)",
        ];
        assert_eq!(words(&shown)[1], expected);
        assert!(
            shown.contains("Normal    unhealthy: timeout, 3 of 3  -"),
            "{shown}"
        );
        assert!(!shown.contains('\u{1b}'), "{shown:?}");
    }

    #[test]
    fn every_process_of_a_proxy_is_a_line() {
        let process = |workers: u32, revision: &str| Process {
            workers,
            revisions: vec![revision.to_owned()],
            last_report_ago: "1500ms".to_owned(),
            ..Process::default()
        };
        let twice = Proxy {
            node: "edge".to_owned(),
            doubled: true,
            processes: vec![process(2, "new"), process(4, "old")],
            ..Proxy::default()
        };
        let silent = Proxy {
            node: "mute".to_owned(),
            ..Proxy::default()
        };
        let shown = proxies(&[twice, silent]);
        let lines = words(&shown);
        assert_eq!(lines[1], ["edge", "2", "new", "0", "1s", "-"]);
        assert_eq!(lines[2], ["edge", "4", "old", "0", "1s", "-"]);
        assert_eq!(lines[3], ["mute", "-", "0", "-", "-"]);
    }

    #[test]
    fn durations_are_for_people() {
        let said = |seconds| for_people(Duration::from_secs(seconds));
        let shown = [0, 59, 60, 61, 7199, 7200, 7201, 90_000, 86_401].map(said);
        let expected = [
            "0s", "59s", "1m", "1m 1s", "1h 59m", "2h", "2h", "1d 1h", "1d",
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn words_say_when_they_end() {
        let shown = |word: serde_json::Value, now| {
            let word = serde_json::from_value(word).unwrap();
            overrides(&[word], now)
        };
        let word = json!({"cluster": "c", "backend": "a", "state": "Draining",
            "expiresAt": 90_500, "present": false});
        let ends = shown(word, 30_000);
        assert_eq!(
            words(&ends)[1],
            ["c", "a", "Draining", "-", "-", "-", "1m", "false"]
        );
        let word = json!({"cluster": "c", "backend": "a", "state": "Draining",
            "startsAt": 40_000, "present": true});
        assert_eq!(words(&shown(word, 30_000))[1][5..], ["10s", "-", "true"]);
    }

    #[test]
    fn a_job_says_what_it_does_and_how_far_it_is() {
        let job = json!({"id": "j2", "act": "apply", "state": "Failed", "done": 50,
            "total": 300, "error": "no"});
        let shown = jobs(&[serde_json::from_value(job).unwrap()]);
        assert_eq!(words(&shown)[1], ["j2", "apply", "Failed", "50/300", "no"]);
    }
}
