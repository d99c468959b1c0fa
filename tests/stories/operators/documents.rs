//! Documents through the admin API: they become traffic, and nobody's write is lost.

use std::sync::Arc;

use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::*;

const ORDERS: &str = "/v1/clusters/orders";

#[tokio::test]
async fn a_document_that_is_put_becomes_traffic() -> Result<()> {
    for kind in Kind::all("a_document_that_is_put_becomes_traffic")? {
        let (one, two) = (Upstream::new("one")?, Upstream::new("two")?);
        let story = start(kind, &[&one]).await?;
        let mut clients = story.clients().await?;
        let document = registry::cluster("orders", &[&one, &two], json!({}));
        let answer = story
            .sidecar
            .write(Method::PUT, ORDERS, document.clone())
            .await?;
        assert_eq!(answer["changes"]["added"], json!(["orders/two"]));
        story.wait_for_the_workers().await?;
        answered_by(&mut clients, 50).await?;
        ensure!(two.hits() > 0, "{kind:?}");
        // What stands in the store is what was put.
        let read = story.sidecar.get(ORDERS).await?;
        assert_eq!(read.json()?, document);
        let text = story.store.text().await?;
        ensure!(text.contains(&two.address().to_string()), "{text}");
        let patch = json!({"backends": [registry::backend(&two)]});
        story.sidecar.write(Method::PATCH, ORDERS, patch).await?;
        story.wait_for_the_workers().await?;
        let hits = one.hits();
        answered_by(&mut clients, 50).await?;
        assert_eq!(one.hits(), hits, "{kind:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_write_on_an_old_etag_is_412() -> Result<()> {
    for kind in Kind::all("a_write_on_an_old_etag_is_412")? {
        let one = Upstream::new("one")?;
        let document = registry::cluster("orders", &[&one], json!({}));
        let (sidecar, _store) = start_sidecar(kind, &document, &[]).await?;
        let old = etag(&sidecar.get(ORDERS).await?)?;
        let condition = [("if-match", old.as_str())];
        let bare = json!({"name": "orders"});
        let first = sidecar.ask(Method::PUT, ORDERS, &condition, &bare).await?;
        assert_eq!(first.status, 200, "{}", first.text());
        for method in [Method::PUT, Method::PATCH, Method::DELETE] {
            let late = sidecar.ask(method, ORDERS, &condition, &document).await?;
            assert_eq!(late.status, 412, "{kind:?}: {}", late.text());
        }
        let now = etag(&first)?;
        let condition = [("if-match", now.as_str())];
        let again = sidecar
            .ask(Method::PUT, ORDERS, &condition, &document)
            .await?;
        assert_eq!(again.status, 200, "{}", again.text());
        assert_eq!(etag(&again)?, old, "the same content is the same ETag");
    }
    Ok(())
}

/// Adds one to the weight of the only backend, and tries again when somebody else was faster;
/// says how often. The first time it writes when all of them have read.
async fn increment(sidecar: &Sidecar, all_have_read: &Barrier) -> Result<usize> {
    for conflicts in 0..200 {
        let read = sidecar.get(ORDERS).await?;
        if conflicts == 0 {
            all_have_read.wait().await;
        }
        let condition = etag(&read)?;
        let mut document = read.json()?;
        let weight = document["backends"][0]["weight"]
            .as_u64()
            .context("weight")?;
        document["backends"][0]["weight"] = json!(weight + 1);
        let condition = [("if-match", condition.as_str())];
        let written = sidecar
            .ask(Method::PUT, ORDERS, &condition, &document)
            .await?;
        match written.status.as_u16() {
            200 => return Ok(conflicts),
            412 => {}
            other => anyhow::bail!("{other} {}", written.text()),
        }
    }
    anyhow::bail!("always too late")
}

#[tokio::test]
async fn of_many_writers_no_write_is_lost() -> Result<()> {
    const WRITERS: u64 = 6;
    const EACH: u64 = 5;
    for kind in Kind::all("of_many_writers_no_write_is_lost")? {
        let one = Upstream::new("one")?;
        let mut document = registry::cluster("orders", &[&one], json!({}));
        document["backends"][0]["weight"] = json!(1);
        let (sidecar, _store) = start_sidecar(kind, &document, &[]).await?;
        let shared = Arc::new((sidecar, Barrier::new(usize::try_from(WRITERS)?)));
        let mut writers = JoinSet::new();
        for _ in 0..WRITERS {
            let shared = Arc::clone(&shared);
            writers.spawn(async move {
                let (sidecar, all_have_read) = &*shared;
                let mut conflicts = 0;
                for _ in 0..EACH {
                    conflicts += increment(sidecar, all_have_read).await?;
                }
                anyhow::Ok(conflicts)
            });
        }
        let mut conflicts = 0;
        while let Some(ended) = writers.join_next().await {
            conflicts += ended??;
        }
        let document = shared.0.get(ORDERS).await?.json()?;
        let writes = WRITERS * EACH;
        println!("{kind:?}: {writes} writes of {WRITERS} writers, {conflicts} conflicts");
        assert_eq!(
            document["backends"][0]["weight"],
            json!(1 + writes),
            "{kind:?}"
        );
        // Of those that read the same, one was in time.
        ensure!(conflicts >= usize::try_from((WRITERS - 1) * EACH)?);
    }
    Ok(())
}

#[tokio::test]
async fn services_are_refused_where_there_are_none() -> Result<()> {
    for kind in [Kind::File, Kind::Redis] {
        let one = Upstream::new("one")?;
        let document = registry::cluster("orders", &[&one], json!({}));
        let (sidecar, _store) = start_sidecar(kind, &document, &[]).await?;
        let from = json!({"backendsFrom": [{"service": {"name": "web"}}]});
        let mut whole = document.clone();
        whole["backendsFrom"] = from["backendsFrom"].clone();
        let many = json!([whole]);
        for (method, path, body) in [
            (Method::PUT, ORDERS, &whole),
            (Method::PATCH, ORDERS, &from),
            (Method::POST, "/v1/apply", &many),
        ] {
            let refused = sidecar.ask(method, path, &[], body).await?;
            let said = refused.json()?;
            let errors = json!([{"path": "clusters.orders.backendsFrom",
                "why": "is only known where the registry is kept in Kubernetes"}]);
            assert_eq!((refused.status.as_u16(), &said["errors"]), (422, &errors));
        }
        assert_eq!(sidecar.get(ORDERS).await?.json()?, document, "{kind:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_write_that_the_guard_holds_back_says_so() -> Result<()> {
    let one = Upstream::new("one")?;
    let many: Vec<Value> = (1..=10)
        .map(|port| json!({"address": format!("127.0.0.2:{port}")}))
        .collect();
    let document = json!({"name": "orders", "backends": many});
    let (sidecar, _store) = start_sidecar(Kind::Redis, &document, &[]).await?;
    let next = registry::cluster("orders", &[&one], json!({}));
    let answer = sidecar.ask(Method::PUT, ORDERS, &[], &next).await?;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let body = answer.json()?;
    assert_eq!(body["served"], false, "{body}");
    assert_eq!(
        body["held"],
        json!({"servedBackends": 10, "foundBackends": 1})
    );
    Ok(())
}

#[tokio::test]
async fn a_store_that_is_away_takes_no_write() -> Result<()> {
    let one = Upstream::new("one")?;
    let document = registry::cluster("orders", &[&one], json!({}));
    let (sidecar, mut store) = start_sidecar(Kind::Redis, &document, &[]).await?;
    let redis = store.redis()?;
    assert_eq!(sidecar.get(ORDERS).await?.status, 200);
    redis.kill();
    let cordon = "/v1/clusters/orders/backends/one/cordon";
    for (method, path) in [(Method::PUT, ORDERS), (Method::POST, cordon)] {
        let body = if path == ORDERS {
            document.clone()
        } else {
            Value::Null
        };
        let refused = sidecar.ask(method, path, &[], &body).await?;
        assert_eq!(refused.status, 503, "{path}: {}", refused.text());
    }
    redis.restart().await?;
    // The editor connects again by itself.
    let written = sidecar.ask(Method::PUT, ORDERS, &[], &document).await?;
    assert_eq!(written.status, 200, "{}", written.text());
    Ok(())
}

#[tokio::test]
async fn ad_15_series_start_at_0_and_go_with_their_backend() -> Result<()> {
    let (one, two) = (Upstream::new("one")?, Upstream::new("two")?);
    let document = registry::cluster("orders", &[&one], json!({}));
    let (sidecar, _store) = start_sidecar(Kind::File, &document, &[]).await?;
    let check = json!({"healthCheck": {"tcp": {}, "interval": "1s"}});
    let fresh = registry::cluster("fresh", &[&one, &two], check.clone());
    let put = sidecar
        .ask(Method::PUT, "/v1/clusters/fresh", &[], &fresh)
        .await?;
    assert_eq!(put.status, 201, "{}", put.text());
    let health = |backend: &str| {
        format!("pointsman_backend_healthy{{pointsman_cluster=\"fresh\",backend=\"{backend}\"")
    };
    let zero =
        "pointsman_verdict_changes_total{pointsman_cluster=\"fresh\",verdict=\"unhealthy\"} 0";
    let metrics = eventually(SOON, "the series of the new cluster", async || {
        let metrics = sidecar.metrics().await?;
        ensure!(
            metrics.contains(zero) && metrics.contains(&health("two")),
            "{metrics}"
        );
        Ok(metrics)
    })
    .await?;
    ensure!(!metrics.contains("http://"), "names, not URLs");
    let less = registry::cluster("fresh", &[&one], check);
    sidecar
        .ask(Method::PUT, "/v1/clusters/fresh", &[], &less)
        .await?;
    eventually(SOON, "the backend's series to go", async || {
        let metrics = sidecar.metrics().await?;
        ensure!(metrics.contains(&health("one")) && !metrics.contains(&health("two")));
        Ok(())
    })
    .await?;
    sidecar
        .ask(Method::DELETE, "/v1/clusters/fresh", &[], &Value::Null)
        .await?;
    eventually(SOON, "every series of the cluster to go", async || {
        ensure!(
            !sidecar
                .metrics()
                .await?
                .contains("pointsman_cluster=\"fresh\"")
        );
        Ok(())
    })
    .await
}
