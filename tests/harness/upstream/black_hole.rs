//! A backend that is not even there to refuse.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use socket2::{Domain, Socket, Type};
use tokio::net::TcpStream;

/// An address where connections are neither accepted nor refused.
pub struct BlackHole {
    address: SocketAddr,
    _listener: Socket,
    _queued: TcpStream,
}

impl BlackHole {
    /// A listener that accepts nothing, and the one connection that its queue holds.
    pub async fn open() -> Result<Self> {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        let any_port: SocketAddr = ([127, 0, 0, 1], 0).into();
        listener.bind(&any_port.into())?;
        listener.listen(0)?;
        let address = listener.local_addr()?.as_socket();
        let address = address.context("an IP address")?;
        let queued = TcpStream::connect(address).await?;
        Ok(BlackHole {
            address,
            _listener: listener,
            _queued: queued,
        })
    }

    /// Where connections end in nothing.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
