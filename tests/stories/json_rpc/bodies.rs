//! Which bodies are taken, by their size and by what they say.

use anyhow::{Context, Result, ensure};
use harness::{Bootstrap, Envoy};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{Way, ask, batch, body_of, document, send};
use crate::scene::{CLUSTER, backends, bootstrap, figure, wait_for_figure};

/// What the listener holds of a body, and the cluster reads of one.
pub(super) const LIMIT: usize = 65_536;
pub(super) const TRIES: usize = 40;

/// The shipped bootstrap whose listener holds no more than [`LIMIT`], whatever the protocol.
pub(super) fn tight(document: &Value) -> Result<Bootstrap> {
    let mut bootstrap = bootstrap(document)?.edit(|root| {
        let listener = &mut root["static_resources"]["listeners"][0];
        listener["per_connection_buffer_limit_bytes"] = json!(LIMIT);
    });
    let manager = bootstrap.manager_mut()?;
    manager["http2_protocol_options"]["initial_stream_window_size"] = json!(LIMIT);
    let host = &mut manager["route_config"]["virtual_hosts"][0];
    host.as_object_mut()
        .context("no virtual host")?
        .remove("request_body_buffer_limit");
    Ok(bootstrap)
}

/// RL-5: a body of just the size that is allowed, which is all that the listener holds, is served whole;
/// one byte more is refused in our words, never in Envoy's.
#[tokio::test]
async fn rl_5_a_body_at_the_limit_is_served_and_one_above_is_refused() -> Result<()> {
    let [a] = backends(["a"])?;
    let document = document(&[&a], json!({"maxBodyBytes": LIMIT}));
    let envoy = Envoy::start(tight(&document)?).await?;
    for way in [Way::Length, Way::Chunked, Way::TwoReads, Way::Slow] {
        // Envoy keeps the connections of those for a while: all at once.
        let mut refused = JoinSet::new();
        for _ in 0..TRIES {
            let to = envoy.address();
            refused.spawn(async move { send(to, way, body_of(LIMIT + 1).as_bytes()).await });
        }
        for answer in refused.join_all().await {
            let answer = answer?;
            let text = answer.text();
            ensure!(answer.status == 413, "{way:?}: {text}");
            ensure!(text.contains(r#""code":-32600"#), "{way:?}: {text}");
        }
        ensure!(a.hits() == 0, "{way:?}: it was sent on");
        for _ in 0..TRIES {
            let body = body_of(LIMIT);
            let served = send(envoy.address(), way, body.as_bytes()).await?;
            ensure!(served.status == 200, "{way:?}: {}", served.text());
            let received = a.requests().pop().context("no request")?.body;
            ensure!(received == body.as_bytes(), "{way:?}: another body");
        }
        a.forget();
    }
    let refused = figure(&envoy, "bodies_refused_total", "body_too_large").await?;
    ensure!(refused == 4 * TRIES as u64, "{refused}");
    Ok(())
}

/// RL-5.
#[tokio::test]
async fn rl_5_what_is_no_request_is_refused_in_json_rpcs_words() -> Result<()> {
    let [a] = backends(["a"])?;
    let envoy = Envoy::start(bootstrap(&document(&[&a], json!({})))?).await?;
    let mut client = envoy.client();
    let deep = "[".repeat(1000);
    for (body, status, code, reason) in [
        ("[]", 400, -32600, "empty_batch"),
        ("garbage", 400, -32700, "not_json"),
        (r#"{"method":}"#, 400, -32700, "not_json"),
        ("[1,2", 400, -32700, "not_json"),
        (&deep, 400, -32700, "too_deep"),
        ("42", 400, -32600, "no_request"),
        (&batch(101), 413, -32600, "batch_too_long"),
    ] {
        let before = figure(&envoy, "bodies_refused_total", reason).await?;
        let answer = ask(&mut client, body).await?;
        let told = answer.json()?;
        ensure!(answer.status == status, "{reason}: {}", answer.status);
        let error = (&told["error"]["code"], &told["id"]);
        ensure!(error == (&json!(code), &Value::Null), "{reason}: {told}");
        wait_for_figure(&envoy, "bodies_refused_total", reason, before + 1).await?;
    }
    ensure!(a.hits() == 0, "some of it was sent on");
    for body in [batch(100), r#"{"id":1,"method":"a"}"#.to_owned()] {
        ask(&mut client, body).await?.ensure_from("a")?;
    }
    Ok(())
}

/// RL-13: names that the document lists, and three words for all others.
#[tokio::test]
async fn rl_13_methods_are_counted() -> Result<()> {
    let [a] = backends(["a"])?;
    let rules = json!({"methods": ["eth_call", "net.version"]});
    let envoy = Envoy::start(bootstrap(&document(&[&a], rules))?).await?;
    let mut client = envoy.client();
    for method in ["eth_call", "net.version", "eth_call", "made_up", "other"] {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method}).to_string();
        ask(&mut client, body).await?.ensure_from("a")?;
    }
    for body in ["{}", r#"{"method":7}"#] {
        ask(&mut client, body).await?.ensure_from("a")?;
    }
    ask(&mut client, batch(3)).await?.ensure_from("a")?;
    client.get("/").await?.ensure_from("a")?;
    for (method, count) in [
        ("eth_call", 2),
        ("net.version", 1),
        ("other", 2),
        ("unknown", 2),
        ("batch", 1),
        ("made_up", 0),
    ] {
        let counted = figure(&envoy, "json_rpc_requests_total", method).await?;
        ensure!(counted == count, "{method}: {counted}");
    }
    let page = envoy.prometheus().await?;
    let named = format!(
        r#"pointsman_json_rpc_requests_total{{reason="eth_call",pointsman_cluster="{CLUSTER}"}} 2"#
    );
    let swapped = format!(
        r#"pointsman_json_rpc_requests_total{{pointsman_cluster="{CLUSTER}",reason="eth_call"}} 2"#
    );
    ensure!(page.contains(&named) || page.contains(&swapped), "no label");
    Ok(())
}
