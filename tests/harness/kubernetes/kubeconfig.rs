//! A kubeconfig → the way to its server: certificates and tokens, in files or inside it.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::Uri;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;

use super::client::Way;

/// Reads the current context of a file.
pub fn read(file: &Path) -> Result<Way> {
    parse(file).with_context(|| format!("{}", file.display()))
}

fn parse(file: &Path) -> Result<Way> {
    let config: Value = serde_saphyr::from_str(&fs::read_to_string(file)?)?;
    let context = entry(&config["contexts"], &config["current-context"]);
    let context = &context.context("no current context")?["context"];
    let cluster = entry(&config["clusters"], &context["cluster"]);
    let cluster = &cluster.context("no cluster")?["cluster"];
    let user = entry(&config["users"], &context["user"]);
    let user = &user.context("no user")?["user"];
    ensure!(
        user.get("exec").is_none() && user.get("auth-provider").is_none(),
        "the stories log in by a certificate or a token, not by a program"
    );
    let server: Uri = cluster["server"].as_str().context("no server")?.parse()?;
    let folder = file.parent().unwrap_or(Path::new("."));
    let pem = |place: &Value, field: &str| pem(folder, place, field);

    let mut roots = RootCertStore::empty();
    let authority = pem(cluster, "certificate-authority")?;
    let authority = authority.context("no certificate-authority: it is not known whom to trust")?;
    for certificate in CertificateDer::pem_slice_iter(&authority) {
        roots.add(certificate?)?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let tls = match (pem(user, "client-certificate")?, pem(user, "client-key")?) {
        (Some(chain), Some(key)) => {
            let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&chain).collect();
            builder.with_client_auth_cert(chain?, PrivateKeyDer::from_pem_slice(&key)?)?
        }
        _ => builder.with_no_client_auth(),
    };
    let host = server.host().context("a server without a host")?;
    Ok(Way {
        // An IPv6 address stands in brackets in a URL only.
        host: host.trim_matches(['[', ']']).to_owned(),
        port: server.port_u16().unwrap_or(443),
        tls: Arc::new(tls),
        token: user["token"].as_str().map(str::to_owned),
    })
}

fn entry<'a>(list: &'a Value, name: &Value) -> Option<&'a Value> {
    list.as_array()?.iter().find(|it| it["name"] == *name)
}

/// What a field holds in base64 (`…-data`), or the file that it names.
fn pem(folder: &Path, place: &Value, field: &str) -> Result<Option<Vec<u8>>> {
    if let Some(data) = place[format!("{field}-data")].as_str() {
        let bytes = STANDARD.decode(data);
        return Ok(Some(bytes.with_context(|| format!("{field}-data"))?));
    }
    let Some(file) = place[field].as_str() else {
        return Ok(None);
    };
    let bytes = fs::read(folder.join(file));
    Ok(Some(bytes.with_context(|| format!("{field} {file}"))?))
}
