//! The harness's own figures for Prometheus, while it runs.

use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use danmaku_wire::Encoding;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::error::HarnessError;
use crate::swarm::{Delivered, Lookout, Snapshot};
use crate::timeline::Recorder;

/// A listener that answers every request with the figures. Dropping it closes it.
pub struct Metrics(JoinHandle<()>);

/// How long a scrape may take. They are answered one after the other.
const SCRAPE_DEADLINE: Duration = Duration::from_secs(5);
const HEAD_BYTES_MAX: usize = 8 << 10;
/// Latencies are those of this many seconds ago: the audit waits for slow acknowledgements.
const LATENCY_AGE_S: u64 = 5;

impl Metrics {
    /// Listens and answers.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub async fn start(
        address: SocketAddr,
        clock: Clock,
        lookout: Lookout,
        recorder: Arc<Recorder>,
    ) -> Result<Self, HarnessError> {
        let listener = TcpListener::bind(address)
            .await
            .map_err(HarnessError::system("--metrics-listen"))?;
        Ok(Self(tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else {
                    // Out of descriptors: viewers have them.
                    tokio::time::sleep(SCRAPE_DEADLINE).await;
                    continue;
                };
                let answered = answer(stream, clock, &lookout, &recorder);
                let _ = tokio::time::timeout(SCRAPE_DEADLINE, answered).await;
            }
        })))
    }
}

impl Drop for Metrics {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn answer(
    mut stream: TcpStream,
    clock: Clock,
    lookout: &Lookout,
    recorder: &Recorder,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if head.len() > HEAD_BYTES_MAX || stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let second = (clock.now().micros() / 1_000_000).checked_sub(LATENCY_AGE_S);
    let latency = second.map(|second| recorder.latency_of(second));
    let latency = latency.filter(|latency| latency.count > 0);
    let quantiles = latency.map(|latency| [("0.5", latency.p50_ms), ("0.99", latency.p99_ms)]);
    let text = exposition(&lookout.snapshot(), recorder.posts(), quantiles);
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        text.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(text.as_bytes()).await
}

/// The figures, as <https://prometheus.io/docs/instrumenting/exposition_formats/> says.
fn exposition(
    viewers: &Snapshot,
    [sent, acknowledged, failed]: [u64; 3],
    latency_ms: Option<[(&str, f64); 2]>,
) -> String {
    let mut text = String::new();
    let mut counters = |name: &str, label: &str, samples: &[(&str, u64)]| {
        let _ = writeln!(text, "# TYPE loadtest_{name}_total counter");
        for (of, value) in samples {
            let _ = writeln!(text, "loadtest_{name}_total{{{label}=\"{of}\"}} {value}");
        }
    };
    let happened = [
        ("joined", viewers.joined),
        ("rejoined", viewers.rejoined),
        ("failed", viewers.failed),
        ("ended", viewers.ended),
        ("left", viewers.left),
    ];
    counters("viewers", "event", &happened);
    let of = |count: fn(&Delivered) -> u64| {
        Encoding::ALL.map(|it| (it.as_str(), count(&viewers.delivered[it as usize])))
    };
    counters("frames", "encoding", &of(|delivered| delivered.frames));
    counters("bytes", "encoding", &of(|delivered| delivered.bytes));
    counters("comments", "encoding", &of(|delivered| delivered.comments));
    let outcomes = [
        ("sent", sent),
        ("acknowledged", acknowledged),
        ("failed", failed),
    ];
    counters("posts", "outcome", &outcomes);
    if let Some(quantiles) = latency_ms {
        let _ = writeln!(text, "# TYPE loadtest_latency_seconds gauge");
        for (quantile, ms) in quantiles {
            let _ = writeln!(
                text,
                "loadtest_latency_seconds{{quantile=\"{quantile}\"}} {}",
                ms / 1000.0
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_figure_has_a_type_and_a_sample() {
        let viewers = Snapshot {
            joined: 7,
            ..Snapshot::default()
        };
        let text = exposition(&viewers, [3, 2, 1], Some([("0.5", 1.0), ("0.99", 1500.0)]));
        for line in [
            "# TYPE loadtest_viewers_total counter",
            "loadtest_viewers_total{event=\"joined\"} 7",
            "loadtest_frames_total{encoding=\"gzip\"} 0",
            "loadtest_posts_total{outcome=\"acknowledged\"} 2",
            "loadtest_latency_seconds{quantile=\"0.99\"} 1.5",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}: {text}");
        }
        assert!(!exposition(&viewers, [0; 3], None).contains("latency"));
    }

    #[tokio::test]
    async fn a_scrape_is_answered() {
        let recorder: Arc<Recorder> = Arc::default();
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let clock = Clock::start();
        let metrics = Metrics::start(address, clock, Lookout::default(), recorder);
        let _metrics = metrics.await.unwrap();
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(
            answer.contains("loadtest_viewers_total{event=\"joined\"} 0\n"),
            "{answer}"
        );
    }
}
