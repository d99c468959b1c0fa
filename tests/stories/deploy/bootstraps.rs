//! The shipped bootstraps, loaded by a real Envoy as they stand: nothing but paths, addresses and ports
//! is another here.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use harness::port::Port;
use harness::process::Process;
use harness::{
    Behaviour, Bootstrap, Client, Envoy, Registry, SOON, Sidecar, Upstream, artefacts, eventually,
    registry,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::scene::{self, CLUSTER};

const TOKEN: &str = "s3cret";

/// A bootstrap's text, and the one to merge in.
struct Shipped {
    text: String,
    merged: Option<String>,
    ingress: Port,
    pages: Port,
    /// Kept for this Envoy.
    _admin: Port,
}

impl Shipped {
    /// Reads the files; each of `addresses` goes before the one beside it.
    fn read(name: &str, merged: Option<&str>, addresses: &[(&str, String)]) -> Result<Self> {
        let (ingress, admin, pages) = (Port::reserve()?, Port::reserve()?, Port::reserve()?);
        let port = |port: &Port| format!("port_value: {}", port.address().port());
        let module = artefacts::module()?.display().to_string();
        let mut changes = vec![
            ("0.0.0.0", "127.0.0.1".to_owned()),
            ("/etc/envoy/pointsman.wasm", module),
            ("port_value: 10000", port(&ingress)),
            ("port_value: 9901", port(&admin)),
            ("port_value: 9902", port(&pages)),
        ];
        changes.extend_from_slice(addresses);
        let read = |name: &str| -> Result<String> {
            let mut text = fs::read_to_string(artefacts::bootstrap(name)?)?;
            for (from, to) in &changes {
                text = text.replace(from, to);
            }
            Ok(text)
        };
        Ok(Shipped {
            text: read(name)?,
            merged: merged.map(read).transpose()?,
            ingress,
            pages,
            _admin: admin,
        })
    }

    /// `envoy.yaml` with a sidecar at this address.
    fn fed(merged: &str, sidecar: &Sidecar) -> Result<Self> {
        let port = format!("port_value: {}", sidecar.xds_address().port());
        let host = ("address: sidecar,", "address: 127.0.0.1,".to_owned());
        Self::read(
            "envoy.yaml",
            Some(merged),
            &[("port_value: 18000", port), host],
        )
    }

    /// Has Envoy judge it, then runs it.
    async fn start(self) -> Result<Running> {
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("envoy.yaml"), &self.text)?;
        let command = || -> Result<Command> {
            let mut command = Command::new(artefacts::envoy()?);
            command
                .current_dir(folder.path())
                .env("POINTSMAN_XDS_TOKEN", TOKEN)
                .args([
                    "-c",
                    "envoy.yaml",
                    "--log-level",
                    "warning",
                    "--disable-hot-restart",
                ])
                .args(["--concurrency", "2", "--service-node", "edge-7"]);
            if let Some(merged) = &self.merged {
                command.args(["--config-yaml", merged]);
            }
            Ok(command)
        };
        let judged = command()?.args(["--mode", "validate"]).output()?;
        if !judged.status.success() {
            bail!("{}", String::from_utf8_lossy(&judged.stderr));
        }
        let warned = String::from_utf8_lossy(&judged.stderr).to_lowercase();
        ensure!(!warned.contains("deprecated"), "{warned}");
        let (access, log) = (
            folder.path().join("access.log"),
            folder.path().join("envoy.log"),
        );
        let process = Process::start_with(command()?, std::process::Stdio::null(), &access, &log)?;
        let running = Running {
            process,
            shipped: self,
            folder,
        };
        let served = eventually(SOON, "a request to be served", async || {
            if let Err(dead) = running.process.ensure_running() {
                return Ok(Err(dead));
            }
            let response = running.client().get("/first").await?;
            ensure!(
                response.status == 200,
                "{} {}",
                response.status,
                response.text()
            );
            Ok(Ok(()))
        });
        served.await.with_context(|| running.process.log_tail())??;
        Ok(running)
    }
}

/// An Envoy that runs a shipped bootstrap; dropping it kills it.
struct Running {
    // Before the ports and the folder: dropped first.
    process: Process,
    shipped: Shipped,
    folder: TempDir,
}

