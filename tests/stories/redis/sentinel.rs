//! The registry behind Sentinels: whoever is the master, its changes become traffic.

use harness::Load;
use harness::port::Port;
use harness::redis::Sentinel;
use hyper::Method;

use super::*;

const PASSWORD: &str = "s3cr3t-geheim";
const GUARD_PASSWORD: &str = "w4ch3-geheim";

const OFTEN: (&str, &str) = ("POINTSMAN_RECONCILE_INTERVAL", "1s");

/// A master that is served, its replica, and a Sentinel that watches them.
struct Scene {
    story: Story,
    replica: Redis,
    sentinel: Sentinel,
}

impl Scene {
    /// Starts everything; the first Sentinel of the URL is dead.
    async fn start(backend: &Upstream, settings: &[(&str, &str)]) -> Result<Self> {
        let master = Redis::start_with(Some(PASSWORD), &[]).await?;
        let replica = Redis::replica_of(&master).await?;
        let sentinel = Sentinel::watch("main", &master, GUARD_PASSWORD).await?;
        let (dead, alive) = (Port::reserve()?, sentinel.address());
        let dead = dead.address();
        let url = format!("redis+sentinel://:{PASSWORD}@{dead},{alive}/main");
        let login = [
            ("REDIS_URL", url.as_str()),
            ("POINTSMAN_SENTINEL_PASSWORD", GUARD_PASSWORD),
        ];
        let story = serve(master, &[backend], &[&login, settings].concat()).await?;
        Ok(Scene {
            story,
            replica,
            sentinel,
        })
    }
}

/// Waits until the Sentinel names this one.
async fn promoted(sentinel: &Sentinel, next: &Redis) -> Result<()> {
    eventually(SOON, "the replica to be promoted", async || {
        let master = sentinel.master().await?;
        ensure!(master == next.address(), "{master}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_dead_master_is_followed_to_the_next_under_load() -> Result<()> {
    let (one, two) = (Upstream::new("one")?, Upstream::new("two")?);
    let Scene {
        mut story,
        replica,
        sentinel,
    } = Scene::start(&one, &[]).await?;
    let load = Load::new(story.envoy.address(), u64::MAX)
        .per_second(100)
        .start();
    story.store.says("orders", "backends", "1").await?;

    story.store.kill();
    promoted(&sentinel, &replica).await?;
    story.sidecar.health(200).await?;
    replica
        .put(&registry::cluster("orders", &[&one, &two], json!({})))
        .await?;
    served_by(&mut story.envoy.client(), &["two"]).await?;

    // The old master comes back as a replica: nobody asks it any more.
    story.store.restart().await?;
    replica
        .put(&registry::cluster("late", &[&one], json!({})))
        .await?;
    story.sidecar.backends("late", &["one"]).await?;
    load.stop().await?.ensure_clean()
}

#[tokio::test]
async fn roles_that_change_in_good_order_are_followed() -> Result<()> {
    let one = Upstream::new("one")?;
    let Scene {
        story,
        replica,
        sentinel,
    } = Scene::start(&one, &[OFTEN]).await?;
    sentinel.fail_over().await?;
    promoted(&sentinel, &replica).await?;
    replica
        .put(&registry::cluster("late", &[&one], json!({})))
        .await?;
    story.sidecar.backends("late", &["one"]).await?;
    replica.says("late", "backends", "1").await
}

#[tokio::test]
async fn another_master_is_followed_though_the_old_one_says_nothing() -> Result<()> {
    let one = Upstream::new("one")?;
    let Scene {
        story,
        replica,
        sentinel,
    } = Scene::start(&one, &[OFTEN]).await?;
    // The old one lives on as a master, and closes no connection.
    replica.ask(&["REPLICAOF", "NO", "ONE"]).await?;
    sentinel.appoint(&replica).await?;
    replica
        .put(&registry::cluster("late", &[&one], json!({})))
        .await?;
    story.sidecar.backends("late", &["one"]).await.map(drop)
}

/// The connection that writes to it is closed by nobody.
#[tokio::test]
async fn writes_find_the_new_master_after_the_old_one_became_a_replica() -> Result<()> {
    let (one, two) = (Upstream::new("one")?, Upstream::new("two")?);
    let Scene {
        story,
        replica,
        sentinel,
    } = Scene::start(&one, &[OFTEN]).await?;
    let path = "/v1/clusters/late";
    let put = async |upstream: &Upstream| {
        let document = registry::cluster("late", &[upstream], json!({}));
        story.sidecar.ask(Method::PUT, path, &[], &document).await
    };
    let written = put(&one).await?;
    ensure!(written.status.is_success(), "{}", written.text());
    replica.ask(&["REPLICAOF", "NO", "ONE"]).await?;
    let (host, port) = (replica.address().ip(), replica.address().port());
    let command = ["REPLICAOF", &host.to_string(), &port.to_string()];
    story.store.ask(&command).await?;
    sentinel.appoint(&replica).await?;
    eventually(SOON, "a write to the new master", async || {
        let written = put(&two).await?;
        ensure!(written.status.is_success(), "{}", written.text());
        Ok(())
    })
    .await?;
    story.sidecar.backends("late", &["two"]).await.map(drop)
}
