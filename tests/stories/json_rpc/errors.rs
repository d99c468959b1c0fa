//! `errors: Map`: failures as errors of JSON-RPC, for the request that failed.

use anyhow::{Result, ensure};
use harness::client::post;
use harness::{Behaviour, Envoy, Response, grpc};
use serde_json::{Value, json};

use super::{ask, batch, document};
use crate::scene::{backends, bootstrap, figure};

const LIMITED: i32 = -32000;
const INTERNAL: i32 = -32603;

/// Checks a mapped answer, in which nothing may look like an address.
fn check(answer: &Response, code: i32, id: &Value) -> Result<()> {
    let told = answer.json()?;
    ensure!(answer.status == 200, "{}: {told}", answer.status);
    ensure!(answer.header("content-type") == Some("application/json"));
    let parts = (&told["jsonrpc"], &told["error"]["code"], &told["id"]);
    ensure!(parts == (&json!("2.0"), &json!(code), id), "{told}");
    ensure!(!answer.text().contains("127.0.0.1"), "{told}");
    ensure!(answer.backend().is_none(), "the backend's own headers");
    Ok(())
}

/// RL-11.
#[tokio::test]
async fn rl_11_failures_become_errors_for_the_id_that_failed() -> Result<()> {
    let [a] = backends(["a"])?;
    let mut document = document(&[&a], json!({"errors": "Map"}));
    document["backoff"] = json!({"base": "10ms", "max": "10ms"});
    let envoy = Envoy::start(bootstrap(&document)?).await?;
    let mut client = envoy.client();
    let says = |status, body| Behaviour::Says { status, body };
    for (behaviour, code) in [
        (says(503, ""), INTERNAL),
        (says(503, "no upstream at 127.0.0.1:80"), INTERNAL),
        (says(500, "trouble"), INTERNAL),
        (says(429, "too many"), LIMITED),
        // Envoy's own: it ends before it answers.
        (Behaviour::ResetOnRequest, INTERNAL),
    ] {
        a.set(behaviour.clone());
        for id in [
            json!(7),
            json!("x\"1"),
            json!(null),
            json!(-1.5),
            json!(12_345_678_901_234_567_u64),
        ] {
            let body = json!({"jsonrpc": "2.0", "method": "a", "id": id, "params": [1]});
            let answer = ask(&mut client, body.to_string()).await?;
            check(&answer, code, &id)?;
        }
        let missing = ask(&mut client, r#"{"method":"a","params":{"id":1}}"#).await?;
        check(&missing, code, &Value::Null)?;
        check(&ask(&mut client, batch(3)).await?, code, &Value::Null)?;
        let large = format!(
            r#"{{"id":1,"method":"a","params":"{}"}}"#,
            "x".repeat(100_000)
        );
        check(&ask(&mut client, large).await?, code, &json!(1))?;
    }
    let limited = figure(&envoy, "errors_mapped_total", "limited").await?;
    let failed = figure(&envoy, "errors_mapped_total", "failed").await?;
    println!("{limited} as limits, {failed} as failures");
    ensure!(limited == 8 && failed > 0, "{limited}, {failed}");
    Ok(())
}

/// RL-11: what Envoy answers itself where nobody can be connected to, or nobody answers in time.
#[tokio::test]
async fn rl_11_envoys_own_answers_are_such_errors_too() -> Result<()> {
    let [a] = backends(["a"])?;
    let mut bootstrap = bootstrap(&document(&[&a], json!({"errors": "Map"})))?;
    let manager = bootstrap.manager_mut()?;
    manager["route_config"]["virtual_hosts"][0]["routes"][0]["route"]["timeout"] = json!("2s");
    let envoy = Envoy::start(bootstrap).await?;
    let mut client = envoy.client();
    let body = r#"{"method":"a","id":5}"#;
    ask(&mut client, body).await?.ensure_from("a")?;
    a.set(Behaviour::Hold);
    check(&ask(&mut client, body).await?, INTERNAL, &json!(5))?;
    a.stop().await;
    check(&ask(&mut client, body).await?, INTERNAL, &json!(5))?;
    check(&ask(&mut client, batch(2)).await?, INTERNAL, &Value::Null)
}

/// RL-11 and RL-3: the filter's own answers too.
#[tokio::test]
async fn rl_11_what_the_filter_refuses_is_such_an_error_too() -> Result<()> {
    let [a] = backends(["a"])?;
    let mut document = document(&[&a], json!({"errors": "Map"}));
    document["rateLimit"] = json!({"perSecond": 1, "burst": 1});
    let envoy = Envoy::start(bootstrap(&document)?).await?;
    let mut client = envoy.client();
    let body = r#"{"method":"a","id":5}"#;
    ask(&mut client, body).await?.ensure_from("a")?;
    check(&ask(&mut client, body).await?, LIMITED, &json!(5))?;
    let plain = client.get("/").await?;
    ensure!(plain.status == 429, "{}: a GET is not mapped", plain.status);

    document["rateLimit"] = Value::Null;
    document["backends"][0]["state"] = json!("Draining");
    let envoy = Envoy::start(bootstrap(&document)?).await?;
    let mut client = envoy.client();
    check(&ask(&mut client, body).await?, INTERNAL, &json!(5))?;
    check(&ask(&mut client, batch(2)).await?, INTERNAL, &Value::Null)?;
    let plain = client.get("/").await?;
    ensure!(plain.status == 503, "{}", plain.status);
    Ok(())
}

/// RL-11: who speaks something else keeps it, and so do clusters that pass.
#[tokio::test]
async fn rl_11_others_are_left_alone() -> Result<()> {
    let [a] = backends(["a"])?;
    for rules in [
        json!({"errors": "Map"}),
        json!({"errors": "Pass"}),
        json!({}),
    ] {
        let maps = rules["errors"] == "Map";
        let envoy = Envoy::start(bootstrap(&document(&[&a], rules))?).await?;
        let mut client = envoy.client();
        a.set(Behaviour::GrpcStatus(14));
        let call = grpc::call(envoy.address(), "/orders.Orders/List", b"x").await?;
        ensure!(call.grpc_status == Some(14), "{call:?}");
        a.set(Behaviour::Says {
            status: 503,
            body: "mine",
        });
        let text = client.send(post("/", r#"{"method":"a","id":1}"#)).await?;
        ensure!(text.status == 503 && text.text() == "mine", "{text:?}");
        let answer = ask(&mut client, r#"{"method":"a","id":1}"#).await?;
        let kept = answer.status == 503 && answer.text() == "mine";
        ensure!(kept != maps, "{answer:?}");
        a.set(Behaviour::Says {
            status: 404,
            body: "mine",
        });
        let answer = ask(&mut client, r#"{"method":"a","id":1}"#).await?;
        ensure!(
            answer.status == 404 && answer.text() == "mine",
            "{answer:?}"
        );
        a.set(Behaviour::Ok);
        ask(&mut client, r#"{"method":"a","id":1}"#)
            .await?
            .ensure_from("a")?;
    }
    Ok(())
}
