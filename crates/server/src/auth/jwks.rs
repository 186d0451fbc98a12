//! Owns keys that are published: a JSON Web Key Set in a file or at a URL, read again when a token names a key that is not in
//! it.

use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::str::FromStr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use danmaku_auth::{JwksError, KeySet, read_jwks};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::header::{ACCEPT, HOST};
use hyper::http::uri::Scheme;
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// Where a key set is: one value of `--jwks`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JwksSource {
    /// A file.
    File(PathBuf),
    /// An `https` URL with a host, or an `http` URL of this machine.
    Url(Uri),
}

/// A published key set: the last good one stays until there is a better one.
#[derive(Debug)]
pub struct Jwks {
    source: JwksSource,
    /// The keys that operators gave.
    own: KeySet,
    /// Both together.
    keys: RwLock<Arc<KeySet>>,
    /// A token names a key that is not there.
    wanted: Notify,
    /// How often the source was read, successfully or not, and when last.
    reads: watch::Sender<(u64, Option<Instant>)>,
}

/// Why no key set was read.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    /// The file, the connection or TLS failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The server does not speak HTTP.
    #[error("{0}")]
    Http(#[from] hyper::Error),
    /// The answer is no document.
    #[error("the status is {0}")]
    Status(StatusCode),
    /// The document is too large, or ended early.
    #[error("the document is longer than {DOCUMENT_BYTES_MAX} bytes or ended early")]
    Body,
    /// It took too long.
    #[error("no answer within {} s", READ_DEADLINE.as_secs())]
    Deadline,
    /// What is there cannot be used.
    #[error(transparent)]
    Document(#[from] JwksError),
}

impl FromStr for JwksSource {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if !text.contains("://") {
            return Ok(Self::File(text.into()));
        }
        let uri: Uri = text.parse().map_err(|_| NOT_A_SOURCE)?;
        // Whoever can change the document on its way can sign tokens.
        let is_safe = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => uri.host().is_some_and(is_this_machine),
            _ => false,
        };
        let no_password = uri.authority().is_some_and(|it| !it.as_str().contains('@'));
        if is_safe && no_password && uri.host().is_some_and(|host| !host.is_empty()) {
            Ok(Self::Url(uri))
        } else {
            Err(NOT_A_SOURCE)
        }
    }
}

impl Jwks {
    /// With the keys that operators gave until the source is read, and beside its keys after that.
    #[must_use]
    pub fn new(source: JwksSource, own: KeySet) -> Self {
        Self {
            source,
            keys: RwLock::new(Arc::new(own.clone())),
            own,
            wanted: Notify::new(),
            reads: watch::Sender::new((0, None)),
        }
    }

    /// The keys that operators gave, and those of the last good key set.
    #[must_use]
    pub fn keys(&self) -> Arc<KeySet> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Asks for the source to be read again, and waits until it was. Right after it was read, nothing happens: tokens with
    /// made-up keys must not become requests to the issuer.
    pub(super) async fn refresh(&self) {
        let mut reads = self.reads.subscribe();
        let (_, last) = *reads.borrow_and_update();
        if last.is_none_or(|last| last.elapsed() >= READ_PAUSE) {
            self.wanted.notify_one();
            let _ = tokio::time::timeout(REFRESH_WAIT_MAX, reads.changed()).await;
        }
    }

