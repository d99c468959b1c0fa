//! `pointsman get`: what a running sidecar knows, as a table for people or as JSON or YAML.

mod tables;

use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value;

use super::AdminFlags;
use super::client::{Client, ClientError, path};
use super::report::Report;

/// What to show, and how.
#[derive(Args)]
pub struct GetFlags {
    #[command(subcommand)]
    what: Option<What>,
    /// How to print it
    #[arg(short, long, global = true, value_enum, default_value = "table")]
    output: Format,
    #[command(flatten)]
    admin: AdminFlags,
}

#[derive(Subcommand)]
enum What {
    /// Every cluster that is served
    Clusters,
    /// One cluster: its backends; with -o json or yaml its document
    Cluster {
        /// Its name
        name: String,
    },
    /// The proxies, and what each has taken up
    Proxies,
    /// The configuration that is served to the filters
    Config,
    /// The operators' words in force
    Overrides,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
    Yaml,
}

/// Asks and prints.
pub async fn run(flags: &GetFlags) -> Result<Report, ClientError> {
    let mut client = Client::open(&flags.admin).await?;
    let table = flags.output == Format::Table;
    let mut warnings = Vec::new();
    let out = match flags.what.as_ref().unwrap_or(&What::Clusters) {
        What::Clusters => {
            let body = client.get("/v1/clusters").await?.body;
            warnings = list(&body, "rejected")
                .filter_map(|bad| bad["error"].as_str())
                .map(|error| format!("rejected: {error}"))
                .collect();
            print(&body, flags.output, tables::clusters)
        }
        What::Cluster { name } if table => {
            let body = client.get("/v1/clusters").await?.body;
            match list(&body, "clusters").find(|it| it["name"] == **name) {
                Some(cluster) => tables::backends(cluster),
                None => return Ok(Report::failed(format!("there is no cluster {name}"))),
            }
        }
        What::Cluster { name } => {
            let body = client.get(&path(&["v1", "clusters", name])).await?.body;
            print(&body, flags.output, yaml)
        }
        What::Proxies => {
            let body = client.get("/v1/proxies").await?.body;
            print(&body, flags.output, tables::proxies)
        }
        What::Config => {
            let body = client.get("/v1/config").await?.body;
            print(&body, flags.output, yaml)
        }
        What::Overrides => {
            let body = client.get("/v1/overrides").await?.body;
            print(&body, flags.output, |body| tables::overrides(body, now()))
        }
    };
    Ok(Report {
        out,
        warnings,
        ..Report::default()
    })
}

fn print(value: &Value, format: Format, table: impl Fn(&Value) -> String) -> String {
    match format {
        Format::Json => json(value),
        Format::Yaml => yaml(value),
        Format::Table => table(value),
    }
}

fn json(value: &Value) -> String {
    format!("{value:#}\n")
}

fn yaml(value: &Value) -> String {
    serde_saphyr::to_string(value).unwrap_or_else(|_| json(value))
}

fn list<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value[field].as_array().into_iter().flatten()
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
