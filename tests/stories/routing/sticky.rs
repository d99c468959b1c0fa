//! A client stays with its backend by a cookie that the backend never sees.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use harness::client::{Response, get};
use harness::registry::{backend, backup, cluster};
use harness::{Bootstrap, Client, Envoy, Upstream, eventually, raw};
use serde_json::{Value, json};

use crate::scene::{CLUSTER, SOON, answered_by, backends, serve, shares, wait_for_figure};

/// In turns, so that only a cookie can keep a client in one place.
fn sticky(mut settings: Value) -> Value {
    if settings["cookie"].is_null() {
        settings["cookie"] = "POINTSMAN".into();
    }
    json!({
        "loadBalancing": {"policy": "RoundRobin"},
        "backoff": {"base": "30s", "max": "30s"},
        "sticky": settings,
    })
}

async fn get_with(client: &mut Client, cookie: &str) -> Result<Response> {
    let mut request = get("/");
    request.headers_mut().insert("cookie", cookie.parse()?);
    client.send(request).await
}

/// What the answer's cookie is called, says, and carries with it.
fn set_cookie(response: &Response) -> Option<(String, String, String)> {
    let (name, rest) = response.header("set-cookie")?.split_once('=')?;
    let (value, attributes) = rest.split_once("; ").unwrap_or((rest, ""));
    Some((name.to_owned(), value.to_owned(), attributes.to_owned()))
}

fn said(response: &Response) -> Option<String> {
    set_cookie(response).map(|(_, value, _)| value)
}

/// ST-1 and ST-2: the first answer names the backend; a client that repeats the name stays there and
/// is told nothing more.
#[tokio::test]
async fn st_1_st_2_the_cookie_is_set_once_and_followed() -> Result<()> {
    let [a, b, c] = backends(["a", "b", "c"])?;
    let mut document = cluster(CLUSTER, &[&a, &b, &c], sticky(json!({})));
    document["backends"][1]["stickyId"] = "second".into();
    let envoy = serve(&document).await?;
    let mut client = envoy.client();
    for _ in 0..3 {
        let first = client.get("/").await?;
        let backend = first.backend().context("no backend")?.to_owned();
        let (name, value, _) = set_cookie(&first).context("no cookie")?;
        // ST-5: the id sticks where there is no sticky id.
        assert_eq!(
            value,
            if backend == "b" {
                "second"
            } else {
                backend.as_str()
            }
        );
        for _ in 0..100 {
            let next = get_with(&mut client, &format!("{name}={value}")).await?;
            assert_eq!(next.backend(), Some(backend.as_str()), "ST-2");
            assert_eq!(said(&next), None, "ST-1: only if it is news");
        }
    }
    assert_eq!([a.hits(), b.hits(), c.hits()], [101; 3]);
    wait_for_figure(&envoy, "picks_total", "sticky", 300).await
}

/// ST-1: two clusters behind one host, to which a browser sends both cookies: without names of their own
/// each would overwrite the other's, and be set anew with every request.
#[tokio::test]
async fn st_1_two_sticky_clusters_behind_one_host_keep_their_cookies_apart() -> Result<()> {
    let [a, b, c, d] = backends(["a", "b", "c", "d"])?;
    let mut documents = [
        cluster(CLUSTER, &[&a, &b], json!({})),
        cluster("carts", &[&c, &d], json!({})),
    ];
    for document in &mut documents {
        document["sticky"] = json!({});
    }
    let bootstrap = Bootstrap::fixed(&json!({"schema": 1, "clusters": documents}))?
        .endpoints(CLUSTER, &[a.address(), b.address()])?
        .endpoints("carts", &[c.address(), d.address()])?
        .route("/carts", "carts")?;
    let envoy = Envoy::start(bootstrap).await?;
    let mut client = envoy.client();
    let mut jar: BTreeMap<String, String> = BTreeMap::new();
    let mut servers = BTreeSet::new();
    for nth in 0..60 {
        let mut request = get(["/", "/carts"][nth % 2]);
        let cookies: Vec<String> = jar
            .iter()
            .map(|(name, it)| format!("{name}={it}"))
            .collect();
        if !cookies.is_empty() {
            let cookies = cookies.join("; ").parse()?;
            request.headers_mut().insert("cookie", cookies);
        }
        let response = client.send(request).await?;
        servers.extend(response.backend().map(str::to_owned));
        if let Some((name, value, _)) = set_cookie(&response) {
            ensure!(nth < 2, "request {nth} got one more cookie, {name}");
            jar.insert(name, value);
        }
    }
    println!("ST-1: 60 GETs to two clusters: {jar:?} by {servers:?}");
    assert_eq!((jar.len(), servers.len()), (2, 2));
    ensure!(
        jar.keys()
            .all(|name| name.starts_with("POINTSMAN-") && name.len() == 16)
    );
    Ok(())
}

