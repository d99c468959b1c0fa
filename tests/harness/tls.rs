//! TLS in front of a backend: ends the session and passes the bytes on, either way.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::port::{Listener, Port};
use crate::upstream::Upstream;

/// What a client asked for in a handshake that went well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The server name.
    pub server_name: Option<String>,
    /// The protocol that both agreed on (ALPN).
    pub protocol: Option<String>,
}

/// A TLS front on a loopback port of its own; dropping it closes everything.
#[derive(Debug)]
pub struct TlsFront {
    port: Port,
    folder: TempDir,
    sessions: Arc<Mutex<Vec<Session>>>,
    acceptor: JoinHandle<()>,
}

impl TlsFront {
    /// A front of `upstream` whose certificate, signed by itself, is for the server name `name`.
    pub fn before(upstream: &Upstream, name: &str) -> Result<Self> {
        // Of several trusted authorities Envoy looks one up by its subject.
        let mut made = rcgen::CertificateParams::new([name.to_owned()])?;
        let subject = format!("{name} of {}", upstream.id());
        made.distinguished_name = rcgen::DistinguishedName::new();
        made.distinguished_name
            .push(rcgen::DnType::CommonName, subject);
        let signing_key = rcgen::KeyPair::generate()?;
        let certificate = made.self_signed(&signing_key)?;
        let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let folder = tempfile::tempdir()?;
        fs::write(ca_file(folder.path()), certificate.pem())?;
        let port = Port::reserve()?;
        let sessions = Arc::default();
        let serving = accept(
            port.listen()?,
            TlsAcceptor::from(Arc::new(config)),
            upstream.address(),
            Arc::clone(&sessions),
        );
        Ok(TlsFront {
            port,
            folder,
            sessions,
            acceptor: tokio::spawn(serving),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// The certificate to trust, a PEM file.
    pub fn ca_file(&self) -> PathBuf {
        ca_file(self.folder.path())
    }

    /// Every session so far whose handshake went well.
    pub fn sessions(&self) -> Vec<Session> {
        let sessions = self.sessions.lock();
        sessions.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

fn ca_file(folder: &Path) -> PathBuf {
    folder.join("ca.pem")
}

async fn accept(
    listener: Listener,
    acceptor: TlsAcceptor,
    to: SocketAddr,
    sessions: Arc<Mutex<Vec<Session>>>,
) {
    // Aborted with this task, and it with the front.
    let mut open = JoinSet::new();
    loop {
        // An error is a connection that was gone before we took it.
        if let Ok((stream, _)) = listener.accept().await {
            while open.try_join_next().is_some() {}
            open.spawn(serve(stream, acceptor.clone(), to, Arc::clone(&sessions)));
        }
    }
}

/// Errors are clients that went away or did not trust us: they know why.
async fn serve(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    to: SocketAddr,
    sessions: Arc<Mutex<Vec<Session>>>,
) -> Result<()> {
    let mut secured = acceptor.accept(stream).await.context("handshake")?;
    let (_, session) = secured.get_ref();
    let protocol = session.alpn_protocol().map(String::from_utf8_lossy);
    let session = Session {
        server_name: session.server_name().map(str::to_owned),
        protocol: protocol.map(|name| name.into_owned()),
    };
    sessions
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(session);
    let mut plain = TcpStream::connect(to).await?;
    plain.set_nodelay(true)?;
    copy_bidirectional(&mut secured, &mut plain).await?;
    Ok(())
}
