//! `pointsman apply` and `delete`: documents to and from the registry of a running sidecar.

use std::path::PathBuf;

use clap::Args;
use hyper::Method;
use hyper::header::{IF_MATCH, IF_NONE_MATCH};
use serde_json::Value;
use similar::TextDiff;

use super::AdminFlags;
use super::client::{Answer, Client, ClientError, path};
use super::documents;
use super::jobs;
use super::report::Report;
use crate::api::Written;
use crate::registry::feeds::kubernetes;

/// What to write.
#[derive(Args)]
pub struct ApplyFlags {
    /// Files (.yaml, .yml, .json, .toml), folders of such, or - for stdin (YAML or JSON)
    #[arg(short = 'f', long = "file", required = true, value_name = "FILE", num_args = 1..)]
    files: Vec<PathBuf>,
    /// Show what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Leave the writing to the sidecars, under this name, and wait for it: thousands of documents
    /// that are all written once, whoever dies meanwhile
    #[arg(long, value_name = "ID", conflicts_with = "dry_run")]
    job: Option<String>,
}

/// What to delete.
#[derive(Args)]
pub struct DeleteFlags {
    /// Names of clusters
    #[arg(required = true, value_name = "CLUSTER")]
    names: Vec<String>,
    /// Show what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// Writes every document of the files that differs from the registry's; nothing at all if one of
/// them is wrong.
pub async fn run(flags: &ApplyFlags, admin: &AdminFlags) -> Result<Report, ClientError> {
    // Whether there are Services to name is for the sidecar to say.
    let found = documents::read(&flags.files, kubernetes::judge);
    if !found.errors.is_empty() {
        return Ok(Report {
            errors: found.errors,
            ..Report::default()
        });
    }
    let mut client = Client::open(admin).await?;
    if let Some(id) = &flags.job {
        let documents: Vec<Value> = found.documents.into_values().collect();
        return jobs::apply(&mut client, id, &documents).await;
    }
    let mut report = Report::default();
    for (name, document) in &found.documents {
        let applied = apply(&mut client, name, document, flags.dry_run).await;
        match applied {
            Ok(applied) => report.add(name, &applied, flags.dry_run),
            // The others may be good, unless nobody is there to take them.
            Err(error @ ClientError::Refused { .. }) => report.errors.push(error.to_string()),
            Err(error) => return Ok(report.broken_off(&error)),
        }
    }
    Ok(report)
}

/// Deletes the clusters.
pub async fn delete(flags: &DeleteFlags, admin: &AdminFlags) -> Result<Report, ClientError> {
    let mut client = Client::open(admin).await?;
    let mut report = Report::default();
    for name in &flags.names {
        let to = target(name, flags.dry_run);
        match client.ask(Method::DELETE, &to, None, None).await {
            Ok(answer) => {
                let verb = "deleted";
                let written = Some(answer.read()?);
                report.add(name, &Applied { verb, written }, flags.dry_run);
            }
            Err(error @ ClientError::Refused { .. }) => report.errors.push(error.to_string()),
            Err(error) => return Ok(report.broken_off(&error)),
        }
    }
    Ok(report)
}

/// What became of one document.
struct Applied {
    verb: &'static str,
    /// Absent where there was nothing to write.
    written: Option<Written>,
}

async fn apply(
    client: &mut Client,
    name: &str,
    document: &Value,
    dry_run: bool,
) -> Result<Applied, ClientError> {
    let before = client.find(&path(&["v1", "clusters", name])).await?;
    // Written only over what was compared here.
    let (verb, condition) = match before {
        Some(before) if before.body == *document => {
            return Ok(Applied {
                verb: "unchanged",
                written: None,
            });
        }
        Some(Answer { etag, .. }) => ("changed", etag.map(|etag| (IF_MATCH, etag))),
        None => ("created", Some((IF_NONE_MATCH, "*".to_owned()))),
    };
    let to = target(name, dry_run);
    let answer = client
        .ask(Method::PUT, &to, condition, Some(document))
        .await?;
    let written = Some(answer.read()?);
    Ok(Applied { verb, written })
}

fn target(name: &str, dry_run: bool) -> String {
    let path = path(&["v1", "clusters", name]);
    if dry_run { path + "?dryRun=true" } else { path }
}

impl Report {
    fn add(&mut self, name: &str, applied: &Applied, dry_run: bool) {
        let Applied { verb, written } = applied;
        let suffix = if dry_run { " (dry run)" } else { "" };
        self.out
            .push_str(&format!("cluster {name} {verb}{suffix}\n"));
        let Some(written) = written else {
            return;
        };
        if dry_run {
            let (before, after) = (written.before.as_ref(), written.after.as_ref());
            self.out.push_str(&diff(name, before, after));
        }
        let Some(serving) = &written.serving else {
            return;
        };
        if serving.held.is_some() {
            self.warnings.push(format!(
                "cluster {name}: not served yet: the registry lost most of its backends, a second \
                 reading is awaited"
            ));
        } else if !serving.served {
            self.warnings
                .push(format!("cluster {name}: written, but not served yet"));
        }
    }

    fn broken_off(mut self, error: &ClientError) -> Self {
        self.errors.push(error.to_string());
        self
    }
}

/// What is different, as YAML lines.
fn diff(name: &str, before: Option<&Value>, after: Option<&Value>) -> String {
    let (before, after) = (lines(before), lines(after));
    let diff = TextDiff::from_lines(&before, &after);
    let header = (format!("registry/{name}"), format!("applied/{name}"));
    diff.unified_diff()
        .context_radius(3)
        .header(&header.0, &header.1)
        .to_string()
}

fn lines(document: Option<&Value>) -> String {
    match document {
        None => String::new(),
        Some(document) => {
            serde_saphyr::to_string(document).unwrap_or_else(|_| format!("{document:#}\n"))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_dry_run_shows_the_lines_that_differ() {
        let before = json!({"name": "a", "backends": [{"address": "10.0.0.1:80", "weight": 1}]});
        let mut after = before.clone();
        after["backends"][0]["weight"] = json!(7);
        let diff = diff("a", Some(&before), Some(&after));
        let changed: Vec<&str> = diff
            .lines()
            .filter(|line| line.starts_with(['-', '+']))
            .map(str::trim_end)
            .collect();
        let trimmed: Vec<String> = changed.iter().map(|it| it.replace(' ', "")).collect();
        assert_eq!(
            trimmed,
            ["---registry/a", "+++applied/a", "-weight:1", "+weight:7"]
        );
    }
}