/// ST-3: the cookie's backend refuses the connection: another answers, and says that it did.
#[tokio::test]
async fn st_3_a_dead_backend_hands_its_clients_over() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let envoy = serve(&cluster(CLUSTER, &[&a, &b], sticky(json!({})))).await?;
    let mut client = envoy.client();
    a.stop().await;
    let finds_out = get_with(&mut client, "POINTSMAN=a").await?;
    assert_eq!(
        (finds_out.status.as_u16(), finds_out.backend()),
        (200, Some("b"))
    );
    assert_eq!(said(&finds_out).as_deref(), Some("b"));
    let in_window = get_with(&mut client, "POINTSMAN=a").await?;
    assert_eq!(
        (in_window.backend(), said(&in_window).as_deref()),
        (Some("b"), Some("b"))
    );
    let stranger = get_with(&mut client, "POINTSMAN=nobody").await?;
    assert_eq!(
        (stranger.backend(), said(&stranger).as_deref()),
        (Some("b"), Some("b"))
    );
    let followed = get_with(&mut client, "POINTSMAN=b").await?;
    assert_eq!((followed.backend(), said(&followed)), (Some("b"), None));
    // Inside the window, and the stranger.
    wait_for_figure(&envoy, "picks_total", "sticky_lost", 2).await
}

/// ST-4: the backend sees the client's other cookies as they were, and not ours.
#[tokio::test]
async fn st_4_the_backend_sees_all_cookies_but_ours() -> Result<()> {
    let [a] = backends(["a"])?;
    let envoy = serve(&cluster(CLUSTER, &[&a], sticky(json!({})))).await?;
    let mut client = envoy.client();
    let mut seen = Vec::new();
    for (sent, expected) in [
        ("POINTSMAN=a", None),
        ("x=1; POINTSMAN=a; y=\"2 3\"", Some("x=1; y=\"2 3\"")),
        ("POINTSMAN=a; z=%20;POINTSMAN=b", Some("z=%20")),
        ("x=1;POINTSMAN=a;y=2", Some("x=1;y=2")),
        ("q=\"x;POINTSMAN=a\"", Some("q=\"x;POINTSMAN=a\"")),
        (
            "XPOINTSMAN=a; pointsman=b",
            Some("XPOINTSMAN=a; pointsman=b"),
        ),
        ("x=1", Some("x=1")),
    ] {
        get_with(&mut client, sent).await?;
        let arrived = a.requests().pop().context("it arrived")?;
        seen.push(format!("{sent:?} -> {:?}", arrived.header("cookie")));
        assert_eq!(arrived.header("cookie"), expected, "{sent}");
    }
    println!("ST-4: {seen:#?}");
    Ok(())
}

/// ST-4: over HTTP/1.1 a client may send its cookies in lines of their own.
#[tokio::test]
async fn st_4_cookies_on_several_lines_are_told_apart() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let envoy = serve(&cluster(CLUSTER, &[&a, &b], sticky(json!({})))).await?;
    let (ours, session) = ("cookie: POINTSMAN=a", "cookie: session=x; y=1");
    for lines in [
        &[ours, session][..],
        &[session, ours],
        &[session, ours, "cookie: z=2,3"],
    ] {
        let bytes: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
        let before = a.hits();
        raw::get(envoy.address(), "/", &bytes).await?;
        ensure!(a.hits() > before, "{lines:?}: the cookie is followed");
        let arrived = a.requests().pop().context("it arrived")?;
        let cookies = arrived.headers.get_all("cookie").iter();
        let cookies: Vec<&str> = cookies.filter_map(|line| line.to_str().ok()).collect();
        println!("ST-4: {lines:?} -> {cookies:?}");
        let others = lines.iter().filter(|line| **line != ours);
        let others: Vec<&str> = others
            .filter_map(|line| line.strip_prefix("cookie: "))
            .collect();
        assert_eq!(cookies.join("; "), others.join("; "), "{lines:?}");
    }
    Ok(())
}

/// ST-5: a backend without an id sticks too, and its cookie tells nobody its address.
#[tokio::test]
async fn st_5_a_backend_without_an_id_sticks_and_keeps_its_address_secret() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let mut document = cluster(CLUSTER, &[], sticky(json!({})));
    let address = |upstream: &Upstream| json!({"address": upstream.address().to_string()});
    document["backends"] = json!([address(&a), address(&b)]);
    let envoy = serve(&document).await?;
    let mut client = envoy.client();
    let first = client.get("/").await?;
    let value = said(&first).context("no cookie")?;
    println!("ST-5: the cookie of {} says {value}", a.address());
    ensure!(
        value.len() == 8 && value.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{value}"
    );
    for _ in 0..20 {
        let next = get_with(&mut client, &format!("POINTSMAN={value}")).await?;
        assert_eq!(next.backend(), first.backend());
    }
    Ok(())
}

