//! The images: what is in them, and how much.

use anyhow::{Result, ensure};
use harness::compose::{self, docker};

/// Each image, what it stands on, and how many MB it may add: a program of 20 MB with its module and
/// certificates, the module, the module and a bootstrap.
const SIZES: [(&str, Option<&str>, f64); 3] = [
    ("pointsman", Some("debian:bookworm-slim"), 25.0),
    ("pointsman-module", None, 0.5),
    ("pointsman-envoy", Some("envoyproxy/envoy:v1.40.0"), 0.5),
];

/// Any uid, a read-only root, a healthcheck of its own, labels; the module's image is one layer.
pub async fn are_small_and_need_no_user() -> Result<String> {
    let run = [
        "run",
        "--rm",
        "--read-only",
        "--user",
        "4711:0",
        "--cap-drop",
        "ALL",
    ];
    docker(&[&run[..], &["pointsman", "--version"]].concat()).await?;
    let check = shown("pointsman", "{{.Config.Healthcheck.Test}}").await?;
    ensure!(check == "[CMD pointsman health]", "{check}");
    compose::build("pointsman-module", "module").await?;
    let layers = shown("pointsman-module", "{{len .RootFS.Layers}}").await?;
    ensure!(layers == "1", "{layers} layers");
    let files = files_of("pointsman-module").await?;
    ensure!(files == ["plugin.wasm"], "it holds {files:?}");
    let mut words = Vec::new();
    for (image, base, limit) in SIZES {
        for label in ["title", "description", "licenses"] {
            let form = format!("{{{{index .Config.Labels \"org.opencontainers.image.{label}\"}}}}");
            ensure!(
                !shown(image, &form).await?.is_empty(),
                "{image}: no {label}"
            );
        }
        let below = match base {
            Some(base) => megabytes(base).await?,
            None => 0.0,
        };
        let adds = megabytes(image).await? - below;
        ensure!(
            adds <= limit,
            "{image} adds {adds:.1} MB, the limit is {limit} MB"
        );
        words.push(format!(
            "{image} {adds:.1} MB upon {}",
            base.unwrap_or("nothing")
        ));
    }
    Ok(words.join(", "))
}

/// By a template of Go.
async fn shown(image: &str, form: &str) -> Result<String> {
    docker(&["image", "inspect", "--format", form, image]).await
}

async fn megabytes(image: &str) -> Result<f64> {
    let bytes: f64 = shown(image, "{{.Size}}").await?.parse()?;
    Ok(bytes / 1e6)
}

/// Without what an engine adds to every container, at its creation.
async fn files_of(image: &str) -> Result<Vec<String>> {
    let container = docker(&["create", image, "none"]).await?;
    let folder = tempfile::tempdir()?;
    let archive = folder.path().join("files.tar").display().to_string();
    let exported = docker(&["export", "--output", &archive, &container]).await;
    docker(&["rm", &container]).await?;
    exported?;
    let listed = compose::run("tar", &["-tf", &archive], "").await?;
    let added = [".dockerenv", "dev", "etc", "proc", "sys"];
    let files = listed
        .lines()
        .filter(|it| !added.iter().any(|place| it.starts_with(place)));
    Ok(files.map(str::to_owned).collect())
}
