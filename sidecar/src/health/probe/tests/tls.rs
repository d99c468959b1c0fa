//! Probes over TLS.

use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio_rustls::TlsAcceptor;

use super::h2::serve_h2;
use super::*;

/// A TLS server whose certificate says `orders.example`, and that certificate as PEM.
async fn tls_server(http2: bool) -> (Server, String) {
    let names = vec!["orders.example".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a key that fits");
    config.alpn_protocols = vec![if http2 {
        b"h2".to_vec()
    } else {
        b"http/1.1".to_vec()
    }];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let server = server(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                return;
            };
            if http2 {
                serve_h2(stream).await;
            } else {
                let head = read_head(&mut stream).await.to_lowercase();
                let answer = match head.contains("host: misdirected.example\r\n") {
                    true => {
                        "HTTP/1.1 421 Misdirected Request\r\ncontent-length: 0\r\n\r\n".to_owned()
                    }
                    false => ok("content-length: 2\r\n", "ok"),
                };
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        }
    })
    .await;
    (server, made.cert.pem())
}

fn tls_plan(http2: bool, sni: &str, ca_file: &str) -> Plan {
    plan(
        json!({"http2": http2, "tls": {"sni": sni, "caFile": ca_file},
        "healthCheck": {"http": {}, "timeout": "2s"}}),
    )
}

#[tokio::test]
async fn tls_checks_what_the_cluster_asks_for_and_no_more() {
    let ours = tempfile::NamedTempFile::new().expect("a file");
    let others = tempfile::NamedTempFile::new().expect("a file");
    for http2 in [false, true] {
        let (server, pem) = tls_server(http2).await;
        let (_other, other_pem) = tls_server(http2).await;
        std::fs::write(ours.path(), pem).expect("written");
        std::fs::write(others.path(), other_pem).expect("written");
        let (ours, others) = (
            ours.path().to_string_lossy(),
            others.path().to_string_lossy(),
        );
        let bad = Outcome::Failed(Failure::Tls);
        for (sni, ca_file, expected) in [
            ("", "", Outcome::Passed),
            ("another.example", "", Outcome::Passed),
            ("orders.example", ours.as_ref(), Outcome::Passed),
            ("", ours.as_ref(), Outcome::Passed),
            ("another.example", ours.as_ref(), bad),
            ("orders.example", others.as_ref(), bad),
            ("", others.as_ref(), bad),
        ] {
            let outcome = outcome(&tls_plan(http2, sni, ca_file), server.address).await;
            assert_eq!(
                outcome, expected,
                "http2 {http2}, sni {sni:?}, caFile {ca_file:?}"
            );
        }
    }
}

#[tokio::test]
async fn the_name_that_tls_asks_for_is_the_requests_unless_the_check_says_another() {
    let address = "10.0.0.1:443".parse().expect("an address");
    for (sni, said, expected) in [
        ("", "", "10.0.0.1:443"),
        ("orders.example", "", "orders.example"),
        ("orders.example", "other.example", "other.example"),
        ("", "other.example", "other.example"),
    ] {
        for http2 in [false, true] {
            let plan = tls_plan(http2, sni, "");
            assert_eq!(host(&plan, said, address), expected, "{sni:?}, {said:?}");
        }
    }
    assert_eq!(host(&http(), "", address), "10.0.0.1:443", "without TLS");
    let (server, _) = tls_server(false).await;
    let refused = Outcome::Failed(Failure::Status(421));
    for (sni, expected) in [
        ("orders.example", Outcome::Passed),
        ("misdirected.example", refused),
    ] {
        let outcome = outcome(&tls_plan(false, sni, ""), server.address).await;
        assert_eq!(outcome, expected, "{sni}");
    }
}

#[tokio::test]
async fn tls_to_a_plain_server_fails() {
    let server = says("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let outcome = outcome(&tls_plan(false, "", ""), server.address).await;
    assert!(
        matches!(outcome, Outcome::Failed(Failure::Tls | Failure::Timeout)),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_ca_file_that_cannot_be_used_says_nothing_about_the_backend() {
    let (server, _) = tls_server(false).await;
    let empty = tempfile::NamedTempFile::new().expect("a file");
    for ca_file in ["/nowhere/ca.pem", &empty.path().to_string_lossy()] {
        let outcome = outcome(&tls_plan(false, "orders.example", ca_file), server.address).await;
        assert_eq!(outcome, Outcome::Unknown(Obstacle::CaFile), "{ca_file}");
    }
}

#[tokio::test]
async fn a_probe_trusts_whom_envoys_trust_and_no_longer_whom_they_do_not() {
    let (server, pem) = tls_server(false).await;
    let (_other, other_pem) = tls_server(false).await;
    let file = tempfile::NamedTempFile::new().expect("a file");
    let plan = tls_plan(false, "orders.example", &file.path().to_string_lossy());
    let cluster = json!({"name": "a", "tls": {"caFile": file.path()}});
    let cluster = [ClusterConfig::parse(&cluster).expect("a good document")];
    let trust = watch::Sender::default();
    let tls = TlsClients::new(trust.subscribe());
    let bad = Outcome::Failed(Failure::Tls);
    let unknown = Outcome::Unknown(Obstacle::CaFile);
    for (held, expected) in [
        ("", unknown),
        (other_pem.as_str(), bad),
        (&pem, Outcome::Passed),
        // What cannot be used leaves what was trusted before.
        ("", Outcome::Passed),
        (&other_pem, bad),
    ] {
        std::fs::write(file.path(), held).expect("written");
        let before = Arc::clone(&trust.borrow());
        let found = Trust::read(&cluster, &before).await;
        trust.send_replace(Arc::new(found));
        assert_eq!(probe(&plan, server.address, &tls).await, expected);
    }
}
