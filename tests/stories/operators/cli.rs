//! The command line as an operator types it, on a running sidecar.

mod readme;
mod timed;

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use harness::sidecar::{Ended, operate, run};
use harness::{
    Bootstrap, Envoy, Redis, Registry, Sidecar, Upstream, artefacts, eventually, registry,
};
use serde_json::{Value, json};

/// A sidecar on a file with the cluster `orders` over one backend.
async fn sidecar(settings: &[(&str, &str)]) -> Result<(Sidecar, Registry, Upstream)> {
    let one = Upstream::new("one")?;
    let registry = Registry::new(vec![registry::cluster("orders", &[&one], json!({}))])?;
    let sidecar = Sidecar::start_with(&registry, settings).await?;
    Ok((sidecar, registry, one))
}

/// Runs a command that must succeed, and gives its output.
async fn done(sidecar: &Sidecar, arguments: &[&str], input: &str) -> Result<String> {
    let ended = operate(sidecar, arguments, input).await?;
    ensure!(ended.code == 0, "{arguments:?}: {ended:?}");
    Ok(ended.out)
}

/// Runs a command that must fail with this code and say this.
async fn fails(sidecar: &Sidecar, arguments: &[&str], code: i32, part: &str) -> Result<Ended> {
    let ended = operate(sidecar, arguments, "").await?;
    ensure!(ended.code == code, "{arguments:?}: {ended:?}");
    ensure!(ended.errors.contains(part), "{arguments:?}: {ended:?}");
    Ok(ended)
}

/// The words of a table's lines, without its head.
fn rows(table: &str) -> Vec<Vec<&str>> {
    let lines = table.lines().skip(1);
    lines
        .map(|line| line.split_whitespace().collect())
        .collect()
}

#[tokio::test]
async fn apply_get_and_delete() -> Result<()> {
    let (sidecar, _registry, one) = sidecar(&[]).await?;
    let address = one.address().to_string();
    let shop = format!("name: shop\nbackends:\n- {{id: s, address: '{address}', weight: 1}}\n");
    let dry = done(&sidecar, &["apply", "--dry-run", "-f", "-"], &shop).await?;
    ensure!(dry.contains("cluster shop created (dry run)\n"), "{dry}");
    ensure!(dry.lines().any(|it| it == "+name: shop"), "{dry}");
    ensure!(
        operate(&sidecar, &["get", "cluster", "shop"], "")
            .await?
            .code
            == 1
    );

    let applied = done(&sidecar, &["apply", "-f", "-"], &shop).await?;
    assert_eq!(applied, "cluster shop created\n");
    let again = done(&sidecar, &["apply", "-f", "-"], &shop).await?;
    assert_eq!(again, "cluster shop unchanged\n");
    // A folder: only what is different is written, everything is judged first.
    let folder = tempfile::tempdir()?;
    let changed = shop.replace("weight: 1", "weight: 9");
    std::fs::write(folder.path().join("shop.yaml"), &changed)?;
    std::fs::write(folder.path().join("toml.toml"), "name = 'plain'")?;
    std::fs::write(folder.path().join("notes.txt"), "no registry")?;
    let path = folder.path().display().to_string();
    let dry = done(&sidecar, &["apply", "--dry-run", "-f", &path], "").await?;
    for line in ["-weight:1", "+weight:9"] {
        let found = dry.lines().any(|it| it.replace(' ', "") == line);
        ensure!(found, "no {line} in {dry}");
    }
    let applied = done(&sidecar, &["apply", "-f", &path], "").await?;
    assert_eq!(applied, "cluster plain created\ncluster shop changed\n");

    let table = done(&sidecar, &["get"], "").await?;
    let names: Vec<&str> = rows(&table).iter().map(|row| row[0]).collect();
    assert_eq!(names, ["orders", "plain", "shop"]);
    let table = done(&sidecar, &["get", "cluster", "shop"], "").await?;
    assert_eq!(rows(&table)[0][..4], ["s", &address, "9", "false"]);
    let text = done(&sidecar, &["get", "cluster", "shop", "-o", "json"], "").await?;
    let document: Value = serde_json::from_str(&text)?;
    assert_eq!(document["backends"][0]["weight"], 9);
    // What is printed can be applied.
    let text = done(&sidecar, &["get", "cluster", "shop", "-o", "yaml"], "").await?;
    let again = done(&sidecar, &["apply", "-f", "-"], &text).await?;
    assert_eq!(again, "cluster shop unchanged\n");
    for what in ["clusters", "proxies", "config", "overrides", "jobs"] {
        let text = done(&sidecar, &["get", what, "-o", "json"], "").await?;
        let _: Value = serde_json::from_str(&text).context(what)?;
        done(&sidecar, &["get", what], "").await?;
    }

    let dry = done(&sidecar, &["delete", "shop", "--dry-run"], "").await?;
    ensure!(dry.contains("-name: shop"), "{dry}");
    let deleted = done(&sidecar, &["delete", "shop", "plain"], "").await?;
    assert_eq!(deleted, "cluster shop deleted\ncluster plain deleted\n");
    fails(&sidecar, &["delete", "shop"], 1, "404").await?;
    Ok(())
}

