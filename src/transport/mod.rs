//! The byte stream beneath every engine's connections: TCP, or TLS over it once both sides have agreed.

pub mod tls;
pub mod url;

use std::io;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::error::{Error, Result};

/// An open byte stream to a server.
#[derive(Debug)]
pub enum Transport {
    /// TCP.
    Plain(TcpStream),
    /// TLS over TCP.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Transport {
    /// Opens TCP to the first of the host's addresses that answers.
    ///
    /// # Errors
    /// `Retry` when nobody answers.
    pub async fn connect(host: &str, port: u16, doing: &str) -> Result<Transport> {
        connect_tcp(host, port, doing).await.map(Transport::Plain)
    }

    /// Goes on in TLS, once the server has agreed to it. Nothing may have been read ahead.
    ///
    /// # Errors
    /// The handshake's own failure; what lies beneath it says [`tls::explain`].
    pub async fn secure(self, config: Arc<ClientConfig>, name: ServerName<'static>) -> io::Result<Transport> {
        let Transport::Plain(tcp) = self else { return Ok(self) };
        let stream = TlsConnector::from(config).connect(name, tcp).await?;
        Ok(Transport::Tls(Box::new(stream)))
    }

    /// Whether it is TLS.
    pub fn is_tls(&self) -> bool {
        matches!(self, Transport::Tls(_))
    }

    /// What SCRAM binds itself to, if this is TLS and the certificate permits it.
    pub fn server_end_point(&self) -> Option<Vec<u8>> {
        match self {
            Transport::Plain(_) => None,
            Transport::Tls(t) => tls::server_end_point(t.get_ref().1.peer_certificates()?.first()?),
        }
    }

    /// Lets the kernel wake the reader only once so many bytes have arrived, or the connection has ended (SO_RCVLOWAT;
    /// lowering it wakes the reader at once if anything is there). Where it cannot be set, every byte wakes the reader.
    pub fn wake_at(&self, bytes: i32) {
        let tcp = self.tcp();
        let size = std::mem::size_of::<i32>() as libc::socklen_t;
        // SAFETY: the descriptor is open while `tcp` is borrowed, and the option's value is one int, as socket(7) says.
        unsafe {
            libc::setsockopt(
                tcp.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_RCVLOWAT,
                std::ptr::from_ref(&bytes).cast(),
                size,
            );
        }
    }

    /// Bounds what the kernel takes in ahead of the reader, on a connection whose round trip is shorter than `within`:
    /// a peer that sends many small pieces then adds them up in its own buffer, at a third less of its processor time,
    /// because most find the window closed. Over a longer way the window has to stay open, and nothing is set.
    pub fn bound_when_near(&self, bytes: usize, within: Duration) {
        let tcp = self.tcp();
        if round_trip(tcp).is_some_and(|rtt| rtt < within) {
            // The buffer is larger than what is asked for only where the kernel's own least size is.
            let _ = SockRef::from(tcp).set_recv_buffer_size(bytes);
        }
    }

    fn tcp(&self) -> &TcpStream {
        match self {
            Transport::Plain(s) => s,
            Transport::Tls(t) => t.get_ref().0,
        }
    }

    /// Writes and flushes all of `data`, to a peer that speaks only when asked. Stops as soon as it says something all the
    /// same, or has closed its side: what it said is in `heard`, and `true` is returned for it. Without listening, a write
    /// to a peer that closed with its window full would wait for minutes (a killed session's end on MariaDB, seen there).
    ///
    /// # Errors
    /// The socket's own; `UnexpectedEof` when the peer has closed.
    pub async fn write_unless_heard(&mut self, heard: &mut BytesMut, mut data: &[u8]) -> io::Result<bool> {
        std::future::poll_fn(|cx| {
            let mut piece = [0; 1024];
            let mut into = ReadBuf::new(&mut piece);
            match Pin::new(&mut *self).poll_read(cx, &mut into) {
                Poll::Ready(Ok(())) if into.filled().is_empty() => {
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
                Poll::Ready(Ok(())) => {
                    heard.extend_from_slice(into.filled());
                    return Poll::Ready(Ok(true));
                }
                Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                Poll::Pending => {}
            }
            while !data.is_empty() {
                match Pin::new(&mut *self).poll_write(cx, data) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(Ok(n)) => data = &data[n..],
                    Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                    Poll::Pending => return Poll::Pending,
                }
            }
            Pin::new(&mut *self).poll_flush(cx).map_ok(|()| false)
        })
        .await
    }

    /// Writes without waiting, for a last word on drop.
    pub fn write_now(&mut self, bytes: &[u8]) {
        let mut context = Context::from_waker(std::task::Waker::noop());
        let _ = Pin::new(&mut *self).poll_write(&mut context, bytes);
        let _ = Pin::new(self).poll_flush(&mut context);
    }
}

/// The connection's smoothed round trip, where the kernel tells it (tcp(7), `TCP_INFO`).
fn round_trip(tcp: &TcpStream) -> Option<Duration> {
    // SAFETY: the descriptor is open while `tcp` is borrowed; the kernel writes at most `size` bytes into a plain struct
    // for which all zeroes is a value.
    unsafe {
        let mut info: libc::tcp_info = std::mem::zeroed();
        let mut size = std::mem::size_of::<libc::tcp_info>() as libc::socklen_t;
        let told = libc::getsockopt(
            tcp.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            std::ptr::from_mut(&mut info).cast(),
            &mut size,
        );
        (told == 0).then(|| Duration::from_micros(info.tcpi_rtt.into()))
    }
}

async fn connect_tcp(host: &str, port: u16, doing: &str) -> Result<TcpStream> {
    let addresses = tokio::net::lookup_host((host, port))
        .await
        .map_err(|e| Error::retry(format!("{doing}: {e}")).hint("check the host name in the URL"))?;
    let mut last = None;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(tcp) => {
                tcp.set_nodelay(true)?;
                let keepalive = TcpKeepalive::new()
                    .with_time(Duration::from_secs(15))
                    .with_interval(Duration::from_secs(5))
                    .with_retries(4);
                SockRef::from(&tcp).set_tcp_keepalive(&keepalive)?;
                return Ok(tcp);
            }
            Err(e) => last = Some(e),
        }
    }
    Err(match last {
        Some(e) => Error::retry(format!("{doing}: {e}")),
        None => Error::retry(format!("{doing}: the host name has no address")),
    }
    .hint("check that the server runs and that host and port in the URL are right"))
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Transport::Plain(s) => Pin::new(s).poll_read(cx, buf),
            Transport::Tls(s) => Pin::new(s).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Transport::Plain(s) => Pin::new(s).poll_write(cx, buf),
            Transport::Tls(s) => Pin::new(s).poll_write(cx, buf),
        }
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Transport::Plain(s) => Pin::new(s).poll_flush(cx),
            Transport::Tls(s) => Pin::new(s).poll_flush(cx),
        }
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Transport::Plain(s) => Pin::new(s).poll_shutdown(cx),
            Transport::Tls(s) => Pin::new(s).poll_shutdown(cx),
        }
    }
}
