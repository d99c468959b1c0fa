use super::*;

#[test]
fn shown_without_its_password() {
    for (url, expected) in [
        ("redis://h:6379", "redis://h:6379"),
        ("redis://h", "redis://h:6379"),
        ("redis://:geheim@h:1/3", "redis://:***@h:1/3"),
        ("rediss://pm:ge%40heim@h:1", "rediss://pm:***@h:1"),
        ("redis://pm@[::1]:7", "redis://pm@[::1]:7"),
        ("redis://h:1?password=geheim", "redis://h:1"),
        (
            "redis+sentinel://pm:geheim@a,b:7,[::1]/main",
            "redis+sentinel://pm:***@a:26379,b:7,[::1]:26379/main",
        ),
        (
            "rediss+sentinel://:geheim@a:1/main/3",
            "rediss+sentinel://:***@a:1/main/3",
        ),
        (
            "rediss+cluster://:geheim@a,b:1",
            "rediss+cluster://:***@a:6379,b:1",
        ),
    ] {
        let url = RedisUrl::parse(url).unwrap();
        assert_eq!(url.to_string(), expected);
        assert_eq!(format!("{url:?}"), expected);
    }
    let url = RedisUrl::parse("redis://pm:ge%40heim@h:1").unwrap();
    let info = url.info(&url.nodes()[0]);
    assert_eq!(info.redis_settings().password(), Some("ge@heim"));
    let words = url.redact("no ge@heim, no ge%40heim, but geheim");
    assert_eq!(words, "no ***, no ***, but geheim");
}

#[test]
fn what_is_no_url_is_refused_without_a_word_of_it() {
    for text in [
        "geheim",
        "http://u:geheim@h",
        "redis+unix:///geheim",
        "unix:///geheim",
        "redis://u:geheim@h:99999",
        "redis://u:geheim@:1",
        "redis://u:geheim@h/x",
        "redis://u:ge/heim@h:1",
        "rediss://u:geheim@h:1#insecure",
        "redis+other://u:geheim@h:1",
        "redis+://u:geheim@h:1",
        "redis+sentinel://u:geheim@h:1",
        "redis+sentinel://u:geheim@h:1/a b",
        "redis+sentinel://u:geheim@h:1,/main",
        "redis+sentinel://u:geheim@h:1/main/x",
        "redis+cluster://u:geheim@h:1/1",
        "redis+cluster://u:geheim@h:1,h:x",
        "rediss+cluster://u:geheim@h:1,h:2#insecure",
    ] {
        let error = RedisUrl::parse(text).unwrap_err();
        assert!(
            error.starts_with("must") && !error.contains("heim"),
            "{text}: {error}"
        );
    }
}

#[test]
fn of_a_host_and_a_port() {
    assert_eq!(
        RedisUrl::of("::1", 7).unwrap().to_string(),
        "redis://[::1]:7"
    );
    assert_eq!(
        RedisUrl::of("redis.svc", 7).unwrap().to_string(),
        "redis://redis.svc:7"
    );
    for host in ["u:p@h", "h/1", "h?x", "a b", "h:1"] {
        assert!(RedisUrl::of(host, 7).is_err(), "{host}");
    }
}

#[test]
fn sentinels_have_their_own_login() {
    let word = Secret::new("wache".to_owned());
    let url = RedisUrl::parse("rediss+sentinel://pm:geheim@a:1,b:2/main/3")
        .unwrap()
        .with_sentinel_login(Some("guard"), Some(&word));
    let service = "main".to_owned();
    assert_eq!(*url.topology(), Topology::Sentinel { service });
    let (asked, found) = (
        &url.nodes()[1],
        Node {
            host: "c".to_owned(),
            port: 3,
        },
    );
    let sentinel = url.sentinel_info(asked);
    assert_eq!(sentinel.addr().to_string(), "b:2");
    assert_eq!(sentinel.redis_settings().username(), Some("guard"));
    assert_eq!(sentinel.redis_settings().password(), Some("wache"));
    assert_eq!(sentinel.redis_settings().db(), 0);
    let master = url.info(&found);
    assert_eq!(master.addr().to_string(), "c:3");
    assert!(matches!(master.addr(), ConnectionAddr::TcpTls { .. }));
    assert_eq!(master.redis_settings().password(), Some("geheim"));
    assert_eq!(master.redis_settings().db(), 3);
    assert_eq!(url.redact("geheim wache"), "*** ***");
}
