//! Where peers connect: an address, or a socket in the file system.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};

use crate::settings::Listen;

/// A connection.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A peer that has connected; only one that came over TCP has an address.
pub type Accepted = (Box<dyn Stream>, Option<SocketAddr>);

/// A bound listener.
pub enum Listener {
    /// Over TCP.
    Tcp(TcpListener),
    /// Over a socket in the file system.
    Unix(UnixListener, PathBuf),
}

impl Listener {
    /// Binds it. A socket file that nobody listens on any more is replaced.
    pub async fn bind(listen: &Listen) -> anyhow::Result<Self> {
        match listen {
            Listen::Tcp(address) => {
                let bound = TcpListener::bind(address).await;
                Ok(Self::Tcp(
                    bound.with_context(|| format!("cannot listen on {address}"))?,
                ))
            }
            Listen::Unix(path) => {
                let context = || format!("cannot listen on unix:{}", path.display());
                if tokio::net::UnixStream::connect(path).await.is_ok() {
                    anyhow::bail!("{}: somebody else does", context());
                }
                let is_socket = |meta: std::fs::Metadata| {
                    std::os::unix::fs::FileTypeExt::is_socket(&meta.file_type())
                };
                if std::fs::symlink_metadata(path).is_ok_and(is_socket) {
                    std::fs::remove_file(path).with_context(context)?;
                }
                let bound = UnixListener::bind(path).with_context(context)?;
                Ok(Self::Unix(bound, path.clone()))
            }
        }
    }

    /// Where it listens, as settings write it.
    pub fn address(&self) -> io::Result<String> {
        match self {
            Self::Tcp(listener) => Ok(SocketAddr::to_string(&listener.local_addr()?)),
            Self::Unix(_, path) => Ok(format!("unix:{}", path.display())),
        }
    }

    /// Whether only this machine can connect.
    pub fn is_local(&self) -> io::Result<bool> {
        match self {
            Self::Tcp(listener) => Ok(listener.local_addr()?.ip().is_loopback()),
            Self::Unix(..) => Ok(true),
        }
    }

    /// The next peer.
    pub async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                // Answers are small and waited for. Without it they are late, nothing else.
                let _ = stream.set_nodelay(true);
                Ok((Box::new(stream), Some(peer)))
            }
            Self::Unix(listener, _) => Ok((Box::new(listener.accept().await?.0), None)),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            // The next process would replace it as well; a clean end leaves nothing behind.
            let _ = std::fs::remove_file(path);
        }
    }
}
