//! The harness against a server behind TLS: a proxy of this test, and nginx with `deploy/nginx-tls.conf`, which `cargo xtask
//! test` installs.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use danmaku_server::config::ServeArgs;
use danmaku_server::tasks::Server;
use rcgen::CertifiedKey;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

const PATIENCE: Duration = Duration::from_secs(60);
const SECRET: &str = "0123456789abcdef0123456789abcdef";

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    serve: ServeArgs,
}

/// A server, a certificate for whatever stands before it, and a token's key.
struct Stand {
    server: Server,
    folder: TempDir,
    certificate: CertifiedKey<rcgen::KeyPair>,
}

impl Stand {
    fn start() -> Self {
        let flags = "server --listen 127.0.0.1:0 --window-ms 200 --trusted-proxies 127.0.0.0/8 \
            --posts-per-second-per-address 10000 --posts-per-second-per-address-burst 10000 \
            --posts-per-second-per-room 10000 --posts-per-second-per-room-burst 10000 \
            --posts-per-second-per-connection 10000 --posts-per-second-per-connection-burst 10000";
        let flags = Flags::parse_from(flags.split_whitespace());
        let names = ["localhost", "127.0.0.1"].map(str::to_owned);
        let stand = Self {
            server: Server::start(flags.serve.check(1024).unwrap()).unwrap(),
            folder: TempDir::new().unwrap(),
            certificate: rcgen::generate_simple_self_signed(names).unwrap(),
        };
        std::fs::write(stand.file("ca.pem"), stand.certificate.cert.pem()).unwrap();
        let key = stand.certificate.signing_key.serialize_pem();
        std::fs::write(stand.file("key.pem"), key).unwrap();
        std::fs::write(stand.file("secret"), SECRET).unwrap();
        stand
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts a proxy that ends TLS.
    async fn proxy(&self) -> SocketAddr {
        let key = PrivatePkcs8KeyDer::from(self.certificate.signing_key.serialize_der());
        let chain = vec![self.certificate.cert.der().clone()];
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key.into())
            .unwrap();
        let (acceptor, server) = (TlsAcceptor::from(Arc::new(config)), self.server.address());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // Clients that do not trust the certificate go away here.
                    let Ok(mut secured) = acceptor.accept(stream).await else {
                        return;
                    };
                    let mut plain = TcpStream::connect(server).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut secured, &mut plain).await;
                });
            }
        });
        address
    }

    /// Runs the harness; returns its exit code, its words and its report.
    async fn run(&self, url: String, more: &[&str]) -> (Option<i32>, String, Value) {
        let json = self.file("report.json");
        let _ = std::fs::remove_file(&json);
        let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_danmaku-loadtest"))
            .args("run --viewers 40 --rooms 2 --duration-s 2 --settle-s 0 --rate 60".split(' '))
            .args(["--late-ms=60000", "--drain-s=60", "--url", &url, "--json"])
            .arg(&json)
            .args(more)
            .output()
            .await
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        let report = std::fs::read(&json).unwrap_or_default();
        let report = serde_json::from_slice(&report).unwrap_or_default();
        (output.status.code(), text, report)
    }
}

fn flag(name: &str, path: &Path) -> String {
    format!("--{name}={}", path.display())
}

