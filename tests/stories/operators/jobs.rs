//! Jobs outlive the sidecar that took them on (RM-10).

use crate::scene::only;

use anyhow::{Context, Result, ensure};
use harness::client::Response;
use harness::redis::Reply;
use harness::sidecar::operate;
use harness::{Bootstrap, Envoy, Redis, Registry, SOON, Sidecar, Upstream, eventually, registry};
use hyper::Method;
use serde_json::{Value, json};

/// How long a sidecar may be silent before others go on with its jobs.
const LEASE: (&str, &str) = ("POINTSMAN_LEASE_DURATION", "1s");
/// Enough that a sidecar can be killed in the middle.
const MANY: usize = 5000;

async fn start(redis: &Redis) -> Result<Sidecar> {
    let lease = (LEASE.0.to_owned(), LEASE.1.to_owned());
    Sidecar::start_on_store(redis.settings().into_iter().chain([lease])).await
}

async fn post(sidecar: &Sidecar, path: &str, body: &Value) -> Result<Response> {
    sidecar.ask(Method::POST, path, &[], body).await
}

/// Takes a job on and gives its id.
async fn take_on(sidecar: &Sidecar, body: Value) -> Result<String> {
    let response = post(sidecar, "/v1/jobs", &body).await?;
    ensure!(response.status == 202, "{}", response.text());
    let job = response.json()?;
    Ok(job["id"].as_str().context("no id")?.to_owned())
}

async fn job(sidecar: &Sidecar, id: &str) -> Result<Value> {
    let response = sidecar.get(&format!("/v1/jobs/{id}")).await?;
    ensure!(response.status == 200, "{}", response.text());
    response.json()
}

async fn done(sidecar: &Sidecar, id: &str) -> Result<Value> {
    eventually(SOON, &format!("job {id} to be done"), async || {
        let job = job(sidecar, id).await?;
        ensure!(job["state"] == "Done", "{job}");
        Ok(job)
    })
    .await
}

async fn depth(sidecar: &Sidecar, depth: u64) -> Result<()> {
    eventually(SOON, &format!("{depth} jobs"), async || {
        let health = sidecar.get("/health").await?.json()?;
        ensure!(health["queue"]["queue_depth"] == depth, "{health}");
        let metrics = sidecar.metrics().await?;
        let line = format!("pointsman_jobs_queue_depth {depth}\n");
        ensure!(metrics.contains(&line), "no {line}");
        Ok(())
    })
    .await
}

/// How often Redis has run a command since the count was reset.
async fn calls(redis: &Redis, command: &str) -> Result<u64> {
    let Reply::Text(info) = redis.ask(&["INFO", "commandstats"]).await? else {
        anyhow::bail!("INFO is no text");
    };
    let prefix = format!("cmdstat_{command}:calls=");
    let found = info.lines().find_map(|line| line.strip_prefix(&prefix));
    let count = found.and_then(|rest| rest.split(',').next());
    Ok(count.unwrap_or("0").parse()?)
}

fn documents(count: usize) -> Vec<Value> {
    let address = |i: usize| format!("10.0.{}.{}:80", i / 250, i % 250 + 1);
    let document = |i| json!({"name": format!("c{i}"), "backends": [{"address": address(i)}]});
    (0..count).map(document).collect()
}

/// Has [`MANY`] documents written, and returns when the first of them are and the store lets nobody
/// write any more: the rest waits for the story.
async fn begin_many(sidecar: &Sidecar, redis: &Redis) -> Result<()> {
    redis.hold_writes().await?;
    let take_on = async {
        let response = post(sidecar, "/v1/apply?id=many", &json!(documents(MANY))).await?;
        ensure!(response.status == 202, "{}", response.text());
        Ok(())
    };
    let some = eventually(SOON, "some of it to be done", async || {
        redis.let_a_write_through().await?;
        ensure!(done_of_many(redis).await? > 0, "nothing yet");
        Ok(())
    });
    tokio::try_join!(take_on, some).map(drop)
}

/// How many of them Redis says are written.
async fn done_of_many(redis: &Redis) -> Result<usize> {
    match redis.ask(&["HGET", "pointsman:job:many", "done"]).await? {
        Reply::Text(done) => Ok(done.parse()?),
        other => anyhow::bail!("done: {other:?}"),
    }
}

