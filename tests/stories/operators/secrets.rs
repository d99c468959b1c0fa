//! What probes send along may be secret: it is shown to whoever may read the documents, and
//! otherwise nowhere, in no Envoy either.

use super::*;

const HEADER: &str = "geheim-kopf";
const BODY: &str = "geheim-rumpf";
const NUMBER: u64 = 4_711_081_504;
const XDS_TOKEN: (&str, &str) = ("POINTSMAN_XDS_TOKEN", "s3cret-for-proxies");
/// Every page but the documents themselves.
const PAGES: [&str; 11] = [
    "/status",
    "/metrics",
    "/health",
    "/readyz",
    "/admin/health/redis",
    "/v1/clusters",
    "/v1/clusters/orders/backends/one",
    "/v1/overrides",
    "/v1/jobs",
    "/v1/proxies",
    "/v1/config",
];

/// A document whose probes carry the secrets.
fn secretive(name: &str, one: &Upstream) -> Value {
    let headers = json!([{"name": "x-key", "value": HEADER}]);
    let http = json!({"path": "/healthz", "headers": headers, "body": BODY});
    registry::cluster(name, &[one], json!({"healthCheck": {"http": http}}))
}

/// Documents that are wrong where the secrets stand.
fn wrong() -> Vec<Value> {
    let with = |name: &str, http: Value| json!({"name": name, "healthCheck": {"http": http}});
    vec![
        with(
            "number",
            json!({"headers": [{"name": "k", "value": NUMBER}]}),
        ),
        with("body", json!({"body": NUMBER})),
        with("line", json!({"headers": [format!("x-key: {HEADER}")]})),
        with("lines", json!({"headers": format!("x-key: {HEADER}")})),
        with(
            "field",
            json!({"headers": [{"name": "k", "value": HEADER, "x": HEADER}]}),
        ),
    ]
}

/// An Envoy that shows the token.
async fn envoy(sidecar: &Sidecar) -> Result<Envoy> {
    let token = format!("Bearer {}", XDS_TOKEN.1);
    let bootstrap = Bootstrap::ads(sidecar.xds_address())?.edit(|root| {
        root["dynamic_resources"]["ads_config"]["grpc_services"][0]["initial_metadata"] =
            json!([{"key": "authorization", "value": token}]);
    });
    Envoy::start(bootstrap).await
}

/// Waits until the filter knows a cluster, and looks for secrets in all that Envoy was sent.
async fn look_into(envoy: &Envoy, cluster: &str) -> Result<()> {
    // JSON in JSON.
    let name = format!(r#"\"name\":\"{cluster}\""#);
    let dump = eventually(SOON, "the filter to know the cluster", async || {
        let dump = envoy.config_dump().await?.to_string();
        ensure!(dump.contains(&name), "no {name} in {dump}");
        Ok(dump)
    })
    .await?;
    for secret in [HEADER, BODY] {
        ensure!(!dump.contains(secret), "{secret} in {dump}");
    }
    Ok(())
}

/// Asks for every page; whatever holds a secret fails.
async fn look_everywhere(sidecar: &Sidecar, more: &[&str]) -> Result<()> {
    for page in PAGES.iter().chain(more) {
        let response = sidecar.get(page).await?;
        ensure!(response.status != 404, "{page}: {}", response.text());
    }
    Ok(())
}

#[tokio::test]
async fn what_probes_send_along_is_on_no_page_and_in_no_log() -> Result<()> {
    // Where jobs are.
    for kind in [Kind::File, Kind::Redis] {
        let one = Upstream::new("one")?;
        let document = secretive("orders", &one);
        let (mut sidecar, mut store) = start_sidecar(kind, &document, &[XDS_TOKEN]).await?;
        for secret in [HEADER, BODY, &NUMBER.to_string()] {
            sidecar.hide(secret);
        }
        let envoy = envoy(&sidecar).await?;
        look_into(&envoy, "orders").await?;
        // Jobs: one that is done, one that is refused.
        let now = json!([secretive("now", &one)]);
        let taken = sidecar
            .ask(Method::POST, "/v1/apply?id=now", &[], &now)
            .await?;
        assert_eq!(taken.status, 202, "{}", taken.text());
        eventually(SOON, "the job to be done", async || {
            let job = sidecar.get("/v1/jobs/now").await?.json()?;
            ensure!(job["state"] == "Done", "{job}");
            Ok(())
        })
        .await?;
        look_into(&envoy, "now").await?;
        let refused = sidecar
            .ask(Method::POST, "/v1/apply", &[], &json!(wrong()))
            .await?;
        assert_eq!(refused.status, 422, "{}", refused.text());
        look_everywhere(&sidecar, &["/v1/jobs/now"]).await?;

        // The same wrong documents in the store.
        for document in wrong() {
            store.keep(&document).await?;
        }
        eventually(SOON, "the refusals", async || {
            let status = sidecar.status().await?;
            let rejected = status["registry"]["rejected"]
                .as_array()
                .context("a list")?;
            ensure!(rejected.len() == wrong().len(), "{rejected:?}");
            Ok(())
        })
        .await?;
        look_everywhere(&sidecar, &[]).await?;
        envoy.stop().await?;
        sidecar.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_not_quoted() -> Result<()> {
    let one = Upstream::new("one")?;
    for format in ["yaml", "json", "toml"] {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join(format!("clusters.{format}"));
        let container = json!({"schema": 1, "clusters": [secretive("orders", &one)]});
        let text = match format {
            "toml" => toml_of(&one),
            "yaml" => serde_saphyr::to_string(&container)?,
            _ => container.to_string(),
        };
        std::fs::write(&file, &text)?;
        let demo = [
            ("DEMO_MODE".to_owned(), "true".to_owned()),
            ("POINTSMAN_DEMO_FILE".to_owned(), file.display().to_string()),
        ];
        let mut sidecar = Sidecar::start_on_store(demo).await?;
        sidecar.hide(HEADER);
        // Something that no format takes, right beside the secret.
        let (before, after) = text.split_once(HEADER).context("no secret")?;
        std::fs::write(&file, format!("{before}{HEADER}\" [{{ *x: {after}"))?;
        eventually(SOON, "the error", async || {
            let status = sidecar.status().await?;
            let error = status["registry"]["error"].as_str().context("none yet")?;
            ensure!(error.contains("line"), "it says where: {error}");
            Ok(())
        })
        .await?;
        look_everywhere(&sidecar, &[]).await?;
        let reload = sidecar
            .ask(Method::POST, "/reload", &[], &Value::Null)
            .await?;
        assert_eq!(reload.status, 500, "{}", reload.text());
    }
    Ok(())
}

fn toml_of(one: &Upstream) -> String {
    format!(
        "schema = 1\n[[clusters]]\nname = \"orders\"\nbackends = [{{id = \"one\", address = \
         \"{}\"}}]\n[clusters.healthCheck.http]\nheaders = [{{name = \"x-key\", value = \
         \"{HEADER}\"}}]\n",
        one.address()
    )
}