/// Every acknowledged comment was delivered to every viewer.
fn check_complete(text: &str, report: &Value) {
    let acknowledged = report["posts"]["acknowledged"].as_u64();
    assert!(acknowledged > Some(0), "{text}");
    assert_eq!(
        report["audit"]["delivered"].as_u64(),
        acknowledged.map(|it| 20 * it),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn viewers_and_posters_use_tls() {
    let stand = Stand::start();
    let address = stand.proxy().await;
    let trusted = flag("ca", &stand.file("ca.pem"));
    for (url, more) in [
        (
            format!("https://{address}"),
            &[trusted.as_str(), "--post-via=ws"][..],
        ),
        (
            format!("wss://localhost:{}", address.port()),
            &[trusted.as_str()],
        ),
        (format!("https://{address}"), &["--insecure"]),
        (
            format!("https://{address}"),
            &["--insecure", "--protocol=sse"],
        ),
    ] {
        let prefix = format!("--room-prefix=r{}", url.len() + more.concat().len());
        let (code, text, report) = stand.run(url, &[more, &[prefix.as_str()]].concat()).await;
        assert_eq!(code, Some(0), "{more:?}: {text}");
        check_complete(&text, &report);
    }
    let (code, text, _) = stand.run(format!("https://{address}"), &[]).await;
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("invalid peer certificate"), "{text}");
    stand.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn comments_are_those_of_the_users_whom_tokens_name() {
    let stand = Stand::start();
    let url = format!("http://{}", stand.server.address());
    let key = flag("token-key", &stand.file("secret"));
    let sources = "--source-addresses=127.0.0.7,127.0.0.8";
    let more = [key.as_str(), sources, "--history-percent=50", "--history=5"];
    let (code, text, report) = stand.run(url.clone(), &more).await;
    assert_eq!(code, Some(0), "{text}");
    check_complete(&text, &report);
    let (code, text, _) = stand.run(url, &["--token-file=/nowhere"]).await;
    assert_eq!(code, Some(2), "{text}");
    let mut http =
        danmaku_client::HttpClient::new(stand.server.address().to_string().parse().unwrap());
    let page = http
        .get_json("/v1/rooms/load-0/comments?limit=1")
        .await
        .unwrap();
    let user = page["comments"][0]["user"].as_str().unwrap();
    assert!(user.starts_with("load-poster-"), "{page}");
    stand.server.stop().await;
}

/// nginx with its files in a folder of the test. Dropping it ends it.
struct Nginx(Child);

impl Nginx {
    /// Runs deploy/nginx-tls.conf, with the addresses and files of the test; requests without a token are refused.
    fn start(stand: &Stand, address: SocketAddr) -> Self {
        let nginx = std::env::var("DANMAKU_TEST_NGINX")
            .expect("DANMAKU_TEST_NGINX is not set: run this test with `cargo xtask test`");
        let said = stand.folder.path().display().to_string();
        let mut site = include_str!("../../deploy/nginx-tls.conf").to_owned();
        for (operators, ours) in [
            ("listen 443", format!("listen {address}")),
            (
                "server 127.0.0.1:8080",
                format!("server {}", stand.server.address()),
            ),
            ("/etc/nginx/danmaku.crt", format!("{said}/ca.pem")),
            ("/etc/nginx/danmaku.key", format!("{said}/key.pem")),
            (
                "location /chat/ {",
                "location /chat/ {\n if ($http_authorization !~ ^Bearer) { return 401; }"
                    .to_owned(),
            ),
        ] {
            assert_eq!(site.matches(operators).count(), 1, "{operators}");
            site = site.replace(operators, &ours);
        }
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|kind| format!("{kind}_temp_path {said}/{kind};\n"))
            .collect();
        let main = format!(
            "daemon off;\nmaster_process off;\npid {said}/pid;\nerror_log stderr warn;\n\
             events {{ worker_connections 1024; }}\nhttp {{\naccess_log off;\n{temporary}{site}}}\n"
        );
        std::fs::write(stand.file("nginx.conf"), main).unwrap();
        let process = Command::new(nginx)
            .args(["-p", &said, "-c", "nginx.conf", "-e", "stderr"])
            .spawn();
        let nginx = Self(process.unwrap());
        let start = Instant::now();
        while std::net::TcpStream::connect(address).is_err() {
            assert!(start.elapsed() < PATIENCE, "nginx does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        nginx
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx: `cargo xtask test` installs it"]
async fn viewers_with_tokens_come_through_nginx() {
    let stand = Stand::start();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let _nginx = Nginx::start(&stand, address);
    let url = format!("https://{address}/chat");
    let trusted = flag("ca", &stand.file("ca.pem"));
    let key = flag("token-key", &stand.file("secret"));
    let (code, text, report) = stand.run(url.clone(), &[&trusted, &key]).await;
    assert_eq!(code, Some(0), "{text}");
    check_complete(&text, &report);
    let (code, text, _) = stand.run(url, &[&trusted]).await;
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("401"), "{text}");
    stand.server.stop().await;
}
