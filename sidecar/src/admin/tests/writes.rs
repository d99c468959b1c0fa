//! Writes over HTTP, into a real demo registry that is watched all along.

use super::live::Live;
use super::*;

#[tokio::test]
async fn a_document_is_created_replaced_patched_and_deleted() {
    let live = Live::start(None);
    let document = json!({"name": "new", "backends": [{"id": "n", "address": "10.0.0.9:80"}]});
    let (status, etag, body) = live
        .ask("PUT /v1/clusters/new", &[], document.clone())
        .await;
    assert_eq!((status, &body["served"]), (201, &json!(true)), "{body}");
    assert_eq!(body["changes"]["added"], json!(["new/n"]));
    let (status, read, held) = live.ask("GET /v1/clusters/new", &[], Value::Null).await;
    assert_eq!((status, read, held), (200, etag, document));

    let patch =
        json!({"http2": true, "backends": [{"id": "n", "address": "10.0.0.9:80", "weight": 7}]});
    let (status, _, body) = live.ask("PATCH /v1/clusters/new", &[], patch).await;
    assert_eq!(
        (status, &body["changes"]["modified"]),
        (200, &json!(["new/n"]))
    );
    assert_eq!(body["changes"]["client_rebuilt"], true);
    assert_eq!(live.served().await, ["n Normal", "a Normal", "b/1 Normal"]);

    let (status, _, body) = live.ask("DELETE /v1/clusters/new", &[], Value::Null).await;
    assert_eq!((status, &body["served"]), (200, &json!(true)), "{body}");
    for what in [
        "DELETE /v1/clusters/new",
        "GET /v1/clusters/new",
        "PATCH /v1/clusters/new",
    ] {
        let body = if what.starts_with('P') {
            json!({})
        } else {
            Value::Null
        };
        assert_eq!(live.ask(what, &[], body).await.0, 404, "{what}");
    }
    assert_eq!(live.served().await, ["a Normal", "b/1 Normal"]);
}

#[tokio::test]
async fn a_write_on_a_condition_that_does_not_hold_is_412() {
    let live = Live::start(None);
    let (_, etag, _) = live.ask("GET /v1/clusters/orders", &[], Value::Null).await;
    let etag = etag.expect("an etag");
    let held = ("if-match", etag.as_str());
    let document = json!({"name": "orders"});
    let first = live
        .ask("PUT /v1/clusters/orders", &[held], document.clone())
        .await;
    assert_eq!(first.0, 200, "{}", first.2);
    for (what, condition) in [
        ("PUT /v1/clusters/orders", held),
        ("PATCH /v1/clusters/orders", held),
        ("DELETE /v1/clusters/orders", held),
        ("PUT /v1/clusters/orders?dryRun=true", held),
        ("PUT /v1/clusters/orders", ("if-none-match", "*")),
    ] {
        let (status, _, body) = live.ask(what, &[condition], document.clone()).await;
        assert_eq!(status, 412, "{what}: {body}");
        assert!(
            body["error"].as_str().expect("text").contains("ETag is"),
            "{body}"
        );
    }
    let (_, etag, _) = live.ask("GET /v1/clusters/orders", &[], Value::Null).await;
    let etag = etag.expect("an etag");
    let lines = [
        ("if-match", "\"other\", W/\"weak\""),
        ("if-match", etag.as_str()),
    ];
    let listed = live.ask("PUT /v1/clusters/orders", &lines, document.clone());
    assert_eq!(listed.await.0, 200, "one of the list is the document's");
    let none = [("if-none-match", "\"other\", \"another\"")];
    let listed = live.ask("PUT /v1/clusters/orders", &none, document.clone());
    assert_eq!(listed.await.0, 200);
    let other = live.ask(
        "PUT /v1/clusters/new",
        &[("if-match", "*")],
        json!({"name": "new"}),
    );
    assert_eq!(other.await.0, 412);
}