#[tokio::test]
async fn words() -> Result<()> {
    let (sidecar, _registry, _one) = sidecar(&[]).await?;
    let cordon = [
        "cordon", "orders", "one", "--reason", "disk", "--actor", "me", "--for", "1h",
    ];
    assert_eq!(
        done(&sidecar, &cordon, "").await?,
        "backend orders/one Cordoned\n"
    );
    let table = done(&sidecar, &["get", "overrides"], "").await?;
    assert_eq!(
        rows(&table)[0][..5],
        ["orders", "one", "Cordoned", "disk", "me"]
    );
    let table = done(&sidecar, &["get", "cluster", "orders"], "").await?;
    ensure!(
        table.contains("Cordoned") && table.contains("disk (me)"),
        "{table}"
    );
    let drain = done(&sidecar, &["drain", "orders", "one"], "").await?;
    assert_eq!(drain, "backend orders/one Draining\n");
    let free = done(&sidecar, &["uncordon", "orders", "one"], "").await?;
    assert_eq!(free, "backend orders/one free\n");
    assert_eq!(
        rows(&done(&sidecar, &["get", "overrides"], "").await?).len(),
        0
    );
    let absent = operate(&sidecar, &["drain", "orders", "nobody"], "").await?;
    assert_eq!(absent.code, 0);
    ensure!(absent.errors.contains("no such backend now"), "{absent:?}");
    fails(
        &sidecar,
        &["cordon", "none", "one"],
        1,
        "there is no cluster none",
    )
    .await?;
    fails(
        &sidecar,
        &["cordon", "orders", "one", "--for", "soon"],
        1,
        "expiresIn",
    )
    .await?;
    Ok(())
}

#[tokio::test]
async fn exit_codes_say_what_failed() -> Result<()> {
    let (sidecar, _registry, _one) = sidecar(&[("POINTSMAN_ADMIN_TOKEN", "s3cret-word")]).await?;
    let drain = ["drain", "orders", "one"];
    for token in ["", "wrong"] {
        let refused = [&drain[..], &["--token", token]].concat();
        let ended = fails(&sidecar, &refused, 1, "401").await?;
        ensure!(!ended.errors.contains("wrong-"), "{ended:?}");
    }
    done(
        &sidecar,
        &[&drain[..], &["--token", "s3cret-word"]].concat(),
        "",
    )
    .await?;
    fails(&sidecar, &["drain", "orders"], 2, "BACKEND").await?;
    fails(&sidecar, &["get", "everything"], 2, "everything").await?;
    fails(&sidecar, &["get", "-o", "xml"], 2, "xml").await?;
    fails(
        &sidecar,
        &["apply", "-f", "/none.yaml"],
        1,
        "/none.yaml: cannot be read",
    )
    .await?;
    let bad = operate(&sidecar, &["apply", "-f", "-"], "name: a\nx: 1").await?;
    assert_eq!(
        (bad.code, bad.errors.as_str()),
        (1, "-: clusters.a.x: is not a known field\n")
    );
    let nobody = [
        ("get", "--address", "cannot ask the sidecar at 127.0.0.1:1"),
        ("doctor", "--envoy", "cannot ask Envoy at 127.0.0.1:1"),
    ];
    for (command, whom, says) in nobody {
        fails(&sidecar, &[command, whom, "127.0.0.1:1"], 1, says).await?;
    }
    let script = done(&sidecar, &["completions", "bash"], "").await?;
    ensure!(script.contains("uncordon"), "no completion of uncordon");
    Ok(())
}