impl Running {
    fn client(&self) -> Client {
        Client::new(self.shipped.ingress.address())
    }

    /// The access log's line of a request to this path.
    async fn logged(&self, path: &str) -> Result<Value> {
        let file = self.folder.path().join("access.log");
        eventually(SOON, "the access log to be written", async || {
            let log = fs::read_to_string(&file)?;
            let lines: Vec<Value> = log
                .lines()
                .map_while(|it| serde_json::from_str(it).ok())
                .collect();
            let found = lines.into_iter().find(|line| line["path"] == path);
            found.with_context(|| log.clone())
        })
        .await
    }
}

/// Clients cannot say where they come from, spell a path in two ways, or send a header that backends
/// take for another; and the log says what became of a request.
async fn ensure_guarded(envoy: &Running, backends: &[&Upstream]) -> Result<()> {
    let wishes = [
        ("x-forwarded-for", "192.0.2.1"),
        ("x-gateway-destination-endpoint", "192.0.2.1:1"),
    ];
    let mut client = envoy.client();
    let redirected = client.get_with("//a/./b%2Fc/../d", &wishes).await?;
    assert_eq!(redirected.status, 307, "an escaped slash");
    let response = client.get_with("//a/./b/../d", &wishes).await?;
    ensure!(response.status == 200);
    let received = backends.iter().flat_map(|it| it.requests());
    let received = received
        .into_iter()
        .find(|it| it.path == "/a/d")
        .context("/a/d")?;
    // Who connected is added behind what was claimed; for loopback Envoy names this machine.
    let from = received.header("x-forwarded-for").context("no address")?;
    ensure!(from.starts_with("192.0.2.1,") && from.len() > 10, "{from}");
    assert_eq!(received.header("x-gateway-destination-endpoint"), None);

    let root = client.get_with("/underscore", &[("x_user", "root")]);
    assert_eq!(root.await?.status, 400);

    let line = envoy.logged("/a/d").await?;
    assert_eq!(
        (&line["status"], &line["attempts"]),
        (&json!(200), &json!(1)),
        "{line}"
    );
    let served = line["upstream"].as_str().context("no upstream")?;
    let list = line["endpoints"].as_str().context("no endpoints")?;
    ensure!(list.starts_with(served), "{line}");
    ensure!(
        line["client"]
            .as_str()
            .is_some_and(|it| it.starts_with("127.0.0.1:")),
        "{line}"
    );
    Ok(())
}

/// Scrapers and probes are answered, and nobody else.
async fn ensure_pages(envoy: &Running) -> Result<()> {
    let mut pages = Client::new(envoy.shipped.pages.address());
    assert_eq!(pages.get("/ready").await?.text(), "LIVE\n");
    ensure!(
        pages
            .get("/stats/prometheus")
            .await?
            .text()
            .contains("pointsman_configs_total")
    );
    for path in [
        "/",
        "/quitquitquit",
        "/config_dump",
        "/ready/../config_dump",
    ] {
        assert_eq!(pages.get(path).await?.status, 404, "{path}");
    }
    Ok(())
}

async fn fed(merged: &str, settings: &[(&str, &str)]) -> Result<()> {
    let (one, two) = (Upstream::new("one")?, Upstream::new("two")?);
    let document = registry::cluster(CLUSTER, &[&one, &two], json!({}));
    let sidecar = Sidecar::start_with(&Registry::new(vec![document])?, settings).await?;
    let envoy = Shipped::fed(merged, &sidecar)?.start().await?;
    ensure_guarded(&envoy, &[&one, &two]).await?;
    ensure_pages(&envoy).await?;
    // What the command line says goes before what the file says.
    assert_eq!(sidecar.status().await?["proxies"][0]["node"], "edge-7");
    Ok(())
}

/// Kubernetes runs these two files as well.
#[tokio::test]
async fn envoy_yaml_with_sidecar_yaml_serves_as_it_stands() -> Result<()> {
    fed("sidecar.yaml", &[]).await
}

#[tokio::test]
async fn envoy_yaml_with_remote_yaml_serves_as_it_stands() -> Result<()> {
    fed("remote.yaml", &[("POINTSMAN_XDS_TOKEN", TOKEN)]).await
}

