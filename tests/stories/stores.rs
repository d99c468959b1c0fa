//! What every store is spared, and every story of it the same: outages, and what is lost by accident.

mod guard;
mod outage;

use anyhow::Result;
use harness::{Home, Kind, Load, Scene, Store, Upstream, registry};
use serde_json::{Value, json};

use crate::scene::only;

/// A store with the cluster `orders` over these backends, and what serves it.
async fn serve(
    kind: Kind,
    backends: &[&Upstream],
    settings: &[(&str, &str)],
) -> Result<Scene<Store>> {
    let scene = Scene::on(kind.start().await?, &[orders(backends)], settings).await?;
    let ids: Vec<&str> = backends.iter().map(|it| it.id()).collect();
    only(&mut scene.envoy.client(), &ids).await?;
    Ok(scene)
}

fn orders(backends: &[&Upstream]) -> Value {
    registry::cluster("orders", backends, json!({}))
}

/// A load that lasts as long as the story.
fn load(scene: &Scene<Store>) -> harness::load::Running {
    let load = Load::new(scene.envoy.address(), u64::MAX);
    load.per_second(200).start()
}
