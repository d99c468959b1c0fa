//! A connection to one of our listeners, and how long its peer may take to ask.
//!
//! Whoever connects and says nothing, or begins a request and never ends it, is nobody's caller yet
//! (the token is in the head of a request): such a connection ends by itself, and at once when the
//! sidecar is told to stop.

use std::future::Future;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// How long a peer may take to say which protocol it speaks, and then for the head of a request.
pub const HEAD_MAX: Duration = Duration::from_secs(10);
/// How long a peer is listened to after the last answer.
const LINGER_MAX: Duration = Duration::from_secs(2);
/// How every connection of HTTP/2 begins.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a peer has said so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opening {
    /// So many bytes of [`PREFACE`].
    Begun(usize),
    /// Something else.
    Http1,
    /// The whole preface: from now on HTTP/2 itself asks whether the peer is still there.
    Http2,
}

impl Opening {
    fn heard(self, bytes: &[u8]) -> Self {
        let Opening::Begun(before) = self else {
            return self;
        };
        let more = &PREFACE[before..];
        match more.strip_prefix(bytes) {
            Some([]) => Opening::Http2,
            Some(_) => Opening::Begun(before + bytes.len()),
            None if bytes.starts_with(more) => Opening::Http2,
            None => Opening::Http1,
        }
    }
}

/// A stream that ends for its reader when the peer takes too long, or when no whole request has
/// come until the sidecar is told to stop.
///
/// Over HTTP/1.1 it does not end at once: whoever is still sending, a body that is too long, say,
/// would be reset by the system before it has read why. So what it sends is heard, and forgotten,
/// until it ends, for a while at most.
pub struct Caller<S> {
    stream: S,
    opening: Opening,
    patience: Pin<Box<Sleep>>,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
    end: End,
}

/// How far a connection is with its end.
enum End {
    /// It goes on.
    Open,
    /// The peer sends no more.
    Heard,
    /// The peer was told that nothing more comes.
    Lingering(Pin<Box<Sleep>>),
}

impl<S> Caller<S> {
    /// A peer that has connected just now.
    pub fn new(stream: S, stop: CancellationToken) -> Self {
        Caller {
            stream,
            opening: Opening::Begun(0),
            patience: Box::pin(sleep(HEAD_MAX)),
            stop: Box::pin(stop.cancelled_owned()),
            end: End::Open,
        }
    }
}

impl<S: AsyncRead + Unpin> Caller<S> {
    /// Forgets what the peer still sends; ready once it ends, or has been heard for long enough.
    fn poll_linger(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let End::Lingering(patience) = &mut self.end else {
            return Poll::Ready(());
        };
        if self.stop.as_mut().poll(context).is_ready() || patience.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(());
        }
        let mut room = [MaybeUninit::uninit(); 8192];
        loop {
            let mut into = ReadBuf::uninit(&mut room);
            match ready!(Pin::new(&mut self.stream).poll_read(context, &mut into)) {
                Ok(()) if !into.filled().is_empty() => {}
                _ => return Poll::Ready(()),
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Caller<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        if let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(context, into) {
            let heard = &into.filled()[before..];
            self.opening = self.opening.heard(heard);
            if heard.is_empty() {
                self.end = End::Heard;
            }
            return Poll::Ready(read);
        }
        let opening = self.opening;
        // Ready with nothing read is the end.
        match opening {
            Opening::Begun(_) if self.patience.as_mut().poll(context).is_ready() => {}
            Opening::Begun(_) | Opening::Http1 => ready!(self.stop.as_mut().poll(context)),
            Opening::Http2 => return Poll::Pending,
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Caller<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let End::Open | End::Heard = self.end {
            ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
            if matches!(self.end, End::Open) && self.opening == Opening::Http1 {
                self.end = End::Lingering(Box::pin(sleep(LINGER_MAX)));
            }
        }
        self.poll_linger(context).map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::{Instant, timeout};

    use super::*;

    #[test]
    fn the_protocol_is_told_by_the_first_bytes_that_differ() {
        let heard = |parts: &[&[u8]]| {
            let begun = Opening::Begun(0);
            parts.iter().fold(begun, |it, part| it.heard(part))
        };
        for (parts, expected) in [
            (&[][..], Opening::Begun(0)),
            (&[&b"P"[..], b"RI"], Opening::Begun(3)),
            (&[b"P", b"OST /"], Opening::Http1),
            (&[b"GET / HT"], Opening::Http1),
            (&[PREFACE], Opening::Http2),
            (&[&PREFACE[..9], &PREFACE[9..], b"more"], Opening::Http2),
            (&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nmore"], Opening::Http2),
            (&[b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\nmore"], Opening::Http1),
        ] {
            assert_eq!(heard(parts), expected, "{parts:?}");
        }
    }

    /// What is read to the end after these words, and when that end was; `None`: never.
    async fn read(words: &[u8], stop: &CancellationToken) -> Option<(usize, Duration)> {
        let (mut peer, ours) = duplex(64);
        peer.write_all(words).await.unwrap();
        let mut caller = Caller::new(ours, stop.clone());
        let (began, mut heard) = (Instant::now(), Vec::new());
        let end = timeout(HEAD_MAX * 10, caller.read_to_end(&mut heard)).await;
        end.ok().map(|end| (end.unwrap(), began.elapsed()))
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_is_let_go_and_nobody_is_waited_for_at_the_end() {
        let stop = CancellationToken::new();
        assert_eq!(read(b"", &stop).await, Some((0, HEAD_MAX)));
        assert_eq!(read(b"PRI", &stop).await, Some((3, HEAD_MAX)));
        // What comes after the first words, the protocol itself watches over.
        assert_eq!(read(b"GET / HT", &stop).await, None);
        assert_eq!(read(PREFACE, &stop).await, None);
        stop.cancel();
        for words in [&b""[..], b"PRI", b"GET / HT"] {
            assert_eq!(
                read(words, &stop).await,
                Some((words.len(), Duration::ZERO))
            );
        }
        assert_eq!(read(PREFACE, &stop).await, None);
    }
}
