//! Slow clients: thousands of connections that send a byte now and then and never a whole request
//! (slowloris), and the latency of other requests meanwhile.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::ensure;
use clap::Args;
use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::bed::{Cpus, ProxyUnderTest, TestBed};
use crate::drive::latency::{self, RequestPace};
use crate::payload::{self, MODEL};
use crate::{clock, output, to_its_end};

/// Options of `slow`.
#[derive(Args, Debug)]
pub(crate) struct SlowOptions {
    #[command(flatten)]
    subject: ProxyUnderTest,
    /// Slow connections; one that is closed is opened again
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// Seconds without them, and then with them
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,
    /// Seconds between two bytes of a slow client
    #[arg(long, default_value_t = 2.0)]
    pause: f64,
    /// Requests of others per second
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Measures requests without and with slow clients, and prints both.
///
/// # Errors
/// Returns an error if upstream or proxy don't start, or the slow clients can't connect.
pub(crate) fn run(options: &SlowOptions) -> anyhow::Result<()> {
    let report = to_its_end(compare(options))?;
    output::report(options.json, &report, &report.text())
}

#[derive(Debug, Serialize)]
struct SlowReport {
    without: latency::LatencyReport,
    with: latency::LatencyReport,
    /// Slow connections open when the measurement with them began.
    slow: u64,
    /// Connections that the proxy closed, with or without an answer.
    closed: u64,
    /// The proxy's memory before and with them, in MiB.
    memory: [f64; 2],
}

impl SlowReport {
    fn text(&self) -> String {
        let [before, with] = self.memory;
        format!(
            "without slow clients: {}\n{} errors\nwith {} of them: {}\n{} errors\n\
             slow connections closed by the proxy: {}; its memory {before:.1} -> {with:.1} MiB",
            self.without.whole.line(),
            self.without.errors,
            self.slow,
            self.with.whole.line(),
            self.with.errors,
            self.closed
        )
    }
}

/// Observations of the slow clients.
#[derive(Default)]
struct SlowTally {
    open: AtomicU64,
    closed: AtomicU64,
}

async fn compare(options: &SlowOptions) -> anyhow::Result<SlowReport> {
    let bed = TestBed::start(Cpus::default_here(), None, false).await?;
    let proxy = bed.proxy("router", &options.subject.kind()).await?;
    let pace = RequestPace {
        rate: options.rate,
        connections: 4,
        duration: Duration::from_secs_f64(options.seconds),
    };
    let request = proxy.target.post(&payload::chat(MODEL, 1024, None));
    let without = latency::run(&proxy.target, request.clone(), &pace).await;
    let before = proxy.memory()?.pss;
    let tally = Arc::<SlowTally>::default();
    let mut clients = JoinSet::new();
    let pause = Duration::from_secs_f64(options.pause);
    for _ in 0..options.connections {
        clients.spawn(dawdle(proxy.target.address, pause, Arc::clone(&tally)));
    }
    let wanted = options.connections as u64;
    let until = clock::now() + PATIENCE;
    while tally.open.load(Relaxed) < wanted && clock::now() < until {
        sleep(Duration::from_millis(50)).await;
    }
    let slow = tally.open.load(Relaxed);
    ensure!(
        slow * 10 >= wanted * 9,
        "only {slow} slow clients could connect"
    );
    let with = latency::run(&proxy.target, request, &pace).await;
    let memory = [before, proxy.memory()?.pss].map(|bytes| bytes as f64 / f64::from(1 << 20));
    clients.shutdown().await;
    Ok(SlowReport {
        without,
        with,
        slow,
        closed: tally.closed.load(Relaxed),
        memory,
    })
}

/// Time for all slow clients to connect.
const PATIENCE: Duration = Duration::from_secs(30);

/// Sends a request's head byte by byte, again and again on a new connection.
async fn dawdle(address: SocketAddr, pause: Duration, tally: Arc<SlowTally>) {
    loop {
        let Ok(mut stream) = TcpStream::connect(address).await else {
            sleep(pause).await;
            continue;
        };
        tally.open.fetch_add(1, Relaxed);
        let mut answer = [0; 512];
        for byte in HEAD.iter().cycle() {
            if stream.write_all(&[*byte]).await.is_err() {
                break;
            }
            tokio::select! {
                read = stream.read(&mut answer) => if !matches!(read, Ok(1..)) { break },
                () = sleep(pause) => {}
            }
        }
        tally.open.fetch_sub(1, Relaxed);
        tally.closed.fetch_add(1, Relaxed);
    }
}

/// Part of a request that is sent: it never ends.
const HEAD: &[u8] =
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: slow\r\nx-pad: aaaaaaaaaaaaaaaaaaaaaaaa\r\n";
