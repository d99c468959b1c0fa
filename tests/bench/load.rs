//! The load: as fast as answers come, or paced.
//!
//! A paced request's latency counts from when it was due, not from when a connection was free for
//! it: a stall is seen by all requests that it delays.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

use crate::responder;

/// Longest time without a look at the clock.
const LOOK: Duration = Duration::from_millis(50);
/// How long the last answers of a paced load may take.
const LAST: Duration = Duration::from_secs(5);

/// Requests over some connections to one address.
pub struct Load {
    to: SocketAddr,
    lines: Vec<Line>,
    poll: Poll,
    events: Events,
    /// Answers that were not 2xx, not whole, or did not come.
    pub errors: u64,
    body: Option<&'static [u8]>,
}

/// What a load of full speed came to.
pub struct Flat<T> {
    /// What was read when the measurement began.
    pub before: T,
    /// The same at its end.
    pub after: T,
    /// Answers between the two.
    pub answers: u64,
    /// Time between the two.
    pub elapsed: Duration,
}

/// One paced request.
#[derive(Debug, Clone, Copy)]
pub struct Timed {
    /// When it was due, from the beginning.
    pub due: Duration,
    /// From then until its answer was whole.
    pub latency: Duration,
}

impl Load {
    /// Opens the connections; connection i sends `headers[i % headers.len()]` too.
    pub fn open(to: SocketAddr, connections: usize, headers: &[String]) -> Result<Self> {
        let request = |fields: &str| format!("GET / HTTP/1.1\r\nhost: bench\r\n{fields}\r\n");
        let with = |header: &String| request(&format!("{header}\r\n")).into_bytes();
        let requests: Vec<Vec<u8>> = match headers {
            [] => vec![request("").into_bytes()],
            headers => headers.iter().map(with).collect(),
        };
        Load::open_with(to, connections, &requests)
    }

    /// Opens the connections; connection i sends `requests[i % requests.len()]`, of which there is one at
    /// least.
    pub fn open_with(to: SocketAddr, connections: usize, requests: &[Vec<u8>]) -> Result<Self> {
        let mut load = Load {
            to,
            lines: Vec::new(),
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            errors: 0,
            body: Some(responder::BODY),
        };
        for index in 0..connections {
            let stream = connect(to, &load.poll, index)?;
            load.lines.push(Line {
                stream,
                request: requests[index % requests.len()].clone(),
                answer: Vec::with_capacity(1024),
                due: None,
            });
        }
        Ok(load)
    }

    /// Any body will do, not only the responder's.
    pub fn accept_any_body(&mut self) {
        self.body = None;
    }

    /// Every connection sends again as soon as it has its answer: for `warm` uncounted, then
    /// counted for `measured`; `look` is called when the counting begins and when it ends.
    pub fn flat<T>(
        &mut self,
        warm: Duration,
        measured: Duration,
        mut look: impl FnMut() -> Result<T>,
    ) -> Result<Flat<T>> {
        let start = Instant::now();
        for index in 0..self.lines.len() {
            self.send(index, start)?;
        }
        let mut again = Vec::new();
        let mut counted: Option<(Instant, T, u64)> = None;
        let mut answers = 0;
        loop {
            self.poll.poll(&mut self.events, Some(LOOK)).or_else(idle)?;
            self.collect(&mut again);
            answers += again.len() as u64;
            let now = Instant::now();
            match &counted {
                None if now - start >= warm => counted = Some((now, look()?, answers)),
                Some((since, _, _)) if now - *since >= measured => break,
                _ => {}
            }
            for (index, _) in again.drain(..) {
                self.send(index, now)?;
            }
        }
        let (since, before, answers_before) = counted.context("nothing was measured")?;
        let flat = Flat {
            before,
            after: look()?,
            answers: answers - answers_before,
            elapsed: since.elapsed(),
        };
        self.settle(&mut again)?;
        Ok(flat)
    }

    /// So many requests per second for a while, over whichever connections are free.
    pub fn paced(&mut self, per_second: f64, lasting: Duration) -> Result<Vec<Timed>> {
        let gap = Duration::from_secs_f64(1.0 / per_second);
        let start = Instant::now();
        let mut free: VecDeque<usize> = (0..self.lines.len()).collect();
        let (mut waiting, mut done, mut timed) = (VecDeque::new(), Vec::new(), Vec::new());
        let mut due = start;
        loop {
            let now = Instant::now();
            while due <= now && due - start < lasting {
                waiting.push_back(due);
                due += gap;
            }
            while let Some(index) = free.pop_front() {
                match waiting.pop_front() {
                    Some(due) => self.send(index, due)?,
                    None => {
                        free.push_front(index);
                        break;
                    }
                }
            }
            let over = due - start >= lasting;
            if over && (free.len() == self.lines.len() || now - due > LAST) {
                break;
            }
            let wait = if over {
                LOOK
            } else {
                due.saturating_duration_since(now).min(LOOK)
            };
            self.wait(wait)?;
            self.collect(&mut done);
            let now = Instant::now();
            for (index, due) in done.drain(..) {
                free.push_back(index);
                timed.push(Timed {
                    due: due - start,
                    latency: now - due,
                });
            }
        }
        let lost = self.lines.iter().filter(|line| line.due.is_some()).count() + waiting.len();
        self.errors += lost as u64;
        Ok(timed)
    }

