//! Where peers connect: an address, or a socket in the file system.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, UnixListener};

use crate::settings::Listen;

/// How many may wait to be accepted, where the system's `somaxconn` allows it: after a restart of the
/// sidecar all proxies of a fleet connect at once, and whoever finds no place is kept waiting for seconds,
/// or reset. A socket in the file system has what the system allows by itself.
const BACKLOG: u32 = 4096;

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
                let context = || format!("cannot listen on {address}");
                Ok(Self::Tcp(bind_tcp(*address).with_context(context)?))
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

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // Connections of the process before may still be ending.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            // The next process would replace it as well; a clean end leaves nothing behind.
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::net::TcpStream;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_fleet_that_connects_at_once_has_room_while_nobody_accepts() {
        let allowed = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
        let room = BACKLOG.min(allowed.trim().parse().unwrap());
        for address in ["127.0.0.1:0", "[::1]:0"] {
            if let Err(error) = std::net::TcpListener::bind(address) {
                println!("skipped on {address}: this machine has none: {error}");
                continue;
            }
            let listen = Listen::Tcp(address.parse().unwrap());
            let listener = Listener::bind(&listen).await.unwrap();
            let address = listener.address().unwrap();
            for waiting in 0..room {
                // Closed at once, it waits all the same, and takes no descriptor.
                let connected =
                    timeout(Duration::from_secs(20), TcpStream::connect(&address)).await;
                let connected = connected.map_err(io::Error::from).flatten();
                connected.unwrap_or_else(|error| panic!("{waiting} wait on {address}: {error}"));
            }
        }
    }
}