#[tokio::test]
async fn a_word_holds_from_its_time_to_its_time_whoever_dies_meanwhile() -> Result<()> {
    let (one, two) = (Upstream::new("one")?, Upstream::new("two")?);
    let redis = Redis::start().await?;
    redis
        .put(&registry::cluster("orders", &[&one, &two], json!({})))
        .await?;
    let mut sidecar = start(&redis).await?;
    let envoy = Envoy::start(Bootstrap::ads(sidecar.xds_address())?).await?;
    let mut client = envoy.client();
    only(&mut client, &["one", "two"]).await?;
    let cordon = json!({"reason": "disk", "startsIn": "3s", "expiresIn": "12s"});
    let path = "/v1/clusters/orders/backends/one/cordon";
    let response = post(&sidecar, path, &cordon).await?;
    assert_eq!(response.status, 200, "{}", response.text());
    // Whoever took it on dies before its time comes.
    sidecar.kill();
    sidecar.restart().await?;
    only(&mut client, &["two"]).await?;
    only(&mut client, &["one", "two"]).await
}

#[tokio::test]
async fn rm_10_killed_in_the_middle_nothing_is_lost_and_nothing_done_twice() -> Result<()> {
    let redis = Redis::start().await?;
    let mut sidecar = start(&redis).await?;
    redis.ask(&["CONFIG", "RESETSTAT"]).await?;
    begin_many(&sidecar, &redis).await?;
    sidecar.kill();
    let half = done_of_many(&redis).await?;
    ensure!(half < MANY, "it was done before the sidecar died");
    redis.allow_writes().await?;

    sidecar.restart().await?;
    let job = done(&sidecar, "many").await?;
    assert_eq!((&job["done"], &job["total"]), (&json!(MANY), &json!(MANY)));
    println!("killed after {half} of {MANY} documents");
    let Reply::List(keys) = redis.ask(&["KEYS", "pointsman:cluster:*"]).await? else {
        anyhow::bail!("KEYS is no list");
    };
    assert_eq!(keys.len(), MANY);
    // Each was written once, before the death or after it.
    let written = u64::try_from(MANY)?;
    assert_eq!(calls(&redis, "set").await?, written);
    // The same job again is no other job.
    let response = post(&sidecar, "/v1/apply?id=many", &json!(documents(1))).await?;
    assert_eq!(response.json()?["state"], "Done");
    depth(&sidecar, 0).await?;
    assert_eq!(calls(&redis, "set").await?, written);
    Ok(())
}

