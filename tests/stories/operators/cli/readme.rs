//! The commands of README.md and sidecar/README.md do what these say.

use super::*;

/// The words of a line as a shell splits it; double quotes are all that the READMEs use here.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (nth, part) in line.split('"').enumerate() {
        match nth % 2 {
            0 => words.extend(part.split_whitespace().map(str::to_owned)),
            _ => words.push(part.to_owned()),
        }
    }
    words
}

#[tokio::test]
async fn the_commands_of_the_readme_work() -> Result<()> {
    let page = |file: &str| std::fs::read_to_string(artefacts::root().join(file));
    let (first, of_sidecar) = (page("README.md")?, page("sidecar/README.md")?);
    let (_, sample) = first.split_once("# clusters.yaml\n").context("no sample")?;
    let (sample, _) = sample.split_once("```").context("the sample has no end")?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("clusters.yaml");
    std::fs::write(&file, sample)?;
    let file = file.display().to_string();
    let (sidecar, registry, _one) = sidecar(&[]).await?;
    // Somebody must obey for a drain that waits to end.
    let envoy = Envoy::start(Bootstrap::ads(sidecar.xds_address())?).await?;
    envoy.client().get("/").await?;
    let validate = "target/dist/pointsman validate clusters.yaml";
    ensure!(first.lines().any(|line| line == validate), "{validate}");
    let lines = of_sidecar.lines();
    let lines = lines.filter(|line| line.starts_with("pointsman "));
    let mut ran = 0;
    for line in lines.chain([validate]) {
        let (command, _) = line.split_once(" #").unwrap_or((line, ""));
        let command = command.replace("clusters.yaml", &file);
        let words = words(&command);
        let words: Vec<&str> = words.iter().skip(1).map(String::as_str).collect();
        if words.first() == Some(&"serve") {
            let demo_file = registry.file().display().to_string();
            let settings = [
                ("DEMO_MODE", "true"),
                ("POINTSMAN_DEMO_FILE", demo_file.as_str()),
                ("POINTSMAN_WASM", "/etc/envoy/pointsman.wasm"),
            ];
            let (code, said) = run(&words, &settings, folder.path()).await?;
            ensure!(code == 0, "{line}: {code} {said}");
        } else {
            done(&sidecar, &words, "")
                .await
                .with_context(|| line.to_owned())?;
            if words.first() == Some(&"delete") {
                // The lines below it are about this cluster again.
                done(&sidecar, &["apply", "-f", &file], "").await?;
            }
        }
        ran += 1;
    }
    ensure!(ran >= 13, "{ran} commands");
    Ok(())
}
