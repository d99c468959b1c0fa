//! The commands of sidecar/README.md do what it says.

use harness::artefacts;

use super::*;

/// The words of a line as a shell splits it; single quotes are all that the README uses.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => words
                .iter_mut()
                .last()
                .into_iter()
                .for_each(|word| word.push(c)),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// The README, each of its commands on one line.
fn readme() -> Result<String> {
    let readme = std::fs::read_to_string(artefacts::root().join("sidecar/README.md"))?;
    Ok(readme.replace("\\\n", " "))
}

/// The rights that the README gives to the sidecar's user.
pub fn rights() -> Result<Vec<String>> {
    let readme = readme()?;
    let start = "redis-cli ACL SETUSER pointsman on '>PASSWORD' ";
    let rights = readme.lines().find_map(|line| line.strip_prefix(start));
    Ok(words(rights.context("no ACL SETUSER in the README")?))
}

#[tokio::test]
async fn the_commands_of_the_readme_make_the_registry_it_describes() -> Result<()> {
    let readme = readme()?;
    let one = Upstream::new("one")?;
    let story = serve(Redis::start().await?, &[&one], &[]).await?;
    let lines: Vec<&str> = readme
        .lines()
        .filter(|it| it.starts_with("redis-cli "))
        .collect();
    ensure!(lines.len() >= 5, "{lines:?}");
    for line in lines {
        let words = words(line);
        let words: Vec<&str> = words.iter().skip(1).map(String::as_str).collect();
        story
            .store
            .ask(&words)
            .await
            .with_context(|| line.to_owned())?;
        if line.contains("Draining") {
            let backends = story
                .sidecar
                .backends("orders", &["orders-1", "orders-2"])
                .await?;
            assert_eq!(backends[0]["address"], "127.0.0.1:8081");
            assert_eq!(backends[1]["address"], "127.0.0.1:8082");
            eventually(SOON, "the word to be obeyed", async || {
                let backends = story
                    .sidecar
                    .backends("orders", &["orders-1", "orders-2"])
                    .await?;
                ensure!(backends[0]["state"] == "Draining", "{backends:?}");
                Ok(())
            })
            .await?;
        }
    }
    eventually(SOON, "the word to be taken back", async || {
        let backends = story
            .sidecar
            .backends("orders", &["orders-1", "orders-2"])
            .await?;
        ensure!(backends[0]["state"] == "Normal", "{backends:?}");
        Ok(())
    })
    .await
}