#[tokio::test]
async fn what_is_wrong_is_said_with_its_path_and_not_written() {
    let live = Live::start(None);
    let before = std::fs::read_to_string(&live.file).expect("the file");
    let wrong = json!({"name": "orders", "backends": [{"address": "x"}], "y": 1});
    let (status, _, body) = live.ask("PUT /v1/clusters/orders", &[], wrong).await;
    assert_eq!(status, 422);
    let paths: Vec<&Value> = body["errors"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|it| &it["path"])
        .collect();
    assert_eq!(
        paths,
        ["clusters.orders.backends[0].address", "clusters.orders.y"]
    );
    for (what, body, expected) in [
        ("PUT /v1/clusters/other", json!({"name": "orders"}), 422),
        ("PATCH /v1/clusters/orders", json!({"name": "renamed"}), 422),
        ("PUT /v1/clusters/a%20b", json!({"name": "a b"}), 400),
        (
            "PUT /v1/clusters/orders?dry=1",
            json!({"name": "orders"}),
            400,
        ),
        (
            "PUT /v1/clusters/orders?dryRun=yes",
            json!({"name": "orders"}),
            400,
        ),
        ("PUT /v1/clusters/orders", Value::Null, 400),
        ("POST /v1/clusters/orders/backends/a/sing", json!({}), 404),
        ("POST /v1/clusters/none/backends/a/cordon", json!({}), 404),
        (
            "POST /v1/clusters/orders/backends/a/cordon",
            json!({"why": 1}),
            422,
        ),
        ("POST /v1/clusters/orders/backends/a/cordon", json!([]), 400),
        ("GET /v2", Value::Null, 404),
        ("POST /v1/clusters/orders", json!({}), 405),
        ("PUT /v1/clusters/orders", json!("x".repeat(8 << 20)), 413),
        // Axum's own refusals.
        ("GET /v1/clusters/%FF", Value::Null, 400),
        ("GET /v1/jobs/%FF", Value::Null, 400),
        ("DELETE /v1/clusters/%FF", Value::Null, 400),
        ("POST /v1/clusters/o/backends/%FF/cordon", json!({}), 400),
        (
            "POST /v1/clusters/orders/backends/a/cordon",
            json!({"reason": "x".repeat(70_000)}),
            413,
        ),
    ] {
        let (status, _, said) = live.ask(what, &[], body).await;
        assert_eq!(status, expected, "{what}: {said}");
        assert!(said["error"].is_string(), "{what}: {said}");
    }
    for (what, body) in [
        (
            "PUT /v1/clusters/orders",
            r#"{"name": "orders", "http2": true, "http2": false}"#,
        ),
        (
            "PATCH /v1/clusters/orders",
            r#"{"http2": true, "http2": false}"#,
        ),
        (
            "POST /v1/clusters/orders/backends/a/cordon",
            r#"{"reason": "a", "reason": "b"}"#,
        ),
        ("POST /v1/jobs", r#"{"act": "apply", "act": "apply"}"#),
        ("POST /v1/apply", r#"[{"name": "a", "name": "a"}]"#),
    ] {
        let (status, _, said) = live.ask_text(what, &[], body.to_owned()).await;
        let error = said["error"].as_str().expect("an error");
        assert!(
            status == 400 && error.contains("stands twice"),
            "{what}: {error}"
        );
    }
    assert_eq!(
        std::fs::read_to_string(&live.file).expect("the file"),
        before
    );
}

#[tokio::test]
async fn a_dry_run_tells_the_difference_and_writes_nothing() {
    let live = Live::start(None);
    let document = json!({"name": "orders", "backends": [{"id": "a", "address": "10.0.0.1:81"}]});
    let (status, _, body) = live
        .ask("PUT /v1/clusters/orders?dryRun=true", &[], document.clone())
        .await;
    assert_eq!(status, 200);
    assert_eq!(body["changes"]["removed"], json!(["orders/b/1"]));
    assert_eq!(body["changes"]["modified"], json!(["orders/a"]));
    assert_eq!((&body["after"], &body["dryRun"]), (&document, &json!(true)));
    assert_eq!(body["before"]["name"], "orders");
    assert_eq!(live.served().await, ["a Normal", "b/1 Normal"]);
}

#[tokio::test]
async fn a_word_is_said_shown_and_taken_back() {
    let live = Live::start(None);
    let body = json!({"reason": "disk", "actor": "me", "expiresIn": "1h"});
    let cordon = "POST /v1/clusters/orders/backends/b%2F1/cordon";
    let (status, _, said) = live.ask(cordon, &[], body).await;
    assert_eq!(
        (status, &said["served"], &said["present"]),
        (200, &json!(true), &json!(true)),
        "{said}"
    );
    assert_eq!(live.served().await, ["a Normal", "b/1 Cordoned"]);
    let (_, _, list) = live.ask("GET /v1/overrides", &[], Value::Null).await;
    let word = &list["overrides"][0];
    assert_eq!(
        (&word["backend"], &word["reason"], &word["actor"]),
        (&json!("b/1"), &json!("disk"), &json!("me"))
    );
    assert_eq!(word["expiresAt"], said["expiresAt"]);
    // Writing the document again leaves it in force.
    let document = json!({"name": "orders", "backends": [{"id": "b/1", "address": "10.0.0.2:80"}]});
    live.ask("PUT /v1/clusters/orders", &[], document).await;
    assert_eq!(live.served().await, ["b/1 Cordoned"]);
    live.ask(
        "POST /v1/clusters/orders/backends/b%2F1/drain",
        &[],
        Value::Null,
    )
    .await;
    assert_eq!(live.served().await, ["b/1 Draining"]);
    let free = live.ask(
        "POST /v1/clusters/orders/backends/b%2F1/uncordon",
        &[],
        Value::Null,
    );
    assert_eq!(free.await.2["served"], true);
    assert_eq!(live.served().await, ["b/1 Normal"]);
    let absent = live.ask(
        "POST /v1/clusters/orders/backends/none/drain",
        &[],
        Value::Null,
    );
    assert_eq!(absent.await.2["present"], false);
}

#[tokio::test]
async fn writes_need_the_token_where_there_is_one_and_no_foreign_page() {
    let live = Live::start(Some("word"));
    let token = ("authorization", "Bearer word");
    for what in [
        "POST /reload",
        "GET /v1/clusters/orders",
        "PUT /v1/clusters/orders",
        "PATCH /v1/clusters/orders",
        "DELETE /v1/clusters/orders",
        "POST /v1/clusters/orders/backends/a/cordon",
    ] {
        for shown in [&[][..], &[("authorization", "Bearer wort")]] {
            assert_eq!(live.ask(what, shown, json!({})).await.0, 401, "{what}");
        }
        let page = ("origin", "http://evil.example");
        let known = live.ask(what, &[token, page], json!({})).await.0;
        assert!(!matches!(known, 401 | 403), "{what}: {known}");
    }
    let open = Live::start(None);
    let page = [
        ("origin", "http://evil.example"),
        ("host", "127.0.0.1:18080"),
    ];
    for what in ["POST /reload", "DELETE /v1/clusters/orders"] {
        assert_eq!(open.ask(what, &page, json!({})).await.0, 403, "{what}");
    }
    assert_eq!(open.served().await.len(), 2);
}

/// DNS rebinding: to its browser, the page of a name that leads here asks its own site.
#[tokio::test]
async fn who_asks_for_another_name_reads_nothing_but_figures() {
    let [rebound, own] = ["evil.example:18080", "localhost:18080"].map(|host| ("host", host));
    let token = ("authorization", "Bearer word");
    let (open, guarded) = (Live::start(None), Live::start(Some("word")));
    for what in [
        "GET /status",
        "GET /v1/clusters",
        "GET /v1/config",
        "GET /v1/clusters/orders",
    ] {
        assert_eq!(open.ask(what, &[own], Value::Null).await.0, 200, "{what}");
        assert_eq!(
            open.ask(what, &[rebound], Value::Null).await.0,
            403,
            "{what}"
        );
        let lines = [rebound, token];
        assert_eq!(
            guarded.ask(what, &lines, Value::Null).await.0,
            200,
            "{what}"
        );
        let refused = guarded.ask(what, &[rebound], Value::Null).await.0;
        assert!(matches!(refused, 401 | 403), "{what}: {refused}");
    }
    for what in ["GET /health", "GET /admin/health/redis"] {
        assert_eq!(
            open.ask(what, &[rebound], Value::Null).await.0,
            200,
            "{what}"
        );
    }
}

#[tokio::test]
async fn what_is_served_is_shown_without_secrets() {
    let live = Live::start(None);
    let document = json!({"name": "orders",
        "healthCheck": {"http": {"headers": [{"name": "x-key", "value": "geheim"}]}}});
    live.ask("PUT /v1/clusters/orders", &[], document).await;
    let (_, _, config) = live.ask("GET /v1/config", &[], Value::Null).await;
    assert_eq!(config["clusters"][0]["name"], "orders");
    assert_eq!(config["exchange"]["cluster"], "pointsman_sidecar");
    assert!(!config.to_string().contains("geheim"), "{config}");
}

#[tokio::test]
async fn ad_2_a_reload_tells_what_changed_and_ad_11_nothing_the_second_time() {
    let live = Live::start(None);
    let text = std::fs::read_to_string(&live.file).expect("the file");
    std::fs::write(&live.file, text.replace("\"a\"", "\"c\"")).expect("written");
    let (status, _, body) = live.ask("POST /reload", &[], Value::Null).await;
    let expected = json!({"success": true, "message": "Configuration reloaded",
        "changes": {"added": ["orders/c"], "removed": ["orders/a"], "modified": [],
            "config_updated": true, "client_rebuilt": false}});
    assert_eq!((status, body), (200, expected));
    let (status, _, body) = live.ask("POST /reload", &[], Value::Null).await;
    let nothing = json!({"added": [], "removed": [], "modified": [], "config_updated": false,
        "client_rebuilt": false});
    assert_eq!((status, &body["changes"]), (200, &nothing));
}

#[tokio::test]
async fn ad_3_and_ad_8_a_reload_that_fails_changes_nothing() {
    let live = Live::start(None);
    let bad_record = r#"{"schema":1,"clusters":[{"name":"orders","x":1}]}"#;
    for (text, part) in [
        (Some("{"), "must be JSON"),
        (Some(bad_record), "clusters.orders.x: is not a known field"),
        (None, "cannot be read"),
    ] {
        match text {
            Some(text) => std::fs::write(&live.file, text).expect("written"),
            None => std::fs::remove_file(&live.file).expect("removed"),
        }
        let (status, _, body) = live.ask("POST /reload", &[], Value::Null).await;
        assert_eq!((status, &body["success"]), (500, &json!(false)), "{body}");
        assert_eq!(body["message"], "Configuration reload failed");
        assert_eq!(body["changes"]["config_updated"], false);
        let error = body["error"].as_str().expect("text");
        assert!(error.contains(part), "{error}");
        assert_eq!(live.served().await, ["a Normal", "b/1 Normal"]);
    }
}

#[tokio::test]
async fn ad_4_a_reload_comes_from_one_address() {
    let live = Live::start_for(None, [127, 0, 0, 2]);
    let (status, _, body) = live.ask("POST /reload", &[], Value::Null).await;
    let expected = json!({"success": false, "message": "Access denied",
        "error": "a reload is allowed from 127.0.0.1 only (RELOAD_ALLOWED_IP)"});
    assert_eq!((status, body), (403, expected));
}
