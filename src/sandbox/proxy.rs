//! A TCP proxy on loopback that misbehaves on demand: cuts, refuses, stalls and slows.

use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::sync::mpsc as std_mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::port;

/// A proxy in front of one port on 127.0.0.1, with a thread and a runtime of its own, so that it
/// works from any test and keeps working while the test's own runtime is busy. Every method returns
/// once what it asks for is so. Dropping the proxy resets its connections.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    orders: mpsc::UnboundedSender<Order>,
    thread: Option<JoinHandle<()>>,
}

enum Order {
    Cut(std_mpsc::Sender<usize>),
    Refuse(bool, std_mpsc::Sender<std::io::Result<()>>),
    Weather(Box<dyn FnOnce(&mut Weather) + Send>, std_mpsc::Sender<()>),
}

/// What all connections live under at the moment.
#[derive(Debug, Clone, Copy, Default)]
struct Weather {
    stalled: bool,
    bytes_per_second: Option<u32>,
    /// Raised by every cut; a connection that sees it change is reset.
    cuts: u64,
}

impl Proxy {
    /// Starts forwarding from a free port to `127.0.0.1:upstream`.
    pub fn start(upstream: u16) -> Result<Proxy> {
        let listener = port::listen()?;
        listener.set_nonblocking(true).context("preparing the proxy's port")?;
        let address = listener.local_addr().context("asking for the proxy's port")?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("starting the proxy's runtime")?;
        let (orders, inbox) = mpsc::unbounded_channel();
        let thread = thread::Builder::new()
            .name("sandbox-proxy".into())
            .spawn(move || runtime.block_on(serve(listener, address, upstream, inbox)))
            .context("starting the proxy's thread")?;
        Ok(Proxy { port: address.port(), orders, thread: Some(thread) })
    }

    /// The port on 127.0.0.1 that clients connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Resets every connection (RST on both sides) and says how many there were. New ones are
    /// accepted as before.
    pub fn cut(&self) -> usize {
        self.order(Order::Cut).unwrap_or(0)
    }

    /// Closes the listening port, so that connecting fails at once with "connection refused", or
    /// opens it again. Existing connections go on; see [`Proxy::cut`].
    pub fn refuse(&self, on: bool) -> Result<()> {
        self.order(|done| Order::Refuse(on, done))
            .context("the proxy's thread has ended")?
            .with_context(|| format!("opening port {} again", self.port))
    }

    /// Forwards nothing and closes nothing, as a network that lost its route does: senders see
    /// their bytes accepted until the kernel's buffers are full. Bytes under way arrive when the stall
    /// ends.
    pub fn stall(&self, on: bool) {
        self.weather(move |weather| weather.stalled = on);
    }

    /// Limits each direction of each connection to so many bytes a second; `None` lifts the limit.
    pub fn slow(&self, bytes_per_second: Option<u32>) {
        self.weather(move |weather| weather.bytes_per_second = bytes_per_second);
    }

    fn weather(&self, change: impl FnOnce(&mut Weather) + Send + 'static) {
        self.order(|done| Order::Weather(Box::new(change), done));
    }

    /// Hands an order to the proxy's thread and waits until it is carried out.
    fn order<T>(&self, make: impl FnOnce(std_mpsc::Sender<T>) -> Order) -> Option<T> {
        let (done, answer) = std_mpsc::channel();
        self.orders.send(make(done)).ok()?;
        answer.recv().ok()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
        // Closing the channel is what ends the thread.
        self.orders = mpsc::unbounded_channel().0;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(listener: StdListener, address: SocketAddr, upstream: u16, mut inbox: mpsc::UnboundedReceiver<Order>) {
    let mut listener = TcpListener::from_std(listener).ok();
    let (weather, _) = watch::channel(Weather::default());
    let mut connections = JoinSet::new();
    loop {
        let accepted = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            order = inbox.recv() => match order {
                None => return,
                Some(Order::Cut(done)) => {
                    while connections.try_join_next().is_some() {}
                    let count = connections.len();
                    weather.send_modify(|now| now.cuts += 1);
                    while connections.join_next().await.is_some() {}
                    let _ = done.send(count);
                }
                Some(Order::Refuse(true, done)) => {
                    listener = None;
                    let _ = done.send(Ok(()));
                }
                Some(Order::Refuse(false, done)) => {
                    let mut answer = Ok(());
                    if listener.is_none() {
                        match TcpListener::bind(address).await {
                            Ok(open) => listener = Some(open),
                            Err(error) => answer = Err(error),
                        }
                    }
                    let _ = done.send(answer);
                }
                Some(Order::Weather(change, done)) => {
                    weather.send_modify(change);
                    let _ = done.send(());
                }
            },
            client = accepted => {
                if let Ok((client, _)) = client {
                    connections.spawn(connection(client, upstream, weather.subscribe()));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(mut client: TcpStream, upstream: u16, mut weather: watch::Receiver<Weather>) {
    let born = weather.borrow_and_update().cuts;
    let mut server: Option<TcpStream> = None;
    let life = async {
        let mut sky = weather.clone();
        if sky.wait_for(|now| !now.stalled).await.is_err() {
            return;
        }
        let Ok(connected) = TcpStream::connect((Ipv4Addr::LOCALHOST, upstream)).await else {
            // What a client behind a real proxy sees when nobody listens behind it.
            let _ = client.set_zero_linger();
            return;
        };
        let server = server.insert(connected);
        let _ = client.set_nodelay(true);
        let _ = server.set_nodelay(true);
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        // One side's end of stream is passed on; the other direction goes on, as in TCP.
        let both = tokio::try_join!(
            pump(from_client, to_server, weather.clone()),
            pump(from_server, to_client, weather.clone()),
        );
        if both.is_err() {
            let _ = client.set_zero_linger();
            let _ = server.set_zero_linger();
        }
    };
    let mut sky = weather.clone();
    let cut = tokio::select! {
        () = life => false,
        _ = sky.wait_for(|now| now.cuts != born) => true,
    };
    if cut {
        let _ = client.set_zero_linger();
        if let Some(server) = &server {
            let _ = server.set_zero_linger();
        }
    }
}

async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut weather: watch::Receiver<Weather>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        from.readable().await?;
        let gone = |_| std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        let now = *weather.wait_for(|now| !now.stalled).await.map_err(gone)?;
        let most = match now.bytes_per_second {
            None => buffer.len(),
            // Twenty portions a second, so that a slow network is slow and not jerky.
            Some(rate) => usize::try_from(rate / 20).unwrap_or(buffer.len()).clamp(1, buffer.len()),
        };
        let count = from.read(&mut buffer[..most]).await?;
        // A stall may have begun while the read waited.
        weather.wait_for(|now| !now.stalled).await.map_err(gone)?;
        if count == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..count]).await?;
        if let Some(rate) = now.bytes_per_second {
            let seconds = count as f64 / f64::from(rate.max(1));
            tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
        }
    }
}
