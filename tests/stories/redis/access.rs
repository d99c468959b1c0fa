//! Logins: a password, a user with the least rights, TLS; and the password is seen nowhere.

use harness::artefacts;

use super::*;

const PASSWORD: &str = "s3cr3t-geheim";
/// Everything that the sidecar says of itself: its log and its pages.
async fn said(sidecar: &Sidecar) -> Result<String> {
    let mut text = sidecar.process().log();
    for path in [
        "/status",
        "/metrics",
        "/health",
        "/admin/health/redis",
        "/readyz",
    ] {
        text.push_str(&sidecar.get(path).await?.text());
    }
    Ok(text)
}

#[tokio::test]
async fn the_password_is_seen_nowhere() -> Result<()> {
    let one = Upstream::new("one")?;
    let redis = Redis::start_with(Some(PASSWORD), &[]).await?;
    let mut story = serve(redis, &[&one], &[("RUST_LOG", "trace")]).await?;
    let mut text = said(&story.sidecar).await?;
    // Also while the login is refused and nobody answers.
    story
        .store
        .ask(&["CONFIG", "SET", "requirepass", "another-geheim"])
        .await?;
    story.store.kill();
    story.sidecar.health(503).await?;
    text.push_str(&said(&story.sidecar).await?);
    story.store.restart().await?;
    story.sidecar.health(200).await?;
    text.push_str(&said(&story.sidecar).await?);
    ensure!(text.contains("redis://:***@"), "the place is not named");
    ensure!(
        !text.contains("geheim"),
        "the password stands in: {}",
        around(&text, "geheim")
    );
    Ok(())
}

fn around(text: &str, word: &str) -> String {
    let lines = text.lines().filter(|line| line.contains(word));
    lines.take(3).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn a_user_with_the_least_rights_is_enough() -> Result<()> {
    let (one, two) = (Upstream::new("one")?, Upstream::new("two")?);
    let redis = Redis::start().await?;
    let login = format!(">{PASSWORD}");
    let rights = readme::rights()?;
    let mut rule = vec!["ACL", "SETUSER", "pm", "on", &login];
    rule.extend(rights.iter().map(String::as_str));
    redis.ask(&rule).await?;
    let url = format!("redis://pm:{PASSWORD}@{}", redis.address());
    let story = serve(redis, &[&one], &[("REDIS_URL", &url)]).await?;
    story
        .store
        .put(&registry::cluster("orders", &[&one, &two], json!({})))
        .await?;
    served_by(&mut story.envoy.client(), &["two"]).await?;
    story.store.says("orders", "backends", "2").await?;

    // Who may only read serves as well; its user is told once that nothing is written.
    story.store.ask(&["ACL", "SETUSER", "pm", "-eval"]).await?;
    story
        .store
        .put(&registry::cluster("late", &[&one], json!({})))
        .await?;
    story.sidecar.backends("late", &["one"]).await?;
    story
        .store
        .put(&registry::cluster("later", &[&one], json!({})))
        .await?;
    story.sidecar.backends("later", &["one"]).await?;
    story.sidecar.health(200).await?;
    let told = story
        .sidecar
        .wait_for_events("registry_read_only", 1)
        .await?;
    ensure!(told[0]["level"] == "WARN", "{told:?}");
    ensure!(!said(&story.sidecar).await?.contains(PASSWORD));
    Ok(())
}

#[tokio::test]
async fn over_tls_the_certificate_is_checked() -> Result<()> {
    let one = Upstream::new("one")?;
    let folder = tempfile::tempdir()?;
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
    let (cert, key) = (
        folder.path().join("cert.pem"),
        folder.path().join("key.pem"),
    );
    std::fs::write(&cert, made.cert.pem())?;
    std::fs::write(&key, made.signing_key.serialize_pem())?;
    let (cert, key) = (cert.display().to_string(), key.display().to_string());
    let tls = harness::port::Port::reserve()?;
    let port = tls.address().port().to_string();
    let arguments = [
        "--tls-port",
        &port,
        "--tls-cert-file",
        &cert,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &cert,
        "--tls-auth-clients",
        "no",
    ];
    let redis = Redis::start_with(Some(PASSWORD), &arguments).await?;
    let url = format!("rediss://:{PASSWORD}@{}", tls.address());

    // A certificate that nobody vouches for is refused.
    let module = artefacts::module()?.display().to_string();
    let settings = [
        ("POINTSMAN_REGISTRY", "redis"),
        ("REDIS_URL", url.as_str()),
        ("POINTSMAN_WASM", module.as_str()),
    ];
    let (code, text) = harness::sidecar::run(&["serve"], &settings, folder.path()).await?;
    assert_eq!(code, 1, "{text}");
    ensure!(
        text.contains("Failed to connect to Redis at rediss://:***@"),
        "{text}"
    );

    let trusted = [("REDIS_URL", url.as_str()), ("SSL_CERT_FILE", &cert)];
    let story = serve(redis, &[&one], &trusted).await?;
    let health = story.sidecar.health(200).await?;
    assert_eq!(health["redis"]["status"], "connected");
    ensure!(!said(&story.sidecar).await?.contains(PASSWORD));
    Ok(())
}
