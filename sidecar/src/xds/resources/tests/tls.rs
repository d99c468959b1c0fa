//! TLS towards backends, and whom it trusts.

use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    Secret, UpstreamTlsContext, secret,
};

use super::*;

#[test]
fn tls_checks_what_it_can() {
    let context = |tls: Value, http2: bool| {
        let message = cluster::cluster(&document(json!({"name": "a", "tls": tls, "http2": http2})));
        let socket = format!("{:?}", message.transport_socket);
        assert!(socket.contains("envoy.transport_sockets.tls"));
        let Some(
            envoy_types::pb::envoy::config::core::v3::transport_socket::ConfigType::TypedConfig(
                any,
            ),
        ) = message.transport_socket.unwrap().config_type
        else {
            panic!("no config");
        };
        UpstreamTlsContext::decode(any.value.as_slice()).unwrap()
    };
    let open = context(json!({}), false);
    assert_eq!(open.sni, "");
    assert!(
        open.common_tls_context
            .unwrap()
            .validation_context_type
            .is_none()
    );

    let checked = context(json!({"sni": "a.test", "caFile": "/ca.pem"}), true);
    assert_eq!(checked.sni, "a.test");
    let common = checked.common_tls_context.unwrap();
    assert_eq!(common.alpn_protocols, ["h2"]);
    let text = format!("{:?}", common.validation_context_type);
    assert!(text.contains(r#"name: "/ca.pem""#) && text.contains(r#"Exact("a.test")"#));

    let nameless = context(json!({"caFile": "/ca.pem"}), false);
    let text = format!("{:?}", nameless.common_tls_context);
    assert!(text.contains("/ca.pem") && text.contains("match_typed_subject_alt_names: []"));
}

#[tokio::test]
async fn the_authorities_of_a_file_are_one_secret_and_none_while_it_cannot_be_used() {
    let made = rcgen::generate_simple_self_signed(["a.test".to_owned()]).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let tls = |ca_file: &str| json!({"sni": "a.test", "caFile": ca_file});
    let path = file.path().to_str().unwrap();
    let documents = [
        json!({"name": "a", "tls": tls(path)}),
        json!({"name": "b", "tls": tls(path)}),
        json!({"name": "c", "tls": tls("/nowhere/ca.pem")}),
        json!({"name": "d", "tls": {}}),
    ]
    .map(document);
    let of = async |before: &Trust| {
        let trust = Trust::read(&documents, before).await;
        let config = FilterConfig::new(Vec::new(), None);
        let served = documents.iter().map(|config| Served {
            config,
            leaving: BTreeSet::new(),
        });
        let code = Code::Path("/f.wasm".to_owned());
        (snapshot(served, &trust, &config, &code), trust)
    };
    let (none, trust) = of(&Trust::default()).await;
    assert_eq!(none.secrets.iter().count(), 0);
    std::fs::write(file.path(), made.cert.pem()).unwrap();
    let (one, _) = of(&trust).await;
    let secrets: Vec<_> = one.secrets.iter().collect();
    assert_eq!((secrets.len(), &**secrets[0].0), (1, path));
    let secret = Secret::decode(&secrets[0].1.body[..]).unwrap();
    assert_eq!(secret.name, path);
    let Some(secret::Type::ValidationContext(context)) = secret.r#type else {
        panic!("no context");
    };
    let pem = made.cert.pem().into_bytes();
    let inline = Some(Specifier::InlineBytes(pem));
    assert_eq!(context.trusted_ca.unwrap().specifier, inline);
    assert_eq!(one.clusters.version(), none.clusters.version());
}