/// ST-6: where it is off nothing is read, set or hidden.
#[tokio::test]
async fn st_6_off_by_default() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let policy = json!({"loadBalancing": {"policy": "RoundRobin"}});
    let envoy = serve(&cluster(CLUSTER, &[&a, &b], policy)).await?;
    let mut client = envoy.client();
    let mut order = Vec::new();
    for _ in 0..20 {
        let response = get_with(&mut client, "POINTSMAN=a").await?;
        assert_eq!(set_cookie(&response), None);
        order.extend(response.backend().map(str::to_owned));
    }
    println!(
        "ST-6: off, 20 GETs with a cookie for a: {:?}",
        shares(&order)
    );
    assert_eq!(shares(&order), [("a", 10), ("b", 10)].into());
    let cookies = a
        .requests()
        .into_iter()
        .map(|request| request.header("cookie") == Some("POINTSMAN=a"));
    ensure!(
        cookies.into_iter().all(|kept| kept),
        "a cookie of that name is the client's own"
    );
    Ok(())
}

/// ST-7: the cookie is the operator's word for a backend, so it holds at every Envoy.
#[tokio::test]
async fn st_7_two_envoys_agree_on_a_cookie() -> Result<()> {
    let [a, b, c] = backends(["a", "b", "c"])?;
    let document = cluster(CLUSTER, &[&a, &b, &c], sticky(json!({})));
    let (here, there): (Envoy, Envoy) = (serve(&document).await?, serve(&document).await?);
    let first = here.client().get("/").await?;
    let value = said(&first).context("no cookie")?;
    let mut client = there.client();
    for _ in 0..10 {
        let next = get_with(&mut client, &format!("POINTSMAN={value}")).await?;
        assert_eq!((next.backend(), said(&next)), (first.backend(), None));
    }
    println!("ST-7: set by one Envoy, followed 10 of 10 times by another");
    Ok(())
}

/// ST-9: the cookie is called and guarded as configured; what could break out of a header is
/// refused with the configuration.
#[tokio::test]
async fn st_9_attributes_are_as_configured() -> Result<()> {
    let guarded = json!({"cookie": "seat", "httpOnly": false, "secure": true, "sameSite": "None",
        "path": "/shop"});
    let mut lines = Vec::new();
    for (settings, expected) in [
        (json!({}), "POINTSMAN=a; Path=/; SameSite=Lax; HttpOnly"),
        (guarded, "seat=a; Path=/shop; SameSite=None; Secure"),
    ] {
        let [a] = backends(["a"])?;
        let envoy = serve(&cluster(CLUSTER, &[&a], sticky(settings))).await?;
        let response = envoy.client().get("/").await?;
        assert_eq!(response.header("set-cookie"), Some(expected));
        lines.push(expected);
    }
    println!("ST-9: {lines:?}");
    let [a] = backends(["a"])?;
    let mut document = cluster(CLUSTER, &[&a], sticky(json!({})));
    document["backends"][0]["stickyId"] = "a\r\nx: 1".into();
    let refused = serve(&document).await;
    ensure!(refused.is_err(), "a line break in a cookie was accepted");
    println!("ST-9: a sticky id with a line break: Envoy does not start");
    Ok(())
}

/// ST-10: the cookie of a backup is followed while the primaries are well.
#[tokio::test]
async fn st_10_the_cookie_of_a_backup_is_followed() -> Result<()> {
    let [a, spare] = backends(["a", "spare"])?;
    let mut document = cluster(CLUSTER, &[], sticky(json!({})));
    document["backends"] = json!([backend(&a), backup(&spare)]);
    let envoy = serve(&document).await?;
    let mut client = envoy.client();
    for _ in 0..20 {
        let response = get_with(&mut client, "POINTSMAN=spare").await?;
        assert_eq!((response.backend(), said(&response)), (Some("spare"), None));
    }
    println!(
        "ST-10: 20 of 20 GETs with the backup's cookie went to it; {} others",
        a.hits()
    );
    assert_eq!(answered_by(&mut client, 5).await?, ["a"; 5]);
    Ok(())
}

/// ST-3 and RT-3: once the dead backend is back its old clients return to it.
#[tokio::test]
async fn st_3_old_cookies_hold_again_when_the_backend_is_back() -> Result<()> {
    let [a, b] = backends(["a", "b"])?;
    let mut settings = sticky(json!({}));
    settings["backoff"] = json!({"base": "100ms", "max": "100ms"});
    let envoy = serve(&cluster(CLUSTER, &[&a, &b], settings)).await?;
    let mut client = envoy.client();
    a.stop().await;
    assert_eq!(
        get_with(&mut client, "POINTSMAN=a").await?.backend(),
        Some("b")
    );
    a.start()?;
    eventually(SOON, "the old cookie to lead home", async || {
        let response = get_with(&mut client, "POINTSMAN=a").await?;
        ensure!(response.backend() == Some("a") && said(&response).is_none());
        Ok(())
    })
    .await?;
    println!("ST-3: a client that kept its cookie is back at its backend");
    Ok(())
}
