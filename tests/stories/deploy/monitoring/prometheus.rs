//! A real Prometheus that scrapes one sidecar and one Envoy, by the shipped configuration.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use harness::port::Port;
use harness::process::Process;
use harness::{Client, artefacts, report};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A running Prometheus; dropping it kills it.
pub struct Prometheus {
    // Before the port and the folder: dropped first.
    process: Process,
    port: Port,
    _folder: TempDir,
}

impl Prometheus {
    /// Starts one; what differs from `prometheus.yaml` is the pace and the targets.
    pub fn start(sidecar: SocketAddr, envoy: SocketAddr) -> Result<Self> {
        let (folder, port) = (tempfile::tempdir()?, Port::reserve()?);
        let mut config: Value =
            serde_saphyr::from_str(&super::text("envoy/monitoring/prometheus.yaml")?)?;
        config["global"] = json!({"scrape_interval": "1s", "evaluation_interval": "1s"});
        let rules = artefacts::root().join("envoy/monitoring/alerts.yaml");
        config["rule_files"] = json!([rules]);
        for job in config["scrape_configs"].as_array_mut().context("jobs")? {
            let target = match job["job_name"].as_str() {
                Some("pointsman") => sidecar,
                Some("envoy") => envoy,
                other => anyhow::bail!("a job {other:?}"),
            };
            job["static_configs"] = json!([{"targets": [target.to_string()]}]);
        }
        let file = folder.path().join("prometheus.json");
        fs::write(&file, config.to_string())?;
        let mut command = Command::new(artefacts::prometheus()?);
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().display()))
            .arg(format!("--web.listen-address={}", port.address()));
        report::component("Prometheus");
        let process = Process::start(command, &folder.path().join("prometheus.log"))?;
        Ok(Prometheus {
            process,
            port,
            _folder: folder,
        })
    }

    /// What an expression gives now.
    pub async fn query(&self, expression: &str) -> Result<Vec<Value>> {
        let path = format!("/api/v1/query?query={}", encoded(expression));
        let answer = self
            .get(&path)
            .await
            .with_context(|| expression.to_owned())?;
        let result = answer["data"]["result"].as_array();
        Ok(result.with_context(|| answer.to_string())?.clone())
    }

    /// The rules that could not be evaluated, with the reason.
    pub async fn failing_rules(&self) -> Result<Vec<Value>> {
        let answer = self.get("/api/v1/rules").await?;
        let groups = answer["data"]["groups"].as_array().context("no groups")?;
        let rules = groups.iter().filter_map(|group| group["rules"].as_array());
        let rules: Vec<&Value> = rules.flatten().collect();
        ensure!(rules.len() > 20, "{answer}");
        let failing = rules.into_iter().filter(|rule| rule["health"] != "ok");
        Ok(failing.cloned().collect())
    }

    async fn get(&self, path: &str) -> Result<Value> {
        self.process.ensure_running()?;
        let response = Client::new(self.port.address()).get(path).await?;
        ensure!(
            response.status == 200,
            "{} {}",
            response.status,
            response.text()
        );
        Ok(serde_json::from_str(&response.text())?)
    }
}

fn encoded(text: &str) -> String {
    let byte = |b: u8| match b {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => char::from(b).to_string(),
        _ => format!("%{b:02X}"),
    };
    text.bytes().map(byte).collect()
}
