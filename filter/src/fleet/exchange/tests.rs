use super::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

fn version() -> Version {
    Version {
        epoch: 7,
        counter: 9,
        revision: u64::MAX,
    }
}

fn verdicts(name: &str) -> ClusterVerdicts {
    ClusterVerdicts {
        name: name.to_owned(),
        unhealthy: vec![BackendKey(5)],
        healthy: vec![BackendKey(6)],
    }
}

#[test]
fn messages_read_back() {
    let request = Request {
        node: "edge-1".to_owned(),
        process: Some(8),
        at: Some(WallTime::from_ns(u64::MAX)),
        workers: 2,
        revisions: vec![1, 2],
        rejected: Some(Rejection {
            revision: 3,
            reason: "a \"b\"".to_owned(),
        }),
        have: version(),
        unhealthy: Some(vec![verdicts("carts")]),
    };
    assert_eq!(Request::parse(request.to_json().as_bytes()), Ok(request));
    let answer = Answer {
        version: version(),
        full: true,
        clusters: vec![verdicts("orders")],
        hand_back: true,
    };
    assert_eq!(Answer::parse(answer.to_json().as_bytes()), Ok(answer));
}

#[test]
fn bad_messages_say_where() {
    for (json, why) in [
        ("x", "must be JSON"),
        ("{}", "full"),
        (r#"{"full":true}"#, "clusters"),
        (
            r#"{"full":true,"clusters":[{"name":"a"}]}"#,
            "clusters[].unhealthy",
        ),
        (r#"{"full":true,"clusters":[]}"#, "version.epoch"),
    ] {
        let error = Answer::parse(json.as_bytes()).expect_err(json).to_string();
        assert!(error.starts_with(why), "{json}: {error}");
    }
    assert!(Request::parse(br#"{"node":5}"#).is_err());
    let mut post: Value = serde_json::from_str(&Request::default().to_json()).unwrap();
    post["process"] = json!(8);
    let error = Request::parse(post.to_string().as_bytes()).unwrap_err();
    assert_eq!(error.to_string(), "process: must be 16 hex digits");
}

#[test]
fn an_older_filters_post_names_no_process() {
    let json = br#"{"node":"edge-1","workers":2,"revisions":[],"have":
        {"epoch":"0000000000000000","counter":0,"revision":"0000000000000000"}}"#;
    let older = Request::parse(json).unwrap();
    assert_eq!((older.workers, older.process, older.at), (2, None, None));
}

#[test]
fn what_nobody_asked_for_is_not_written() {
    let (post, answer) = (Request::default(), Answer::default());
    assert!(!post.to_json().contains("unhealthy") && !answer.to_json().contains("handBack"));
}

#[test]
fn what_is_handed_back_fits_a_message() {
    let many = |keys: usize| ClusterVerdicts {
        name: "x".repeat(253),
        unhealthy: vec![BackendKey(u64::MAX); keys],
        healthy: Vec::new(),
    };
    let clusters = [many(20_000), many(100_000), many(20_000)];
    let unhealthy = fitting(clusters.into_iter().cycle().take(300));
    let sizes: Vec<usize> = unhealthy.iter().map(|it| it.unhealthy.len()).collect();
    assert_eq!(
        sizes, [20_000; 5],
        "what is too long leaves room for others"
    );
    let post = Request {
        unhealthy: Some(unhealthy),
        ..Request::default()
    };
    assert!(post.to_json().len() <= MESSAGE_MAX);
    let tiny = fitting((0..100_000).map(|_| many(1)));
    let post = Request {
        unhealthy: Some(tiny),
        ..Request::default()
    };
    assert!(post.to_json().len() <= MESSAGE_MAX);
}

#[test]
fn newer_fields_are_left_alone() {
    let mut value: Value = serde_json::from_str(&Answer::default().to_json()).unwrap();
    value["limits"] = json!({"a": 1});
    assert_eq!(
        Answer::parse(value.to_string().as_bytes()),
        Ok(Answer::default())
    );
}
