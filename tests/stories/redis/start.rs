//! What a sidecar that cannot start says, and with which exit code.

use harness::Registry;
use harness::port::Port;
use harness::sidecar::run;

use super::*;

const WASM: (&str, &str) = ("POINTSMAN_WASM", "/none.wasm");
const REDIS: (&str, &str) = ("POINTSMAN_REGISTRY", "redis");

/// Variables and their values.
type Given<'a> = &'a [(&'a str, &'a str)];

/// Runs `serve` to its end: the exit code and everything it said.
async fn fails(environment: Given<'_>) -> Result<(i32, String)> {
    let folder = tempfile::tempdir()?;
    run(&["serve"], &[&[WASM], environment].concat(), folder.path()).await
}

#[tokio::test]
async fn rg_1_rg_3_and_rm_1_wrong_settings_end_it_with_all_that_is_wrong() -> Result<()> {
    let required = "REDIS_URL environment variable is required";
    let cases: &[(Given<'_>, &[&str])] = &[
        (
            &[],
            &[
                "POINTSMAN_REGISTRY: must be redis or kubernetes",
                "not ''",
                required,
            ],
        ),
        (
            &[("REDIS_URL", "redis://:geheim@h:1")],
            &["POINTSMAN_REGISTRY"],
        ),
        (
            &[("POINTSMAN_REGISTRY", "memory")],
            &["POINTSMAN_REGISTRY", "'memory'"],
        ),
        (
            &[("MX_METADATA_BACKEND", "etcd")],
            &["MX_METADATA_BACKEND", "'etcd'"],
        ),
        (
            &[("POINTSMAN_REGISTRY", "K8S")],
            &["MX_METADATA_NAMESPACE or POD_NAMESPACE"],
        ),
        (
            &[("POINTSMAN_REGISTRY", " redis")],
            &["POINTSMAN_REGISTRY", "' redis'"],
        ),
        (&[REDIS], &[required]),
        (&[REDIS, ("REDIS_URL", "")], &[required]),
        (
            &[REDIS, ("REDIS_HOST", "h"), ("MX_REDIS_PORT", "0")],
            &["MX_REDIS_PORT: must be a port from 1 to 65535, not \"0\""],
        ),
        (
            &[REDIS, ("REDIS_HOST", "h")],
            &["REDIS_URL, MX_REDIS_PORT or REDIS_PORT"],
        ),
        (
            &[REDIS, ("REDIS_PORT", "1")],
            &["REDIS_URL, MX_REDIS_HOST or REDIS_HOST"],
        ),
        (
            &[REDIS, ("REDIS_URL", "http://u:geheim@h")],
            &["REDIS_URL: must be redis://"],
        ),
    ];
    for (environment, parts) in cases {
        let (code, text) = fails(environment).await?;
        assert_eq!(code, 2, "{environment:?}: {text}");
        for part in *parts {
            ensure!(
                text.contains(part),
                "{environment:?}: no {part:?} in {text}"
            );
        }
        ensure!(!text.contains("geheim"), "{text}");
    }
    Ok(())
}

#[tokio::test]
async fn rm_2_a_store_that_does_not_answer_ends_it() -> Result<()> {
    let nobody = Port::reserve()?;
    let url = format!("redis://pm:geheim@{}", nobody.address());
    let (code, text) = fails(&[REDIS, ("REDIS_URL", &url)]).await?;
    assert_eq!(code, 1, "{text}");
    let says = format!(
        "Failed to connect to Redis at redis://pm:***@{}",
        nobody.address()
    );
    ensure!(text.contains(&says), "{text}");
    ensure!(text.contains("Redis validation failed:"), "{text}");
    ensure!(!text.contains("geheim"), "{text}");

    let redis = Redis::start_with(Some("geheim"), &[]).await?;
    let wrong = format!("redis://:falsch@{}", redis.address());
    let (code, text) = fails(&[REDIS, ("REDIS_URL", &wrong)]).await?;
    assert_eq!(code, 1, "{text}");
    ensure!(
        text.contains("Failed to connect to Redis at redis://:***@"),
        "{text}"
    );
    ensure!(!text.contains("falsch"), "{text}");
    Ok(())
}

#[tokio::test]
async fn rm_3_what_is_connected_is_said_in_the_order_of_its_beginning() -> Result<()> {
    let order = [
        "registry_connected",
        "counters_connected",
        "queue_connected",
    ];
    for _ in 0..5 {
        let redis = Redis::start().await?;
        let sidecar = Sidecar::start_on_store(redis.settings()).await?;
        sidecar.wait_for_events("queue_connected", 1).await?;
        let mut said = Vec::new();
        for name in order {
            let times = sidecar.events(name);
            ensure!(times.len() == 1, "{name}: {times:?}");
            said.push(
                times[0]["timestamp"]
                    .as_str()
                    .context("no time")?
                    .to_owned(),
            );
        }
        ensure!(said.is_sorted(), "{said:?}");
        sidecar.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn rm_4_demo_mode_never_contacts_a_store() -> Result<()> {
    let (one, store) = (Upstream::new("one")?, Upstream::new("store")?);
    let registry = Registry::new(vec![registry::cluster("orders", &[&one], json!({}))])?;
    let url = format!("redis://{}", store.address());
    let sidecar = Sidecar::start_with(&registry, &[REDIS, ("REDIS_URL", &url)]).await?;
    let health = sidecar.get("/health").await?;
    assert_eq!(health.status, 200);
    let redis = json!({"status": "disabled", "backend": "memory"});
    assert_eq!(health.json()?["redis"], redis);
    sidecar.stop().await?;
    ensure!(store.accepted().is_empty(), "{:?}", store.accepted());
    Ok(())
}

#[tokio::test]
async fn rg_2_and_rg_3_the_url_wins_and_host_and_port_may_mix_their_names() -> Result<()> {
    let redis = Redis::start().await?;
    redis
        .put(&registry::cluster("orders", &[], json!({})))
        .await?;
    let (url, nobody) = (redis.url(), Port::reserve()?);
    let nobody = nobody.address().port().to_string();
    let port = redis.address().port().to_string();
    let choices: [Given<'_>; 3] = [
        &[
            ("REDIS_URL", &url),
            ("MX_REDIS_HOST", "127.0.0.1"),
            ("MX_REDIS_PORT", &nobody),
        ],
        &[("MX_REDIS_HOST", "127.0.0.1"), ("REDIS_PORT", &port)],
        &[
            ("REDIS_HOST", "127.0.0.1"),
            ("MX_REDIS_PORT", &port),
            ("REDIS_PORT", &nobody),
        ],
    ];
    for given in choices {
        // RG-1: in any case of letters.
        let chosen = [("POINTSMAN_REGISTRY", "Redis")];
        let settings = chosen.iter().chain(given);
        let owned = settings.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let sidecar = Sidecar::start_on_store(owned).await?;
        let status = sidecar.status().await?;
        assert_eq!(status["clusters"][0]["name"], "orders", "{given:?}");
        sidecar.stop().await?;
    }
    Ok(())
}
