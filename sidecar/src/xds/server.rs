//! The listener that proxies connect to: delta ADS and whatever else is served beside it.

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::ads::Ads;
use crate::net::listener::Listener;
use crate::net::serve::{self, Rules};

/// HTTP/1.1 is for curl; a proxy has a connection for xDS and one per worker for the exchange.
const RULES: Rules = Rules {
    connections_max: 4096,
    http2: true,
};

/// Serves ADS and `extra` routes on the listener until told to stop; then ends when the last
/// stream has ended.
pub async fn serve(
    listener: Listener,
    stop: CancellationToken,
    ads: Ads,
    extra: axum::Router,
) -> anyhow::Result<()> {
    let routes = watch::Sender::new(ads.into_router().merge(extra));
    serve::serve(listener, RULES, routes.subscribe(), stop).await;
    Ok(())
}
