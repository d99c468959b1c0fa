//! TLS sessions of probes: who is trusted, and what of the certificate is checked.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use pointsman_filter::config::Tls;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Fault;
use crate::model::outcome::{Failure, Obstacle, Outcome};
use crate::trust::{self, Trust};

/// Client configurations, made once for each way to use each `caFile` and again when it holds
/// something else.
#[derive(Debug)]
pub struct TlsClients {
    trust: watch::Receiver<Arc<Trust>>,
    made: Mutex<BTreeMap<Key, Made>>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    ca_file: String,
    http2: bool,
    named: bool,
}

#[derive(Debug, Clone)]
struct Made {
    /// What the file held.
    pem: Option<Arc<[u8]>>,
    config: Arc<ClientConfig>,
}

/// Everything a handshake needs.
pub struct Session {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl TlsClients {
    /// Nothing is made yet.
    pub fn new(trust: watch::Receiver<Arc<Trust>>) -> Self {
        TlsClients {
            trust,
            made: Mutex::default(),
        }
    }

    /// Forgets what was made, so that files no cluster names any more are not kept.
    pub fn clear(&self) {
        self.made
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    /// What a handshake with `address` needs under a cluster's settings.
    pub fn session(&self, tls: &Tls, http2: bool, address: SocketAddr) -> Result<Session, Fault> {
        let name = if tls.sni.is_empty() {
            // An address is never sent as a server name.
            ServerName::from(address.ip())
        } else {
            ServerName::try_from(tls.sni.clone())
                .map_err(|_| Outcome::Unknown(Obstacle::Request))?
        };
        let key = Key {
            ca_file: tls.ca_file.clone(),
            http2,
            named: !tls.sni.is_empty(),
        };
        let pem = self.pem(tls)?;
        let known = {
            let made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
            made.get(&key).filter(|made| made.pem == pem).cloned()
        };
        let config = match known {
            Some(known) => known.config,
            None => {
                let config = Arc::new(make(&key, pem.as_deref())?);
                let entry = Made {
                    pem,
                    config: Arc::clone(&config),
                };
                self.made
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(key, entry);
                config
            }
        };
        Ok(Session { config, name })
    }

    /// Whom Envoys trust too; absent: anybody may have signed.
    fn pem(&self, tls: &Tls) -> Result<Option<Arc<[u8]>>, Fault> {
        let Some(path) = trust::path(Some(tls)) else {
            return Ok(None);
        };
        let trust = self.trust.borrow();
        let pem = trust.file(path).and_then(|file| file.pem.clone());
        pem.map(Some).ok_or(Outcome::Unknown(Obstacle::CaFile))
    }
}

impl Session {
    /// Makes the handshake.
    pub async fn connect(self, stream: TcpStream) -> Result<TlsStream<TcpStream>, Fault> {
        let connected = TlsConnector::from(self.config)
            .connect(self.name, stream)
            .await;
        connected.map_err(|_| Outcome::Failed(Failure::Tls))
    }
}

fn make(key: &Key, pem: Option<&[u8]>) -> Result<ClientConfig, Fault> {
    let provider = Arc::new(ring::default_provider());
    let chain = match pem {
        None => None,
        Some(pem) => {
            let unusable = Outcome::Unknown(Obstacle::CaFile);
            let roots = trust::roots(pem).ok_or(unusable)?;
            let builder = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider));
            Some(builder.build().map_err(|_| unusable)?)
        }
    };
    let verifier = Arc::new(Verifier {
        chain,
        named: key.named,
        provider: Arc::clone(&provider),
    });
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| Outcome::Unknown(Obstacle::Request))?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    let protocol: &[u8] = if key.http2 { b"h2" } else { b"http/1.1" };
    config.alpn_protocols = vec![protocol.to_vec()];
    // A resumed session shows no certificate, so a probe would not see that it went bad.
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Checks what the cluster's `tls` asks for, as Envoy does: the chain where there is a `caFile`,
/// the name where there is an `sni` too.
#[derive(Debug)]
struct Verifier {
    chain: Option<Arc<WebPkiServerVerifier>>,
    named: bool,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(chain) = &self.chain else {
            return Ok(ServerCertVerified::assertion());
        };
        let verified =
            chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            // The name is looked at last, so everything else is in order.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.named => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match &self.chain {
            Some(chain) => chain.verify_tls12_signature(message, cert, dss),
            None => Ok(HandshakeSignatureValid::assertion()),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match &self.chain {
            Some(chain) => chain.verify_tls13_signature(message, cert, dss),
            None => Ok(HandshakeSignatureValid::assertion()),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