#[tokio::test]
async fn static_yaml_serves_as_it_stands() -> Result<()> {
    let [one, two, spare] = scene::backends(["one", "two", "spare"])?;
    let mut addresses = Vec::new();
    for (port, backend) in [8081, 8082, 8083].into_iter().zip([&one, &two, &spare]) {
        let own = backend.address().port();
        addresses.push((format!("127.0.0.1:{port}"), format!("127.0.0.1:{own}")));
        addresses.push((format!("port_value: {port}"), format!("port_value: {own}")));
    }
    let addresses: Vec<(&str, String)> = addresses
        .iter()
        .map(|(from, to)| (from.as_str(), to.clone()))
        .collect();
    let envoy = Shipped::read("static.yaml", None, &addresses)?
        .start()
        .await?;
    ensure_guarded(&envoy, &[&one, &two]).await?;
    assert_eq!(spare.hits(), 0);
    Ok(())
}

/// The connections of all clients together are bounded, and the pages answer all the same.
#[tokio::test]
async fn connections_have_a_limit_and_the_pages_are_above_it() -> Result<()> {
    let one = Upstream::new("one")?;
    let document = registry::cluster(CLUSTER, &[&one], json!({}));
    let sidecar = Sidecar::start(&Registry::new(vec![document])?).await?;
    let mut shipped = Shipped::fed("sidecar.yaml", &sidecar)?;
    let limit = "max_active_downstream_connections: ";
    ensure!(shipped.text.contains(&format!("{limit}50000")));
    shipped.text = shipped
        .text
        .replace(&format!("{limit}50000"), &format!("{limit}2"));
    let envoy = shipped.start().await?;
    let (mut first, mut second) = (envoy.client(), envoy.client());
    eventually(
        SOON,
        "the connections of the start to be gone",
        async || {
            ensure!(first.get("/").await?.status == 200 && second.get("/").await?.status == 200);
            Ok(())
        },
    )
    .await?;
    let mut third = TcpStream::connect(envoy.shipped.ingress.address()).await?;
    assert_eq!(
        third.read(&mut [0]).await.unwrap_or_default(),
        0,
        "a third connection"
    );
    ensure_pages(&envoy).await
}

/// Envoy's default for a route, 15 s, would cut it.
#[tokio::test]
async fn an_answer_may_take_longer_than_15_seconds() -> Result<()> {
    let [one] = scene::backends(["one"])?;
    let envoy = scene::serve(&registry::cluster(CLUSTER, &[&one], json!({}))).await?;
    one.set(Behaviour::Slow(Duration::from_secs(16)));
    let response = envoy.client().get("/").await?;
    response.ensure_from("one")?;
    Ok(())
}

/// The tree of README's chapter on long route tables, in the place of the routes.
#[tokio::test]
async fn a_matcher_tree_routes_as_the_readme_shows() -> Result<()> {
    let readme = fs::read_to_string(artefacts::root().join("envoy/README.md"))?;
    let (_, tree) = readme
        .split_once("```yaml\n# a virtual host\n")
        .context("no tree")?;
    let (tree, _) = tree.split_once("```").context("the tree has no end")?;
    let host: Value = serde_saphyr::from_str(tree)?;
    let (one, two) = (Upstream::new("one")?, Upstream::new("two")?);
    let clusters = vec![
        registry::cluster("orders", &[&one], json!({})),
        registry::cluster("carts", &[&two], json!({})),
    ];
    let bootstrap = Bootstrap::fixed(&Registry::new(clusters)?.container())?
        .endpoints("orders", &[one.address()])?
        .endpoints("carts", &[two.address()])?;
    let envoy = Envoy::start(bootstrap.edit(|root| {
        let manager = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
        if let Some(manager) = root.pointer_mut(manager) {
            manager["route_config"]["virtual_hosts"] = json!([host]);
        }
    }))
    .await?;
    for (path, backend) in [("/orders/1", "one"), ("/carts/1", "two"), ("/carts", "two")] {
        let response = envoy.client().get(path).await?;
        assert_eq!(response.backend(), Some(backend), "{path}");
    }
    assert_eq!(envoy.client().get("/elsewhere").await?.status, 404);
    Ok(())
}