#[tokio::test]
async fn rm_10_a_sidecar_that_was_only_silent_does_nothing_twice() -> Result<()> {
    let redis = Redis::start().await?;
    let silent = start(&redis).await?;
    redis.ask(&["CONFIG", "RESETSTAT"]).await?;
    begin_many(&silent, &redis).await?;
    silent.hang().await?;
    let half = done_of_many(&redis).await?;
    ensure!(half < MANY, "it was done before the sidecar hung");
    redis.allow_writes().await?;
    let other = start(&redis).await?;
    done(&other, "many").await?;
    // It goes on where it stood, and finds that others have been there.
    silent.resume()?;
    depth(&silent, 0).await?;
    println!("silent after {half} of {MANY} documents");
    assert_eq!(calls(&redis, "set").await?, u64::try_from(MANY)?);
    eventually(SOON, "one job to be counted", async || {
        let detail = other.get("/admin/health/redis").await?.json()?;
        let count = &detail["counter_backend"]["totals"]["job_done"];
        ensure!(*count == 1, "{count}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn rm_10_two_sidecars_share_the_jobs_and_do_each_once() -> Result<()> {
    const JOBS: usize = 40;
    let redis = Redis::start().await?;
    let sidecars = [start(&redis).await?, start(&redis).await?];
    redis.ask(&["CONFIG", "RESETSTAT"]).await?;
    for number in 0..JOBS {
        let said = json!({
            "id": format!("j{number}"), "act": "apply",
            "documents": [{"name": format!("c{number}")}],
        });
        // Every second one is asked for twice.
        for sidecar in sidecars.iter().skip(number % 2) {
            take_on(sidecar, said.clone()).await?;
        }
    }
    for number in 0..JOBS {
        done(&sidecars[0], &format!("j{number}")).await?;
    }
    let Reply::List(written) = redis.ask(&["KEYS", "pointsman:cluster:c*"]).await? else {
        anyhow::bail!("KEYS is no list");
    };
    assert_eq!(written.len(), JOBS);
    eventually(SOON, "each to be counted once by one of them", async || {
        let detail = sidecars[0].get("/admin/health/redis").await?.json()?;
        let count = &detail["counter_backend"]["totals"]["job_done"];
        ensure!(*count == JOBS, "{count}");
        Ok(())
    })
    .await?;
    depth(&sidecars[1], 0).await
}

#[tokio::test]
async fn rm_10_what_is_wrong_is_refused_before_it_is_taken_on() -> Result<()> {
    let redis = Redis::start().await?;
    let sidecar = start(&redis).await?;
    let bad = json!([{"name": "a"}, {"name": "b", "weight": 1}]);
    let response = post(&sidecar, "/v1/apply", &bad).await?;
    assert_eq!(response.status, 422);
    let errors = &response.json()?["errors"];
    assert_eq!(errors[0]["path"], "clusters.b.weight");
    let response = post(&sidecar, "/v1/jobs", &json!({"act": "dance"})).await?;
    assert_eq!(response.status, 422);
    assert_eq!(sidecar.get("/v1/jobs/none").await?.status, 404);
    let jobs = sidecar.get("/v1/jobs").await?.json()?;
    assert_eq!(jobs, json!({"jobs": []}));
    // While the store is away nothing is taken on, and that is said.
    redis.kill();
    let response = post(&sidecar, "/v1/apply", &json!([{"name": "a"}])).await?;
    assert_eq!(response.status, 503);
    Ok(())
}

#[tokio::test]
async fn rm_10_operators_have_jobs_done_from_their_shell() -> Result<()> {
    let redis = Redis::start().await?;
    let sidecar = start(&redis).await?;
    let file = json!({"schema": 1, "clusters": documents(300)}).to_string();
    let applied = operate(&sidecar, &["apply", "-f", "-", "--job", "release-1"], &file).await?;
    assert_eq!((applied.code, applied.errors.as_str()), (0, ""));
    assert_eq!(applied.out, "job release-1: 300 of 300 written\n");
    let drain = ["drain", "c1", "10.0.0.2:80", "--in", "300ms", "--for", "1h"];
    let planned = operate(&sidecar, &drain, "").await?;
    assert_eq!(planned.code, 0, "{}", planned.errors);
    // It is no job: it stands where words stand, and holds at its time.
    eventually(SOON, "the word to hold", async || {
        let words = sidecar.get("/v1/overrides").await?.json()?;
        let word = &words["overrides"][0];
        ensure!(
            word["backend"] == "10.0.0.2:80" && word["state"] == "Draining",
            "{words}"
        );
        let now = std::time::UNIX_EPOCH.elapsed()?.as_millis();
        ensure!(
            u128::from(word["startsAt"].as_u64().context("no start")?) <= now,
            "{words}"
        );
        Ok(())
    })
    .await?;
    let table = operate(&sidecar, &["get", "jobs"], "").await?.out;
    let lines: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let applied = ["release-1", "apply", "Done", "300/300", "-"];
    ensure!(lines.iter().any(|line| *line == applied), "{table}");
    let one = operate(&sidecar, &["get", "jobs", "release-1", "-o", "json"], "").await?;
    let one: Value = serde_json::from_str(&one.out)?;
    assert_eq!(one, job(&sidecar, "release-1").await?);
    let none = operate(&sidecar, &["get", "jobs", "none"], "").await?;
    assert_eq!(none.code, 1);
    ensure!(none.errors.contains("there is no job none"), "{none:?}");
    let wrong = operate(&sidecar, &["uncordon", "c1", "b", "--in", "soon"], "").await?;
    assert_eq!(wrong.code, 1);
    ensure!(
        wrong.errors.contains("expiresIn: must be a duration"),
        "{}",
        wrong.errors
    );
    Ok(())
}

#[tokio::test]
async fn rm_4_in_demo_mode_jobs_are_in_memory() -> Result<()> {
    let (one, two) = (Upstream::new("one")?, Upstream::new("two")?);
    let registry = Registry::new(vec![registry::cluster("orders", &[&one], json!({}))])?;
    let mut sidecar = Sidecar::start(&registry).await?;
    let envoy = Envoy::start(Bootstrap::ads(sidecar.xds_address())?).await?;
    let mut client = envoy.client();
    only(&mut client, &["one"]).await?;
    let documents = json!([registry::cluster("orders", &[&two], json!({}))]);
    let response = post(&sidecar, "/v1/apply?id=x", &documents).await?;
    ensure!(response.status == 202, "{}", response.text());
    done(&sidecar, "x").await?;
    only(&mut client, &["two"]).await?;
    let health = sidecar.get("/health").await?.json()?;
    let queue = json!({"status": "disabled", "backend": "memory", "queue_depth": 0});
    assert_eq!(health["queue"], queue);
    // One warning for each part that is in memory.
    let warnings = sidecar.wait_for_events("demo_mode", 2).await?;
    ensure!(
        warnings.iter().all(|line| line["level"] == "WARN"),
        "{warnings:?}"
    );
    // What is known of them is gone with the process.
    sidecar.restart().await?;
    assert_eq!(sidecar.get("/v1/jobs/x").await?.status, 404);
    Ok(())
}
