//! `pointsman doctor`: asks a running Envoy and its sidecar, and says what is wrong with how they are set
//! up, why that matters, and how to mend it.

mod clocks;
mod envoy;
mod finding;
mod sidecar;

use clap::Args;
use serde_json::{Value, json};

use super::client::{AdminFlags, Answer, Client, ClientError};
use super::format::Format;
use super::report::Report;
use crate::api::Status;
use envoy::Envoy;
use finding::Finding;

/// Whom to ask, and how to print.
#[derive(Args)]
pub struct DoctorFlags {
    /// Where Envoy's admin interface listens
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9901")]
    envoy: String,
    /// Do not ask for a sidecar: this Envoy runs from static.yaml
    #[arg(long)]
    no_sidecar: bool,
    /// How to print it
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
}

/// Asks both, and judges.
///
/// Fails only when Envoy cannot be asked; a sidecar that does not answer is a finding.
pub async fn run(flags: &DoctorFlags, admin: &AdminFlags) -> Result<Report, ClientError> {
    let mut client = Client::envoy(&flags.envoy).await?;
    let Answer {
        body: info, ahead, ..
    } = client.get("/server_info").await?;
    let dump = client.get("/config_dump?include_eds").await?.body;
    let stats = client.get("/stats?format=json").await?.body;
    let envoy = Envoy::new(&dump, &stats);
    let status = match flags.no_sidecar {
        true => None,
        false => Some(ask_sidecar(admin).await),
    };
    let mut findings = envoy.findings();
    if let Some(status) = &status {
        findings.extend(sidecar::findings(status, ahead, &envoy));
    }
    let version = info["version"].as_str().and_then(|it| it.split('/').nth(1));
    Ok(told(
        flags,
        version.unwrap_or("of unknown version"),
        &findings,
    ))
}

async fn ask_sidecar(flags: &AdminFlags) -> Result<(Answer, Status), String> {
    let status = async {
        let answer = Client::open(flags).await?.get("/status").await?;
        let status = answer.read()?;
        Ok::<_, ClientError>((answer, status))
    };
    status.await.map_err(|error| error.to_string())
}

fn told(flags: &DoctorFlags, version: &str, findings: &[Finding]) -> Report {
    let all: Vec<Value> = findings.iter().map(Finding::to_value).collect();
    let value = json!({"envoy": {"address": flags.envoy, "version": version}, "findings": all});
    let who = match flags.no_sidecar {
        true => "",
        false => " and its sidecar",
    };
    let table = |_: &Value| match findings {
        [] => format!(
            "Envoy {version} at {}{who}: nothing is wrong\n",
            flags.envoy
        ),
        findings => findings.iter().map(Finding::to_string).collect(),
    };
    let mut report = Report::done(flags.output.print(&value, table));
    match findings.len() {
        0 => {}
        1 => report.errors.push("1 thing is wrong".to_owned()),
        count => report.errors.push(format!("{count} things are wrong")),
    }
    report
}
