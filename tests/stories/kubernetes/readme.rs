//! The commands of sidecar/README.md do what it says, typed to a real kubectl.

use harness::artefacts;

use super::*;

/// What stands between two marks of the README.
fn between<'a>(readme: &'a str, start: &str, end: &str) -> Result<&'a str> {
    let (_, rest) = readme.split_once(start).with_context(|| start.to_owned())?;
    let (text, _) = rest.split_once(end).with_context(|| end.to_owned())?;
    Ok(text)
}

#[tokio::test]
async fn the_commands_of_the_readme_make_the_registry_it_describes() -> Result<()> {
    let must = "install our kind as the README does";
    let Some(kubernetes) = Kubernetes::start_bare("the_commands_of_the_readme", must).await? else {
        return Ok(());
    };
    let readme = std::fs::read_to_string(artefacts::root().join("sidecar/README.md"))?;
    let section = between(&readme, "\n## The registry in Kubernetes\n", "\n## ")?;
    let block = between(section, "```sh\n", "```")?;
    let pointsman = artefacts::sidecar()?.display().to_string();
    let block = block.replace("target/dist/pointsman", &pointsman);
    // This server has no kind of rbac.yaml; the sidecar has its rights all the same.
    let lines = block.lines().filter(|line| !line.contains("rbac.yaml"));
    let script: String = lines.map(|line| format!("{line}\n")).collect();
    ensure!(script.matches("kubectl").count() >= 5, "{script}");
    // A kind is listed a moment after it is established.
    eventually(SOON, "the commands to go through", async || {
        kubernetes.shell(&script).await
    })
    .await?;

    let sidecar = Sidecar::start_with(&kubernetes, &[]).await?;
    let status = sidecar.status().await?;
    let cluster = &status["clusters"][0];
    assert_eq!(cluster["name"], "orders");
    assert_eq!(cluster["backends"][0]["id"], "orders-1");
    assert_eq!(cluster["backends"][0]["state"], "Draining");
    condition(&kubernetes, "orders", "ResolvedRefs", "NotFound").await?;
    let shown = kubernetes.shell("kubectl -n shop get bcl").await?;
    let mut lines = shown.lines().map(|it| it.split_whitespace().collect());
    let head: Vec<&str> = lines.next().context("no head")?;
    let row: Vec<&str> = lines.next().context("no row")?;
    assert_eq!(
        head[..5],
        ["NAME", "ACCEPTED", "PROGRAMMED", "BACKENDS", "HEALTHY"]
    );
    assert_eq!(row[..5], ["orders", "True", "Unknown", "1", "0"]);
    sidecar.stop().await
}

#[tokio::test]
async fn the_commands_against_trouble_can_be_typed() -> Result<()> {
    let Some(kubernetes) = Kubernetes::start("the_commands_against_trouble").await? else {
        return Ok(());
    };
    let readme = std::fs::read_to_string(artefacts::root().join("sidecar/README.md"))?;
    let raw = between(&readme, "`kubectl get --raw ", "`")?;
    let version = kubernetes
        .shell(&format!("kubectl get --raw {raw}"))
        .await?;
    ensure!(version.contains("gitVersion"), "{version}");
    Ok(())
}
