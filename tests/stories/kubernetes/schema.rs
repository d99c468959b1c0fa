//! What the parser refuses the API server refuses too, as far as a schema and CEL can say it.

use super::*;

#[tokio::test]
async fn the_server_refuses_what_the_parser_refuses() -> Result<()> {
    let Some(kubernetes) = Kubernetes::start("the_server_refuses").await? else {
        return Ok(());
    };
    let backend = |more: Value| {
        let mut backend = json!({"address": "10.0.0.1:80"});
        if let (Some(backend), Value::Object(more)) = (backend.as_object_mut(), more) {
            backend.extend(more);
        }
        json!({"backends": [backend]})
    };
    let probe = |check: Value| json!({"healthCheck": check});
    let refused = [
        json!({"weight": 1}),
        json!({"name": "a:b"}),
        json!({"name": "pointsman_sidecar"}),
        json!({"loadBalancing": {"policy": "Fastest"}}),
        json!({"loadBalancing": {"affinity": {"header": "x-user"}}}),
        json!({"loadBalancing": {"policy": "Maglev", "affinity": {}}}),
        json!({"loadBalancing": {"policy": "Maglev", "affinity": {"sourceIp": false}}}),
        json!({"loadBalancing": {"policy": "Maglev", "affinity": {"header": "a", "cookie": "b"}}}),
        json!({"loadBalancing": {"policy": "Maglev", "affinity": {"header": "a:"}}}),
        json!({"loadBalancing": {"policy": "Maglev", "affinity": {"cookie": ""}}}),
        json!({"loadBalancing": {"policy": "Maglev", "slowStart": {}}}),
        json!({"loadBalancing": {"slowStart": {"window": "999ms"}}}),
        json!({"loadBalancing": {"policy": "Tiered", "slowStart": {}}}),
        json!({"loadBalancing": {"policy": "Tiered", "smoothing": 0}}),
        json!({"loadBalancing": {"policy": "Tiered", "smoothing": 1.001}}),
        json!({"loadBalancing": {"policy": "Tiered", "initialLatency": "61s"}}),
        json!({"loadBalancing": {"smoothing": 0.1}}),
        json!({"loadBalancing": {"policy": "Random", "initialLatency": "5s"}}),
        json!({"loadBalancing": {"slowStart": {"minWeightPercent": 0}}}),
        json!({"backoff": {"halfOpen": "no"}}),
        json!({"loadBalancing": {"maglevTableSize": 65_536}}),
        json!({"loadBalancing": {"maglevTableSize": 516_961}}),
        json!({"loadBalancing": {"maglevTableSize": 524_309}}),
        json!({"loadBalancing": {"shuffleShard": {"percent": 0}}}),
        json!({"loadBalancing": {"shuffleShard": {"percent": 101}}}),
        json!({"loadBalancing": {"shuffleShard": {"minBackends": 1}}}),
        json!({"loadBalancing": {"shuffleShard": {"whenExhausted": "Wait"}}}),
        json!({"sticky": {"cookie": "a b"}}),
        json!({"sticky": {"sameSite": "None"}}),
        json!({"timeouts": {"connect": "9ms"}}),
        json!({"timeouts": {"connect": "61s"}}),
        json!({"sticky": {"path": "shop"}}),
        json!({"sticky": {"path": "/a;b"}}),
        json!({"sticky": {"path": "/a b"}}),
        probe(json!({})),
        probe(json!({"tcp": {}, "http": {}})),
        probe(json!({"tcp": {}, "interval": "1"})),
        probe(json!({"tcp": {}, "interval": "2h"})),
        probe(json!({"tcp": {}, "timeout": "1ms"})),
        probe(json!({"tcp": {}, "healthyThreshold": 0})),
        probe(json!({"http": {"path": "healthz"}})),
        probe(json!({"http": {"method": "DELETE"}})),
        probe(json!({"http": {"expectedStatuses": ["299-200"]}})),
        probe(json!({"http": {"expectedStatuses": [99]}})),
        probe(json!({"http": {"headers": [{"name": "Host", "value": "x"}]}})),
        json!({"retry": {"attempts": 11}}),
        json!({"retry": {"on": ["Sometimes"]}}),
        json!({"retry": {"on": [399]}}),
        json!({"retry": {"perTryTimeout": "1s"}}),
        json!({"retry": {"perTryTimeout": "25h", "on": ["Reset"]}}),
        json!({"backoff": {"base": "2s", "max": "1s"}}),
        json!({"backoff": {"max": "500ms"}}),
        json!({"backoff": {"maxTries": 17}}),
        json!({"passive": {"cooldown": {"base": "5s", "max": "1s"}}}),
        json!({"passive": {"cooldown": {"max": "1s"}}}),
        json!({"passive": {"cooldown": {"statuses": []}}}),
        json!({"passive": {"cooldown": {"statuses": [200]}}}),
        json!({"passive": {"cooldown": {"statuses": ["grpc:0"]}}}),
        json!({"passive": {"cooldown": {"statuses": ["ServerError"]}}}),
        json!({"passive": {"failures": ["RefusedStream"]}}),
        json!({"passive": {"failures": ["grpc:17"]}}),
        json!({"passive": {"failures": [200]}}),
        json!({"passive": {"consecutive": 0}}),
        json!({"passive": {"maxEjectedPercent": 101}}),
        json!({"passive": {"untilProbed": true}}),
        json!({"retry": {"on": ["grpc:2"]}}),
        json!({"retry": {"on": ["Timeout"]}}),
        json!({"limits": {"maxRequests": -1}}),
        json!({"limits": {"maxPendingRequests": 1_000_001}}),
        json!({"limits": {"maxConnections": "5"}}),
        json!({"limits": {"maxStreamsPerClient": 0.5}}),
        json!({"limits": {"retryAfter": "25h"}}),
        json!({"rateLimit": {"perSecond": 0}}),
        json!({"rateLimit": {"burst": 0}}),
        json!({"rateLimit": {"scope": "Fleet"}}),
        json!({"jsonRpc": {"maxBatch": 0}}),
        json!({"jsonRpc": {"maxBatch": 10_001}}),
        json!({"jsonRpc": {"maxBodyBytes": 0}}),
        json!({"jsonRpc": {"maxBodyBytes": 16_777_217}}),
        json!({"jsonRpc": {"errors": "Hide"}}),
        json!({"jsonRpc": {"methods": ["a;b"]}}),
        json!({"jsonRpc": {"methods": [""]}}),
        json!({"jsonRpc": {"methods": ["a", "a"]}}),
        json!({"jsonRpc": {"methods": ["batch"]}}),
        json!({"jsonRpc": {"methods": [1]}}),
        json!({"jsonRpc": {"split": true}}),
        json!({"whenAllUnhealthy": "Panic"}),
        json!({"tls": {"sni": "a b"}}),
        json!({"refusal": {}}),
        json!({"backends": [{"id": "no-address"}]}),
        backend(json!({"address": "example.org:80"})),
        backend(json!({"address": "10.0.0.256:80"})),
        backend(json!({"address": "10.0.0.1:65536"})),
        backend(json!({"weight": -1})),
        backend(json!({"weight": 65_536})),
        backend(json!({"stickyId": "a;b"})),
        backend(json!({"id": ""})),
        backend(json!({"state": "Closed"})),
        backend(json!({"maxInFlight": -1})),
        backend(json!({"rateLimit": {"perSecond": 1_000_001}})),
        backend(json!({"rateLimit": {"each": 1}})),
    ];
    for spec in refused {
        let answer = kubernetes.apply("refused", &spec).await?;
        let status = answer.status;
        // A field that is not in the schema is a 500 to an apply: "field not declared in schema".
        ensure!(status >= 400, "{spec} was taken: {status} {}", answer.body);
        let mut document = spec.clone();
        if document.get("name").is_none() {
            document["name"] = json!("refused");
        }
        let parsed = pointsman_filter::config::ClusterConfig::parse(&document);
        // The sidecar's own name is refused outside the parser.
        ensure!(
            parsed.is_err() || spec["name"] == "pointsman_sidecar",
            "{spec}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn the_server_takes_what_the_parser_takes() -> Result<()> {
    let Some(kubernetes) = Kubernetes::start("the_server_takes").await? else {
        return Ok(());
    };
    let taken = [
        json!({}),
        json!({"backends": []}),
        json!({"timeouts": {"connect": "250ms"}}),
        json!({"name": "a|b/c_d.e-F"}),
        json!({"loadBalancing": {"policy": "LeastLoaded", "metric": "Latency"}}),
        json!({"loadBalancing": {"policy": "Rendezvous", "affinity": {"header": "X-User"}}}),
        json!({"loadBalancing": {"policy": "Maglev", "affinity": {"cookie": "user"},
            "maglevTableSize": 2}}),
        json!({"loadBalancing": {"maglevTableSize": 524_287,
            "affinity": {"sourceIp": true}, "shuffleShard": {}}}),
        json!({"loadBalancing": {"policy": "RoundRobin", "affinity": {"sourceIp": true},
            "shuffleShard": {"percent": 1, "minBackends": 2, "whenExhausted": "Refuse"}}}),
        json!({"sticky": {"cookie": "C", "path": "/shop", "httpOnly": false, "secure": true, "sameSite": "None"}}),
        json!({"healthCheck": {"http": {"path": "/h", "method": "POST", "host": "h:1", "body": "b",
            "expectedStatuses": ["200-299", "404", 429], "headers": [{"name": "x-a", "value": "1"}]},
            "port": 8080, "interval": "1.5s", "timeout": "500ms", "healthyThreshold": 1}}),
        json!({"retry": {"attempts": 1, "on": [], "perTryTimeout": "0s"}}),
        json!({"retry": {"on": ["Reset", 429], "perTryTimeout": "1m"}}),
        json!({"backoff": {"base": "1m", "max": "1h", "maxTries": 1, "halfOpen": false}}),
        json!({"loadBalancing": {"slowStart": {}}}),
        json!({"loadBalancing": {"policy": "Tiered", "smoothing": 1, "initialLatency": "0s"}}),
        json!({"loadBalancing": {"policy": "Tiered", "smoothing": 0.001, "initialLatency": "60s",
            "shuffleShard": {}, "affinity": {"header": "x"}}}),
        json!({"loadBalancing": {"policy": "RoundRobin",
            "slowStart": {"window": "1h", "minWeightPercent": 100}}}),
        json!({"passive": {}}),
        json!({"passive": {"failures": [], "consecutive": 100, "maxEjectedPercent": 1}}),
        json!({"passive": {"failures": ["ConnectFailure", "Reset", "Timeout", "GatewayError", "ServerError",
            500, "grpc:1", "grpc:16"], "cooldown": {"statuses": [429, "grpc:8"]}}}),
        json!({"retry": {"on": ["ConnectFailure", "grpc:14", "grpc:8"]}}),
        json!({"passive": {"cooldown": {}}, "retry": {"on": ["Reset", "GatewayError", 429]}}),
        json!({"passive": {"cooldown": {"statuses": [429, 503], "base": "1s", "max": "20s",
            "honorRetryAfter": false}}}),
        json!({"whenAllUnhealthy": "Refuse", "http2": true, "tls": {}}),
        json!({"refusal": {"body": "away", "contentType": "text/plain"}}),
        json!({"limits": {}, "rateLimit": {}}),
        json!({"jsonRpc": {}}),
        json!({"jsonRpc": {"maxBatch": 10_000, "maxBodyBytes": 16_777_216, "errors": "Map",
            "methods": ["eth_call", "$/cancelRequest", "a.b-c"]}}),
        json!({"limits": {"maxRequests": 1, "maxPendingRequests": 0, "maxConnections": 1_000_000,
            "maxStreamsPerClient": 2, "retryAfter": "0s"}, "rateLimit": {"perSecond": 5, "burst": 1}}),
        json!({"backends": [
            {"id": "a", "address": "[fd00::1]:65535", "weight": 0, "backup": true, "stickyId": "s",
                "state": "Cordoned"},
            {"address": "10.0.0.1:1", "maxInFlight": 12, "rateLimit": {"perSecond": 50}},
        ]}),
    ];
    for spec in taken {
        let answer = kubernetes.apply("taken", &spec).await?;
        ensure!(
            answer.status / 100 == 2,
            "{spec}: {} {}",
            answer.status,
            answer.body
        );
        let mut document = answer.body["spec"].clone();
        if document.get("name").is_none() {
            document["name"] = json!("taken");
        }
        // As it came back: nothing was dropped or added on the way.
        let parsed = pointsman_filter::config::ClusterConfig::parse(&document)?;
        let mut sent = spec.clone();
        if sent.get("name").is_none() {
            sent["name"] = json!("taken");
        }
        assert_eq!(
            parsed,
            pointsman_filter::config::ClusterConfig::parse(&sent)?
        );
        kubernetes.delete(&kubernetes.clusters(), "taken").await?;
    }
    // Services stand beside the document.
    let from = json!({"backendsFrom": [{"service": {"name": "web", "port": 80}},
        {"service": {"name": "web", "port": "http"}}, {"service": {"name": "web"}}]});
    kubernetes.apply("from", &from).await?.ok()?;
    Ok(())
}