    /// To the nanosecond, which mio's own timeout is not.
    fn wait(&mut self, at_most: Duration) -> Result<()> {
        // SAFETY: the poll lives longer than this borrow of its descriptor.
        let fd = unsafe { BorrowedFd::borrow_raw(self.poll.as_raw_fd()) };
        let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
        let waited = ppoll(&mut fds, Some(TimeSpec::from_duration(at_most)), None);
        if !matches!(waited, Ok(_) | Err(nix::errno::Errno::EINTR)) {
            waited?;
        }
        let now = Some(Duration::ZERO);
        Ok(self.poll.poll(&mut self.events, now).or_else(idle)?)
    }

    /// Who is done: the connection, and when its request was due.
    fn collect(&mut self, done: &mut Vec<(usize, Instant)>) {
        for event in &self.events {
            let index = event.token().0;
            let line = &mut self.lines[index];
            let Some(due) = line.due else {
                continue;
            };
            let good = match line.read(self.body) {
                Progress::Waits => continue,
                Progress::Done { good } => good,
                Progress::Broken => {
                    // A request that follows finds a new connection, or is an error as well.
                    if let Ok(stream) = connect(self.to, &self.poll, index) {
                        line.stream = stream;
                    }
                    false
                }
            };
            line.due = None;
            line.answer.clear();
            self.errors += u64::from(!good);
            done.push((index, due));
        }
    }

    fn send(&mut self, index: usize, due: Instant) -> Result<()> {
        let line = &mut self.lines[index];
        line.due = Some(due);
        if line.stream.write_all(&line.request).is_err() {
            line.stream = connect(self.to, &self.poll, index)?;
            line.stream.write_all(&line.request)?;
        }
        Ok(())
    }

    /// Takes in the answers that are under way, so that the connections can be used again.
    fn settle(&mut self, done: &mut Vec<(usize, Instant)>) -> Result<()> {
        let end = Instant::now() + LAST;
        while self.lines.iter().any(|line| line.due.is_some()) && Instant::now() < end {
            self.poll.poll(&mut self.events, Some(LOOK)).or_else(idle)?;
            self.collect(done);
        }
        done.clear();
        Ok(())
    }
}

fn idle(error: std::io::Error) -> std::io::Result<()> {
    match error.kind() {
        ErrorKind::Interrupted => Ok(()),
        _ => Err(error),
    }
}

fn connect(to: SocketAddr, poll: &Poll, index: usize) -> Result<TcpStream> {
    let stream = std::net::TcpStream::connect(to).with_context(|| format!("connect to {to}"))?;
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    let mut stream = TcpStream::from_std(stream);
    poll.registry()
        .register(&mut stream, Token(index), Interest::READABLE)?;
    Ok(stream)
}

/// One connection with one request at a time.
struct Line {
    stream: TcpStream,
    request: Vec<u8>,
    answer: Vec<u8>,
    /// When the request under way was due.
    due: Option<Instant>,
}

enum Progress {
    Waits,
    Done { good: bool },
    Broken,
}

impl Line {
    fn read(&mut self, body: Option<&[u8]>) -> Progress {
        let mut buffer = [0; 4096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Progress::Broken,
                Ok(read) => {
                    self.answer.extend_from_slice(&buffer[..read]);
                    if let Some(good) = judge(&self.answer, body) {
                        return Progress::Done { good };
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Progress::Waits,
                Err(_) => return Progress::Broken,
            }
        }
    }
}

/// Whether an answer is a 2xx with this body; `None` while it is not whole.
fn judge(answer: &[u8], expected: Option<&[u8]>) -> Option<bool> {
    let head_end = answer.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let (head, body) = answer.split_at(head_end);
    let head = String::from_utf8_lossy(head);
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is_length = name.eq_ignore_ascii_case("content-length");
        is_length.then(|| value.trim().parse::<usize>().ok())?
    });
    // Neither Envoy nor the responder answers without a length here.
    let length = length.unwrap_or(0);
    if body.len() < length {
        return None;
    }
    let is_good =
        head.starts_with("HTTP/1.1 2") && expected.is_none_or(|expected| body == expected);
    Some(is_good)
}

#[cfg(test)]
mod tests {
    fn judge(answer: &[u8]) -> Option<bool> {
        super::judge(answer, Some(b"ok"))
    }

    #[test]
    fn only_a_whole_2xx_of_the_responder_is_good() {
        let good = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        assert_eq!(judge(good), Some(true));
        assert_eq!(judge(&good[..good.len() - 1]), None);
        assert_eq!(judge(b"HTTP/1.1 200 OK\r\ncontent"), None);
        assert_eq!(
            judge(b"HTTP/1.1 503 No\r\ncontent-length: 2\r\n\r\nok"),
            Some(false)
        );
        assert_eq!(
            judge(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
            Some(false)
        );
    }
}