#[tokio::test]
async fn a_reader_that_goes_away_is_no_failure() -> Result<()> {
    let (sidecar, _registry, _one) = sidecar(&[]).await?;
    for arguments in [&["get", "config"][..], &["completions", "zsh"], &["--help"]] {
        let mut child = Command::new(artefacts::sidecar()?)
            .args(arguments)
            .env(
                "POINTSMAN_ADMIN_ADDRESS",
                sidecar.admin_address().to_string(),
            )
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        drop(child.stdout.take());
        let ended = tokio::task::spawn_blocking(move || child.wait_with_output()).await??;
        let errors = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(
            (ended.status.code(), errors.as_str()),
            (Some(0), ""),
            "{arguments:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn ad_17_validate_config_checks_settings_and_registry() -> Result<()> {
    let one = Upstream::new("one")?;
    let document = registry::cluster("orders", &[&one], json!({}));
    let good = Registry::new(vec![document.clone()])?;
    let bad = Registry::new(vec![document.clone(), json!({"name": "bad", "x": 1})])?;
    let large = Registry::new(vec![
        json!({"name": "large", "jsonRpc": {"maxBodyBytes": 2_000_000}}),
    ])?;
    let redis = Redis::start().await?;
    redis.put(&document).await?;
    let [good, bad, large] =
        [&good, &bad, &large].map(|registry| registry.file().display().to_string());
    let url = redis.url();
    let wasm = ("POINTSMAN_WASM", "/etc/envoy/pointsman.wasm");
    let demo = |file| vec![("DEMO_MODE", "true"), ("POINTSMAN_DEMO_FILE", file), wasm];
    let on_redis = vec![
        ("POINTSMAN_REGISTRY", "redis"),
        ("REDIS_URL", url.as_str()),
        wasm,
    ];
    let nobody = "redis://127.0.0.1:1";
    for (settings, code, part) in [
        (demo(good.as_str()), 0, "valid, 1 clusters, 1 backends"),
        (on_redis.clone(), 0, "valid, 1 clusters, 1 backends"),
        (
            demo(large.as_str()),
            0,
            "warning: clusters.large.jsonRpc.maxBodyBytes: 2000000 is more than Envoy holds",
        ),
        (
            demo(bad.as_str()),
            1,
            "clusters.bad.x: is not a known field",
        ),
        (demo("/none.yaml"), 1, "/none.yaml: cannot be read"),
        (vec![wasm], 1, "REDIS_URL environment variable is required"),
        (
            vec![("POINTSMAN_REGISTRY", "redis"), ("REDIS_URL", nobody), wasm],
            1,
            "Failed to connect to Redis at redis://127.0.0.1:1",
        ),
        (
            [
                demo(good.as_str()),
                vec![("POINTSMAN_WASM", "inline:/none.wasm")],
            ]
            .concat(),
            1,
            "/none.wasm",
        ),
    ] {
        let folder = tempfile::tempdir()?;
        let (ended, said) = run(&["serve", "--validate-config"], &settings, folder.path()).await?;
        ensure!(
            ended == code && said.contains(part),
            "{settings:?}: {ended} {said}"
        );
    }
    let status = redis.ask(&["EXISTS", "pointsman:status:orders"]).await?;
    assert_eq!(
        status,
        harness::redis::Reply::Number(0),
        "a check writes nothing"
    );
    Ok(())
}
