//! What is ours in Redis and cannot be read is named, repaired or left alone, and costs nothing else.

use harness::sidecar::operate;
use hyper::Method;

use super::*;

const OFTEN: (&str, &str) = ("POINTSMAN_RECONCILE_INTERVAL", "1s");
const COUNTERS: &str = "pointsman:counters";
/// Names and fields of bytes that are no text.
const NO_TEXT: &str = r"
redis.call('HSET', 'pointsman:counters', '\255', 1)
redis.call('HSET', 'pointsman:override:orders', '\255', 'Draining')
redis.call('SET', 'pointsman:cluster:\255', '{}')
redis.call('HSET', 'pointsman:status:\255', 'accepted', 'true')
redis.call('XADD', 'pointsman:jobs', '*', 'id', '\255')
return 1";
/// Where the sidecar says that something is wrong.
const NAMED: [&str; 9] = [
    "pointsman:counters[whatever]",
    "pointsman:counters[registry_lost]",
    "pointsman:counters[registry_restored]",
    "pointsman:counters[job_done]",
    r#"pointsman:counters[b"\xff"]"#,
    r#"overrides.orders[b"\xff"]"#,
    r#"b"pointsman:cluster:\xff""#,
    r#"b"pointsman:status:\xff""#,
    "clusters.broken",
];

/// One bad value of every kind.
async fn write_odd(redis: &Redis) -> Result<()> {
    let counts = [
        ("whatever", "x"),
        ("registry_lost", "-1"),
        ("registry_restored", "1.5"),
        ("job_done", "18446744073709551616"),
    ];
    for (name, value) in counts {
        redis.ask(&["HSET", COUNTERS, name, value]).await?;
    }
    redis.ask(&["EVAL", NO_TEXT, "0"]).await?;
    for key in ["status:orders", "status:late", "cluster:broken"] {
        let key = format!("pointsman:{key}");
        redis.ask(&["SET", &key, "x"]).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_bad_value_of_our_own_stops_nothing_at_the_start_or_later() -> Result<()> {
    let one = Upstream::new("one")?;
    let redis = Redis::start().await?;
    write_odd(&redis).await?;
    redis.ask(&["SET", "pointsman:lease", "x"]).await?;
    let story = serve(redis, &[&one], &[OFTEN]).await?;
    for name in ["late", "later"] {
        story.sidecar.health(200).await?;
        eventually(SOON, "everything odd to be named", async || {
            let status = story.sidecar.status().await?;
            let rejected = status["registry"]["rejected"].as_array();
            let rejected = rejected.context("no list")?.iter();
            let places: Vec<&str> = rejected.filter_map(|it| it["place"].as_str()).collect();
            for place in NAMED {
                ensure!(places.contains(&place), "{place} is not in {places:?}");
            }
            Ok(())
        })
        .await?;
        // What is ours is repaired, and everything else goes on.
        let document = registry::cluster(name, &[&one], json!({}));
        story.store.put(&document).await?;
        story.store.says(name, "accepted", "true").await?;
        story.store.says("orders", "backends", "1").await?;
        let cordon = operate(&story.sidecar, &["cordon", "orders", "one"], "").await?;
        ensure!(cordon.code == 0, "{cordon:?}");
        let other = Sidecar::start_on_store(story.store.settings()).await?;
        other.health(200).await?;
        drop(other);
        write_odd(&story.store).await?;
    }
    let holder = story.store.ask(&["HGET", "pointsman:lease", "holder"]);
    ensure!(matches!(holder.await?, Reply::Text(_)), "nobody holds it");
    Ok(())
}

/// A count that is none begins anew, and so does a key that is no hash of counts.
#[tokio::test]
async fn rm_9_counts_that_are_none_begin_anew() -> Result<()> {
    let one = Upstream::new("one")?;
    let redis = Redis::start().await?;
    redis.ask(&["SET", COUNTERS, "x"]).await?;
    let story = serve(redis, &[&one], &[]).await?;
    let counted = async |event: &str, count: &str| {
        eventually(SOON, &format!("{event} {count}"), async || {
            let counters = story.store.ask(&["HGETALL", COUNTERS]).await?;
            ensure!(counters.field(event) == Some(count), "{counters:?}");
            Ok(())
        })
        .await
    };
    for (state, count) in [("cordon", "1"), ("cordon", "2")] {
        let path = format!("/v1/clusters/orders/backends/one/{state}");
        let body = json!({"reason": count});
        let asked = story.sidecar.ask(Method::POST, &path, &[], &body).await?;
        ensure!(asked.status == 200, "{}", asked.text());
        counted("override_set", count).await?;
    }
    story
        .store
        .ask(&["HSET", COUNTERS, "override_cleared", "x"])
        .await?;
    let path = "/v1/clusters/orders/backends/one/uncordon";
    let asked = story.sidecar.ask(Method::POST, path, &[], &Value::Null);
    ensure!(asked.await?.status == 200);
    counted("override_cleared", "1").await?;
    counted("override_set", "2").await
}

/// A job that holds nothing that could be done has failed, and the next one is done.
#[tokio::test]
async fn rm_10_a_job_that_cannot_be_read_fails_alone() -> Result<()> {
    let one = Upstream::new("one")?;
    let story = serve(Redis::start().await?, &[&one], &[]).await?;
    let job = [
        "HSET",
        "pointsman:job:odd",
        "state",
        "Waiting",
        "total",
        "1",
    ];
    let fields = ["done", "x", "created", "1", "documents", "[]"];
    story.store.ask(&[&job[..], &fields].concat()).await?;
    story.store.ask(&["SET", "pointsman:job:none", "x"]).await?;
    for id in ["odd", "none"] {
        let add = ["XADD", "pointsman:jobs", "*", "id", id];
        story.store.ask(&add).await?;
    }
    story.sidecar.event("job_failed", 2).await?;
    for id in ["odd", "none"] {
        let key = format!("pointsman:job:{id}");
        let said = story.store.ask(&["HGETALL", &key]).await?;
        ensure!(said.field("state") == Some("Failed"), "{id}: {said:?}");
    }
    let documents = json!([{"name": "good", "backends": []}]);
    let asked = story
        .sidecar
        .ask(Method::POST, "/v1/apply", &[], &documents);
    let asked = asked.await?;
    ensure!(asked.status == 202, "{}", asked.text());
    story.sidecar.event("job_done", 1).await?;
    story.sidecar.backends("good", &[]).await.map(drop)
}
