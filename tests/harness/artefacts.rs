//! Where the things under test are: the Envoy binary, the module, the sidecar, the bootstraps, and
//! the redis-server, the prometheus and the promtool they are tested with.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::{env, fs};

use anyhow::{Context, Result, bail};

/// The project's top folder.
pub fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_owned()
}

/// Envoy: `$ENVOY`, else the one that `make` fetches.
pub fn envoy() -> Result<PathBuf> {
    let file = variable("ENVOY").unwrap_or_else(|| root().join(".tools/envoy-1.40.0/envoy"));
    existing(
        file,
        "run `make test-e2e`, which fetches it, or set ENVOY to an Envoy binary",
    )
}

/// redis-server: `$REDIS_SERVER`, else the one that `make` unpacks.
pub fn redis() -> Result<PathBuf> {
    existing(
        unpacked("REDIS_SERVER", "redis-server"),
        "run `make test-e2e`, which unpacks it, or set REDIS_SERVER to a redis-server",
    )
}

/// The folder with the API server, its etcd and kubectl: `$KUBERNETES`, else where `make` builds
/// them. `None`: they cannot be had here.
pub fn kubernetes() -> Option<PathBuf> {
    let tools = variable("POINTSMAN_TOOLS").unwrap_or_else(|| root().join(".tools"));
    let folder = variable("KUBERNETES").unwrap_or_else(|| tools.join("kubernetes"));
    folder.join("apiserver").is_file().then_some(folder)
}

/// The cluster that the stories are to run on instead of their own API servers: `$KUBECONFIG`.
pub fn kubeconfig() -> Result<Option<PathBuf>> {
    let file = variable("KUBECONFIG");
    let file = file.map(|file| existing(file, "KUBECONFIG must name one file here"));
    file.transpose()
}

/// promtool: `$PROMTOOL`, else the one that `make` unpacks.
pub fn promtool() -> Result<PathBuf> {
    existing(
        unpacked("PROMTOOL", "promtool"),
        "run `make test-e2e`, which unpacks it, or set PROMTOOL to a promtool",
    )
}

/// Prometheus: `$PROMETHEUS`, else the one that `make` unpacks.
pub fn prometheus() -> Result<PathBuf> {
    existing(
        unpacked("PROMETHEUS", "prometheus"),
        "run `make test-e2e`, which unpacks it, or set PROMETHEUS to a prometheus",
    )
}

/// What the variable names, else a command that `make` unpacks from a Debian package.
fn unpacked(name: &str, command: &str) -> PathBuf {
    let tools = || variable("POINTSMAN_TOOLS").unwrap_or_else(|| root().join(".tools"));
    variable(name).unwrap_or_else(|| tools().join("debian/bin").join(command))
}

/// The number in what `envoy --version` says (`… version: <commit>/1.40.0/Clean/…`).
pub fn envoy_version() -> Result<String> {
    static VERSION: OnceLock<String> = OnceLock::new();
    if let Some(version) = VERSION.get() {
        return Ok(version.clone());
    }
    let output = Command::new(envoy()?).arg("--version").output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let number = text
        .split_once("version: ")
        .and_then(|(_, build)| build.split('/').nth(1));
    let version = number.with_context(|| format!("no version in {text:?}"))?;
    Ok(VERSION.get_or_init(|| version.to_owned()).clone())
}

/// Most bytes of the filter's module: workers compile it at every start, and every proxy downloads
/// it.
pub const MODULE_BYTES_MAX: u64 = 400_000;

/// The filter, `pointsman.wasm`.
pub fn module() -> Result<PathBuf> {
    built("pointsman.wasm")
}

/// Writes the filter as another build of itself, which Envoy runs in another VM: a section that nobody
/// reads tells its number.
pub fn write_build(number: u8, file: &Path) -> Result<()> {
    const NAME: &[u8] = b"build";
    let mut module = fs::read(module()?)?;
    let length = u8::try_from(NAME.len())?;
    module.extend([0, length + 2, length]);
    module.extend(NAME);
    module.push(number);
    Ok(fs::write(file, module)?)
}

/// The sidecar's binary, `pointsman`.
pub fn sidecar() -> Result<PathBuf> {
    built("pointsman")
}

/// A file of `$POINTSMAN_DIST`, else of `target/dist`, such as the stories' `faulty.wasm`.
pub fn built(name: &str) -> Result<PathBuf> {
    let dist = variable("POINTSMAN_DIST").unwrap_or_else(|| root().join("target/dist"));
    existing(
        dist.join(name),
        "run `make build` and `make test-modules`, or set POINTSMAN_DIST",
    )
}

/// A bootstrap of the folder `envoy/`, as shipped.
pub fn bootstrap(name: &str) -> Result<PathBuf> {
    existing(
        root().join("envoy").join(name),
        "it is part of the repository",
    )
}

fn variable(name: &str) -> Option<PathBuf> {
    env::var_os(name)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

fn existing(file: PathBuf, advice: &str) -> Result<PathBuf> {
    if !file.is_file() {
        bail!("{} is missing: {advice}", file.display());
    }
    file.canonicalize()
        .with_context(|| format!("cannot open {}", file.display()))
}
