//! Redis answers and takes no writes: nothing is lost, writers are told to come back, `/health` says so.

use hyper::Method;

use super::*;

#[tokio::test]
async fn who_cannot_write_says_so_and_serves() -> Result<()> {
    let (one, two) = (Upstream::new("one")?, Upstream::new("two")?);
    let story = serve(Redis::start().await?, &[&one], &[]).await?;
    let redis = async |command: &str| {
        let command: Vec<&str> = command.split(' ').collect();
        story.store.ask(&command).await
    };
    for (number, (code, begin, end)) in [
        ("OOM", "CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0"),
        (
            "NOREPLICAS",
            "CONFIG SET min-replicas-to-write 1",
            "CONFIG SET min-replicas-to-write 0",
        ),
        ("READONLY", "REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE"),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("c{number}");
        let path = format!("/v1/clusters/{name}");
        let document = registry::cluster(&name, &[&two], json!({}));
        let put = async || story.sidecar.ask(Method::PUT, &path, &[], &document).await;
        redis(begin).await?;
        let answer = put().await?;
        ensure!(answer.status == 503, "{code}: {}", answer.status);
        let says = |text: &str| text.to_uppercase().contains(code);
        ensure!(says(&answer.text()), "{}", answer.text());
        let job = json!([document]);
        let job = story.sidecar.ask(Method::POST, "/v1/apply", &[], &job);
        let job = job.await?;
        ensure!(job.status == 503, "{code}: {}", job.text());
        let health = story.sidecar.health(503).await?;
        let why = health["redis"]["unwritable"].as_str();
        ensure!(why.is_some_and(says), "{health}");
        ensure!(health["redis"]["status"] == "connected", "{health}");
        let ready = story.sidecar.get("/readyz").await?.status;
        ensure!(ready == 200, "{code}: /readyz {ready}");
        served_by(&mut story.envoy.client(), &["one"]).await?;
        redis(end).await?;
        story.sidecar.health(200).await?;
        let answer = put().await?;
        ensure!(answer.status == 201, "{code}: {}", answer.status);
        story.store.says(&name, "backends", "1").await?;
    }
    story.sidecar.event("job_failed", 0).await?;
    story.sidecar.event("registry_read_only", 3).await
}
