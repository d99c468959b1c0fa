//! A held body is Envoy's until it is answered: what fails at one backend goes to the next whole.

use anyhow::{Context, Result, ensure};
use harness::{Behaviour, Envoy};
use serde_json::json;

use super::{ask, document};
use crate::scene::{backends, bootstrap};

const BODIES: [usize; 3] = [37, 60_000, 1_000_000];
const TRIES: usize = 10;

fn body(length: usize) -> String {
    let text = format!(
        r#"{{"method":"a","params":["{}"]}}"#,
        "x".repeat(length - 30)
    );
    assert!(text.len() <= length);
    text
}

/// RL-6: refused, reset or 503, first in line or on a connection that was good before.
#[tokio::test]
async fn rl_6_a_held_body_is_replayed_whole() -> Result<()> {
    for fault in [
        None,
        Some(Behaviour::status(503)),
        Some(Behaviour::ResetOnRequest),
    ] {
        let [a, b] = backends(["a", "b"])?;
        let mut document = document(&[&a], json!({"maxBodyBytes": 2_000_000}));
        document["retry"] = json!({"on": ["ConnectFailure", "Reset", 503]});
        document["backoff"] = json!({"base": "10ms", "max": "10ms"});
        document["backends"]
            .as_array_mut()
            .context("no backends")?
            .push(harness::registry::backup(&b));
        let envoy = Envoy::start(bootstrap(&document)?).await?;
        let mut client = envoy.client();
        match &fault {
            Some(fault) => a.set(fault.clone()),
            None => a.stop().await,
        }
        let mut tried = 0;
        for length in BODIES {
            for _ in 0..TRIES {
                let sent = body(length);
                ask(&mut client, sent.clone()).await?.ensure_from("b")?;
                let received = b.requests().pop().context("no request")?.body;
                ensure!(received == sent.as_bytes(), "{fault:?}: another body");
                tried += usize::from(a.hits() > 0 || fault.is_none());
                a.forget();
                b.forget();
            }
        }
        println!(
            "{fault:?}: {tried} of {} met it first",
            BODIES.len() * TRIES
        );
        ensure!(tried > 0, "{fault:?}: nobody met it");
    }
    Ok(())
}
