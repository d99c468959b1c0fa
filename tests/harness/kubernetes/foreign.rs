//! The cluster that KUBECONFIG names: a namespace for each story, and the kinds that it has not yet.
//! What was made there is taken away: the namespace with its story, the kinds with the last one.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, ensure};
use hyper::Method;
use serde_json::json;
use tokio::runtime;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::api::{Api, all_kinds, name_of};
use super::kubeconfig;

const NAMESPACES: &str = "/api/v1/namespaces";
/// A cluster out of reach must not hold up the end of a run.
const LEAVING_MAX: Duration = Duration::from_secs(60);

/// One story's part of the cluster; dropping it takes away what was made for it.
pub struct Foreign {
    kubeconfig: PathBuf,
    api: Api,
    /// Its namespace was made; a server for custom resources alone has none.
    namespaced: bool,
}

/// What the stories of this process have in common there.
struct Ledger {
    stories: usize,
    /// The names of the kinds that were made.
    kinds: Vec<String>,
}

static LEDGER: Mutex<Ledger> = Mutex::const_new(Ledger {
    stories: 0,
    kinds: Vec::new(),
});

impl Foreign {
    /// Makes room for a story.
    pub async fn enter(file: PathBuf) -> Result<(Self, Api)> {
        let api = Api::new(kubeconfig::read(&file)?, &unique()?);
        let made = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": api.namespace()},
        });
        let made = Some(("application/json", &made));
        let made = api.ask(Method::POST, NAMESPACES, made).await?;
        ensure!(
            made.status == 201 || made.status == 404,
            "a namespace for the story: {} {}",
            made.status,
            made.body
        );
        LEDGER.lock().await.stories += 1;
        // From here on its end cleans up.
        let foreign = Foreign {
            kubeconfig: file,
            api: api.clone(),
            namespaced: made.status == 201,
        };
        make_kinds(&api).await?;
        Ok((foreign, api))
    }

    /// The file.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let (api, namespaced) = (self.api.clone(), self.namespaced);
        let namespace = api.namespace().to_owned();
        // The story's own runtime may be ending.
        let left = thread::spawn(move || {
            let mut runtime = runtime::Builder::new_current_thread();
            let runtime = runtime.enable_all().build()?;
            runtime.block_on(async {
                let left = timeout(LEAVING_MAX, leave(&api, namespaced)).await;
                left.context("no end in time")?
            })
        });
        let left = left.join().unwrap_or_else(|_| Err(anyhow!("a panic")));
        if let Err(error) = left {
            // The story's verdict stands; whose cluster it is wants to know.
            eprintln!("namespace {namespace} of KUBECONFIG's cluster is not clean: {error:#}");
        }
    }
}

/// Defines what is not there; what is there is left as it is.
async fn make_kinds(api: &Api) -> Result<()> {
    let mut ledger = LEDGER.lock().await;
    for kind in all_kinds()? {
        let objects = api.objects_of(&kind);
        if api.ask(Method::GET, &objects, None).await?.status == 404 {
            ledger.kinds.push(name_of(&kind)?.to_owned());
            api.define(&kind).await?;
        }
    }
    Ok(())
}

async fn leave(api: &Api, namespaced: bool) -> Result<()> {
    if namespaced {
        let path = format!("{NAMESPACES}/{}", api.namespace());
        api.ask(Method::DELETE, &path, None).await?.ok()?;
    } else {
        for kind in all_kinds()? {
            let objects = api.objects_of(&kind);
            api.ask(Method::DELETE, &objects, None).await?.ok()?;
        }
    }
    let mut ledger = LEDGER.lock().await;
    ledger.stories = ledger.stories.saturating_sub(1);
    if ledger.stories == 0 {
        for kind in std::mem::take(&mut ledger.kinds) {
            api.undefine(&kind).await?;
        }
    }
    Ok(())
}

/// A name that no other story has, in this run or another.
fn unique() -> Result<String> {
    static STORIES: AtomicU32 = AtomicU32::new(0);
    let story = STORIES.fetch_add(1, Ordering::Relaxed);
    let run = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    let process = std::process::id();
    Ok(format!("pointsman-story-{run:x}-{process}-{story}"))
}
