//! The opening handshake (RFC 6455 section 4.1): from an address to a socket that speaks WebSocket.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::header::{CONNECTION, HOST, HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT, UPGRADE};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::ServerAddress;
use crate::access::Access;
use crate::connect::Connect;
use crate::error::{ClientError, Refusal};
use crate::stream::Stream;

/// Largest error body that is read: the server's error shape is a few hundred bytes.
const ERROR_BODY_BYTES_MAX: usize = 64 << 10;

/// A socket after its handshake, with what the server has already sent after it.
pub(crate) struct Upgraded {
    pub(crate) stream: Stream,
    pub(crate) read_ahead: Bytes,
}

/// Opens a connection that sends small messages at once.
pub(crate) async fn dial(server: &ServerAddress, access: &Access) -> Result<Stream, ClientError> {
    let unreachable = |source| ClientError::Unreachable {
        address: server.authority(),
        source,
    };
    let stream = TcpStream::connect((server.host(), server.port()))
        .await
        .map_err(unreachable)?;
    stream.set_nodelay(true).map_err(unreachable)?;
    if !server.is_tls() {
        return Ok(Stream::Plain(stream));
    }
    let name = ServerName::try_from(server.host().to_owned())
        .map_err(|_| ClientError::NotTheProtocol("the host is not a name that TLS can check"))?;
    let secured = TlsConnector::from(access.tls()?).connect(name, stream);
    Ok(Stream::Tls(Box::new(secured.await.map_err(unreachable)?)))
}

/// Runs `work` under a deadline.
pub(crate) async fn within<T>(
    deadline: Duration,
    work: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    tokio::time::timeout(deadline, work)
        .await
        .unwrap_or(Err(ClientError::Deadline(deadline)))
}

/// Requests an upgrade to WebSocket at `path_and_query`.
///
/// hyper does the HTTP part instead of `fastwebsockets::handshake::client`, because that one drops the body of a refusal,
/// and the body is where the server says why.
pub(crate) async fn upgrade(
    connect: &Connect,
    path_and_query: &str,
) -> Result<Upgraded, ClientError> {
    let stream = dial(&connect.server, &connect.access).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // The task ends when the connection is handed over, refused or broken; the error then reaches us through `sender`.
    tokio::spawn(connection.with_upgrades());
    let mut request = upgrade_request(connect, path_and_query)?;
    let accept = expected_accept(&mut request)?;
    let response = sender.send_request(request).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(refusal(response).await);
    }
    verify(response.headers(), &accept)?;
    let parts = hyper::upgrade::on(response)
        .await?
        .downcast::<TokioIo<Stream>>()
        .map_err(|_| {
            ClientError::NotTheProtocol("the upgraded connection is not the original socket")
        })?;
    Ok(Upgraded {
        stream: parts.io.into_inner(),
        read_ahead: parts.read_buf,
    })
}

fn upgrade_request(
    connect: &Connect,
    path_and_query: &str,
) -> Result<Request<Empty<Bytes>>, ClientError> {
    let mut request = Request::get(path_and_query)
        .header(HOST, connect.server.authority())
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header(
            "Sec-WebSocket-Key",
            fastwebsockets::handshake::generate_key(),
        )
        .header("Sec-WebSocket-Version", "13")
        .body(Empty::new())
        .map_err(|_| ClientError::NotTheProtocol("the address does not make a valid request"))?;
    add_headers(request.headers_mut(), &connect.access);
    Ok(request)
}

/// Adds the operator's headers.
pub(crate) fn add_headers(headers: &mut HeaderMap, access: &Access) {
    let added = access.headers().iter();
    headers.extend(added.map(|(name, value)| (name.clone(), value.clone())));
}

/// The `Sec-WebSocket-Accept` a server must answer with. `fastwebsockets` only computes it as part of a server's answer, so
/// we have it answer our own request.
fn expected_accept(request: &mut Request<Empty<Bytes>>) -> Result<HeaderValue, ClientError> {
    let (mut answer, _) = fastwebsockets::upgrade::upgrade(request)?;
    answer
        .headers_mut()
        .remove(SEC_WEBSOCKET_ACCEPT)
        .ok_or(ClientError::NotTheProtocol(
            "no accept value could be computed",
        ))
}

fn verify(headers: &HeaderMap, accept: &HeaderValue) -> Result<(), ClientError> {
    let is = |name, expected: &str| {
        headers.get(name).is_some_and(|value: &HeaderValue| {
            value.as_bytes().eq_ignore_ascii_case(expected.as_bytes())
        })
    };
    if !is(UPGRADE, "websocket") || !is(CONNECTION, "upgrade") {
        return Err(ClientError::NotTheProtocol(
            "the answer is no WebSocket upgrade",
        ));
    }
    if headers.get(SEC_WEBSOCKET_ACCEPT) != Some(accept) {
        return Err(ClientError::NotTheProtocol(
            "Sec-WebSocket-Accept does not match the key",
        ));
    }
    Ok(())
}

/// The server's error response.
pub(crate) async fn refusal(response: Response<hyper::body::Incoming>) -> ClientError {
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), ERROR_BODY_BYTES_MAX)
        .collect()
        .await;
    let body = body
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    ClientError::Refused(Refusal::from_body(status, &body))
}
