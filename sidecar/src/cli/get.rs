//! `pointsman get`: what a running sidecar knows, as a table for people or as JSON or YAML.

mod tables;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::AdminFlags;
use super::client::{Client, ClientError, path};
use super::format::{Format, yaml};
use super::moment::now;
use super::report::Report;
use crate::api::{Cluster, Clusters, Job, Jobs, Overrides, Proxies, Proxy};

/// What to show, and how.
#[derive(Args)]
pub struct GetFlags {
    #[command(subcommand)]
    what: Option<What>,
    /// How to print it
    #[arg(short, long, global = true, value_enum, default_value = "table")]
    output: Format,
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
    /// The newest jobs: what takes long
    Jobs {
        /// Only this one, however old it is
        id: Option<String>,
    },
}

/// Asks and prints.
pub async fn run(flags: &GetFlags, admin: &AdminFlags) -> Result<Report, ClientError> {
    let mut client = Client::open(admin).await?;
    let table = flags.output == Format::Table;
    let mut warnings = Vec::new();
    let out = match flags.what.as_ref().unwrap_or(&What::Clusters) {
        What::Clusters => {
            let answer = client.get("/v1/clusters").await?;
            let Clusters {
                clusters, rejected, ..
            } = answer.read()?;
            let rejected = rejected.iter();
            warnings = rejected
                .map(|it| format!("rejected: {}", it.error))
                .collect();
            warnings.extend(clusters.iter().filter_map(untrusted));
            let table = |_: &Value| tables::clusters(&clusters);
            flags.output.print(&answer.body, table)
        }
        What::Cluster { name } if table => {
            let Clusters { clusters, .. } = client.get("/v1/clusters").await?.read()?;
            match clusters.iter().find(|it| it.name == **name) {
                Some(cluster) => tables::backends(cluster),
                None => return Ok(Report::failed(format!("there is no cluster {name}"))),
            }
        }
        What::Cluster { name } => {
            let body = client.get(&path(&["v1", "clusters", name])).await?.body;
            flags.output.print(&body, yaml)
        }
        What::Proxies => {
            let answer = client.get("/v1/proxies").await?;
            let Proxies { proxies } = answer.read()?;
            warnings = proxies.iter().filter_map(doubled).collect();
            let table = |_: &Value| tables::proxies(&proxies);
            flags.output.print(&answer.body, table)
        }
        What::Config => {
            let body = client.get("/v1/config").await?.body;
            flags.output.print(&body, yaml)
        }
        What::Overrides => {
            let answer = client.get("/v1/overrides").await?;
            let Overrides { overrides } = answer.read()?;
            let table = |_: &Value| tables::overrides(&overrides, now());
            flags.output.print(&answer.body, table)
        }
        What::Jobs { id: None } => {
            let answer = client.get("/v1/jobs").await?;
            let Jobs { jobs } = answer.read()?;
            let table = |_: &Value| tables::jobs(&jobs);
            flags.output.print(&answer.body, table)
        }
        What::Jobs { id: Some(id) } => {
            let answer = client.get(&path(&["v1", "jobs", id])).await?;
            let job: Job = answer.read()?;
            let table = |_: &Value| tables::jobs(std::slice::from_ref(&job));
            flags.output.print(&answer.body, table)
        }
    };
    Ok(Report {
        out,
        warnings,
        ..Report::default()
    })
}

/// Why a cluster's authorities are not those of its file.
fn untrusted(cluster: &Cluster) -> Option<String> {
    let why = cluster.ca_file_error.as_ref()?;
    Some(format!("{}: {why}", cluster.name))
}

/// What is to be said of a node id that several Envoys have.
fn doubled(proxy: &Proxy) -> Option<String> {
    let count = proxy.processes.len();
    let node = &proxy.node;
    proxy
        .doubled
        .then(|| format!("{count} Envoys say that they are {node}: give each a node.id of its own"))
}
