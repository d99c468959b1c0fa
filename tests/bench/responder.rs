//! The cheapest backends there can be: one process, one thread, thousands of addresses.
//!
//! It listens on one port of every loopback address (127.0.0.0/8) and answers each request, whatever
//! it says, with the same 200, which names the address it came to.

use std::collections::HashMap;
use std::env;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use harness::eventually;
use harness::port::Port;
use harness::process::Process;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Protocol, Socket, Type};
use tempfile::TempDir;

/// The body of every answer.
pub const BODY: &[u8] = b"ok";
/// The argument that makes this program a responder.
pub const COMMAND: &str = "responder";

const LISTENER: Token = Token(0);
const BACKLOG: i32 = 4096;

/// A running responder; dropping it kills it.
pub struct Responder {
    process: Process,
    port: Port,
    _folder: TempDir,
}

impl Responder {
    /// Starts one in a process of its own, and waits until it answers.
    pub async fn start(core: usize) -> Result<Self> {
        let (port, folder) = (Port::reserve()?, tempfile::tempdir()?);
        let mut command = Command::new(env::current_exe()?);
        command.arg(COMMAND).arg(port.address().port().to_string());
        let process = Process::start(command, &folder.path().join("responder.log"))?;
        crate::machine::pin(process.pid(), core)?;
        let responder = Responder {
            process,
            port,
            _folder: folder,
        };
        eventually(Duration::from_secs(10), "the responder", async || {
            responder.process.ensure_running()?;
            tokio::net::TcpStream::connect(responder.address(0)).await?;
            Ok(())
        })
        .await?;
        Ok(responder)
    }

    /// The address of one of its backends: 127.0.0.1, 127.0.0.2 and so on, all on one port.
    pub fn address(&self, index: u32) -> SocketAddr {
        let ip = Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + index);
        SocketAddrV4::new(ip, self.port.address().port()).into()
    }

    /// The addresses of the first so many.
    pub fn addresses(&self, count: u32) -> Vec<SocketAddr> {
        (0..count).map(|index| self.address(index)).collect()
    }
}

/// Runs as a responder, for ever.
pub fn serve(port: u16) -> Result<()> {
    let mut listener = listen(port)?;
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1024);
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut connections: HashMap<Token, Connection> = HashMap::new();
    let mut next = 1;
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            polled => polled?,
        }
        for event in &events {
            if event.token() != LISTENER {
                let open = connections.get_mut(&event.token());
                if open.is_some_and(|connection| !connection.answer()) {
                    connections.remove(&event.token());
                }
                continue;
            }
            while let Ok((mut stream, _)) = listener.accept() {
                let token = Token(next);
                next += 1;
                poll.registry()
                    .register(&mut stream, token, Interest::READABLE)?;
                let mut connection = Connection::new(stream)?;
                if connection.answer() {
                    connections.insert(token, connection);
                }
            }
        }
    }
}

/// Every loopback address, and no other: the socket is bound to the loopback device.
fn listen(port: u16) -> Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket
        .bind_device(Some(b"lo"))
        .context("cannot bind to the loopback device")?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(TcpListener::from_std(socket.into()))
}

struct Connection {
    stream: TcpStream,
    answer: Vec<u8>,
    /// How much of a request's closing blank line has been seen.
    seen: usize,
}

impl Connection {
    fn new(stream: TcpStream) -> Result<Self> {
        stream.set_nodelay(true)?;
        let ip = stream.local_addr()?.ip();
        let head = format!(
            "HTTP/1.1 200 OK\r\nx-backend: {ip}\r\ncontent-length: {}\r\n\r\n",
            BODY.len()
        );
        Ok(Connection {
            stream,
            answer: [head.as_bytes(), BODY].concat(),
            seen: 0,
        })
    }

    /// Answers all that has come; `false` when the connection is over.
    fn answer(&mut self) -> bool {
        let mut buffer = [0; 4096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return false,
                Ok(read) => {
                    for _ in 0..self.requests(&buffer[..read]) {
                        // An answer is far smaller than a socket's buffer: it goes out whole.
                        if self.stream.write_all(&self.answer).is_err() {
                            return false;
                        }
                    }
                    // Nothing is left; what comes later is a new event.
                    if read < buffer.len() {
                        return true;
                    }
                }
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            }
        }
    }

    /// How many heads of requests end in these bytes. No body that the load sends has a blank line in it.
    fn requests(&mut self, bytes: &[u8]) -> usize {
        const END: &[u8] = b"\r\n\r\n";
        let mut ends = 0;
        for byte in bytes {
            self.seen = match *byte == END[self.seen] {
                true => self.seen + 1,
                false => usize::from(*byte == b'\r'),
            };
            if self.seen == END.len() {
                (ends, self.seen) = (ends + 1, 0);
            }
        }
        ends
    }
}
