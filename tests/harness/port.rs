//! Ports that stay ours while nobody listens on them.

use std::net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4};
use std::ops::Deref;

use anyhow::{Context, Result};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::TcpListener;

/// A loopback port, held for as long as this value lives.
///
/// The holding socket is bound and never listens: connecting is refused until somebody listens
/// there (with `SO_REUSEADDR`, as Envoy and tokio do), and nobody else is given the port.
#[derive(Debug)]
pub struct Port {
    address: SocketAddr,
    _holder: Socket,
}

impl Port {
    /// Takes a free port of 127.0.0.1.
    pub fn reserve() -> Result<Self> {
        Self::reserve_of(Ipv4Addr::LOCALHOST)
    }

    /// Takes a port that is free on every address of this machine: those of 127.0.0.0/8 are thousands.
    pub fn reserve_everywhere() -> Result<Self> {
        Self::reserve_of(Ipv4Addr::UNSPECIFIED)
    }

    fn reserve_of(address: Ipv4Addr) -> Result<Self> {
        let holder = bound(SocketAddrV4::new(address, 0).into())?;
        let address = holder
            .local_addr()?
            .as_socket()
            .context("not an IP socket")?;
        Ok(Port {
            address,
            _holder: holder,
        })
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Listens on it, in this process; again and again, one after the other.
    pub fn listen(&self) -> Result<Listener> {
        let socket = bound(self.address)?;
        socket
            .listen(1024)
            .with_context(|| format!("cannot listen on {}", self.address))?;
        socket.set_nonblocking(true)?;
        Ok(Listener(TcpListener::from_std(socket.into())?))
    }
}

/// Listens until it is dropped, and not a moment longer.
///
/// A program that some other story starts has a copy of every socket of this process until it is loaded. A
/// listener that is only closed would go on for so long, and reset what it took instead of refusing it.
#[derive(Debug)]
pub struct Listener(TcpListener);

impl Deref for Listener {
    type Target = TcpListener;

    fn deref(&self) -> &TcpListener {
        &self.0
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // A listener that was open cannot fail at this.
        let _ = SockRef::from(&self.0).shutdown(Shutdown::Both);
    }
}

fn bound(address: SocketAddr) -> Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.ip().is_unspecified() {
        // Nobody else's business.
        socket.bind_device(Some(b"lo"))?;
    }
    socket
        .bind(&address.into())
        .with_context(|| format!("cannot bind {address}"))?;
    Ok(socket)
}
