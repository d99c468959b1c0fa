//! The listener that proxies connect to: delta ADS and whatever else is served beside it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use futures_util::TryStreamExt;
use tokio::net::{TcpListener, UnixListener};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use super::ads::Ads;
use crate::net::caller::Caller;
use crate::settings::Listen;

const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

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
    pub fn address(&self) -> std::io::Result<String> {
        match self {
            Self::Tcp(listener) => Ok(SocketAddr::to_string(&listener.local_addr()?)),
            Self::Unix(_, path) => Ok(format!("unix:{}", path.display())),
        }
    }
}

/// Serves ADS and `extra` routes on the listener until told to stop; then ends when the last
/// stream has ended.
pub async fn serve(
    listener: Listener,
    stop: CancellationToken,
    ads: Ads,
    extra: axum::Router,
) -> anyhow::Result<()> {
    let routes = Routes::new(ads.into_service())
        .into_axum_router()
        .merge(extra);
    let router = Server::builder()
        // For curl; proxies speak HTTP/2.
        .accept_http1(true)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .add_routes(routes.into());
    let caller = stop.clone();
    let stopped = stop.cancelled_owned();
    match listener {
        Listener::Tcp(listener) => {
            let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
            let incoming = incoming.map_ok(|stream| Caller::new(stream, caller.clone()));
            router
                .serve_with_incoming_shutdown(incoming, stopped)
                .await?;
        }
        Listener::Unix(listener, path) => {
            let incoming = UnixListenerStream::new(listener);
            let incoming = incoming.map_ok(|stream| Caller::new(stream, caller.clone()));
            router
                .serve_with_incoming_shutdown(incoming, stopped)
                .await?;
            // The next process would replace it as well; a clean end leaves nothing behind.
            let _ = std::fs::remove_file(path);
        }
    }
    Ok(())
}