    /// Reads the source, now and then, and when a token needs it; forever. One log line tells when it cannot be read, and
    /// one when it can again.
    pub async fn keep_fresh(&self) {
        let mut failing = false;
        loop {
            match self.read_in_time().await {
                Ok(keys) => {
                    if std::mem::take(&mut failing) {
                        tracing::info!(keys = keys.len(), "the key set can be read again");
                    }
                    let keys = Arc::new(self.own.and(&keys));
                    *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        let keys = self.keys().len();
                        let outcome = match keys {
                            0 => "no token is accepted until it can be read",
                            _ => "the last good one stays",
                        };
                        tracing::warn!(%error, keys, "cannot read the key set; {outcome}");
                    }
                }
            }
            self.reads
                .send_modify(|(count, last)| (*count, *last) = (*count + 1, Some(Instant::now())));
            tokio::time::sleep(READ_PAUSE).await;
            if !failing {
                let _ = tokio::time::timeout(READ_INTERVAL, self.wanted.notified()).await;
            }
        }
    }

    async fn read_in_time(&self) -> Result<KeySet, ReadError> {
        let read = tokio::time::timeout(READ_DEADLINE, self.read());
        let document = read.await.map_err(|_| ReadError::Deadline)??;
        Ok(read_jwks(&document)?)
    }

    async fn read(&self) -> Result<Bytes, ReadError> {
        let uri = match &self.source {
            JwksSource::File(path) => return Ok(std::fs::read(path)?.into()),
            JwksSource::Url(uri) => uri,
        };
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let is_tls = uri.scheme() == Some(&Scheme::HTTPS);
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let stream = TcpStream::connect((host, port)).await?;
        if is_tls {
            let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
            let stream = TlsConnector::from(tls_config()?)
                .connect(name, stream)
                .await?;
            get(uri, stream).await
        } else {
            get(uri, stream).await
        }
    }
}

fn is_this_machine(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|it| it.is_loopback())
}

/// TLS 1.2 or 1.3, with the certificates that the system trusts (or those of `SSL_CERT_FILE`).
fn tls_config() -> io::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(io::Error::other("the system has no trusted certificates"));
    }
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// One `GET`. Redirects are not followed: keys come from where the operator said.
async fn get(uri: &Uri, stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<Bytes, ReadError> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path)
        .header(HOST, authority)
        .header(ACCEPT, "application/json")
        .body(Empty::<Bytes>::new())
        .expect("invariant: the parts are those of a URL");
    let exchange = async {
        let response = sender.send_request(request).await?;
        if response.status() != StatusCode::OK {
            return Err(ReadError::Status(response.status()));
        }
        let body = Limited::new(response.into_body(), DOCUMENT_BYTES_MAX);
        let body = body.collect().await.map_err(|_| ReadError::Body)?;
        Ok(body.to_bytes())
    };
    let (mut connection, mut exchange) = (pin!(connection), pin!(exchange));
    let mut is_connected = true;
    // The connection moves the bytes of the exchange, and its errors reach us there.
    poll_fn(|cx| {
        if is_connected {
            is_connected = connection.as_mut().poll(cx).is_pending();
        }
        exchange.as_mut().poll(cx)
    })
    .await
}

const NOT_A_SOURCE: &str =
    "a key set is a file, or an https URL without a password (http only from this machine)";

/// How often keys are read without a reason, so that those that are gone are forgotten.
const READ_INTERVAL: Duration = Duration::from_secs(300);

/// The shortest time between two reads.
const READ_PAUSE: Duration = Duration::from_secs(5);

/// How long one read may take.
const READ_DEADLINE: Duration = Duration::from_secs(5);

/// How long a token with an unknown key waits.
const REFRESH_WAIT_MAX: Duration = Duration::from_secs(6);

/// Longest document.
const DOCUMENT_BYTES_MAX: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources() {
        #[track_caller]
        fn check(text: &str, expected: Option<bool>) {
            let source = text.parse::<JwksSource>().ok();
            let is_url = source.map(|source| matches!(source, JwksSource::Url(_)));
            assert_eq!(is_url, expected, "{text}");
        }
        check("keys.json", Some(false));
        check("/etc/keys.json", Some(false));
        check("https://id.example/keys", Some(true));
        check("http://127.0.0.1:8000/keys?x=1", Some(true));
        check("http://[::1]/keys", Some(true));
        check("http://localhost/keys", Some(true));
        check("http://id.example/keys", None);
        check("http://localhost.id.example/keys", None);
        check("http://10.0.0.1/keys", None);
        check("ftp://id.example/keys", None);
        check("https://user:secret@id.example/keys", None);
        check("https://", None);
        check("://x", None);
    }
}
