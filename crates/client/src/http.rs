//! The HTTP API over one kept-alive connection.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;

use danmaku_wire::{Epoch, IdempotencyKey, Position, RoomId, Seq};

use crate::ServerAddress;
use crate::access::Access;
use crate::comment::NewComment;
use crate::error::{ClientError, Refusal};
use crate::event::raw::{RawComment, RawGap, RawRoomEvent};
use crate::event::{Comment, Gap, RoomEvent};
use crate::handshake;

/// Speaks HTTP/1.1 with one server, one request at a time, over a connection that is kept and renewed when the server drops
/// it.
pub struct HttpClient {
    server: ServerAddress,
    access: Access,
    deadline: Duration,
    sender: Option<SendRequest<Full<Bytes>>>,
}

/// A response with any status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpAnswer {
    /// The status.
    pub status: StatusCode,
    /// The whole body.
    pub body: Bytes,
}

/// Where accepted comments are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Posted {
    /// The run of positions the room is in.
    pub epoch: Epoch,
    /// One position for each comment, in the order they were given.
    pub ids: Vec<Seq>,
    /// Set if a moderator has to allow the comment first; then it has no position yet.
    pub held: Option<u64>,
}

/// A part of a room's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The run of positions the room is in.
    pub epoch: Epoch,
    /// Where it begins: the position asked for, or a later one when the positions after that are gone.
    pub after: Seq,
    /// The last position it covers: the next page begins here.
    pub seq: Seq,
    /// Whether there is more after it now.
    pub more: bool,
    /// Requested positions that are gone.
    pub gap: Option<Gap>,
    /// The comments, by position.
    pub comments: Vec<Comment>,
    /// The events, by position.
    pub events: Vec<RoomEvent>,
}

/// Largest response that is read.
const ANSWER_BYTES_MAX: usize = 16 << 20;

impl HttpClient {
    /// A client that connects at its first request; every request may take ten seconds.
    #[must_use]
    pub fn new(server: ServerAddress) -> Self {
        Self {
            server,
            access: Access::default(),
            deadline: Duration::from_secs(10),
            sender: None,
        }
    }

    /// Gets in this way.
    #[must_use]
    pub fn with_access(self, access: Access) -> Self {
        Self { access, ..self }
    }

    /// Posts comments to a room: as one object when it is one, as an array otherwise.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the server's words, or no answer.
    pub async fn post_comments(
        &mut self,
        room: &RoomId,
        comments: &[NewComment],
    ) -> Result<Posted, ClientError> {
        self.post(room, comments, None).await
    }

    /// Like [`HttpClient::post_comments`], with a key that makes it safe to retry when the outcome is unknown.
    ///
    /// # Errors
    /// As [`HttpClient::post_comments`].
    pub async fn post_comments_with_key(
        &mut self,
        room: &RoomId,
        comments: &[NewComment],
        key: &IdempotencyKey,
    ) -> Result<Posted, ClientError> {
        self.post(room, comments, Some(key)).await
    }

    async fn post(
        &mut self,
        room: &RoomId,
        comments: &[NewComment],
        key: Option<&IdempotencyKey>,
    ) -> Result<Posted, ClientError> {
        let path = comments_path(room);
        let answer = self
            .send_keyed(Method::POST, &path, body_of(comments), key)
            .await?;
        if answer.status == StatusCode::ACCEPTED {
            let raw: RawHeld = answer.json()?;
            return Ok(Posted {
                epoch: Epoch::new(0),
                ids: Vec::new(),
                held: Some(raw.held),
            });
        }
        if answer.status != StatusCode::CREATED {
            return Err(answer.refusal());
        }
        let raw: RawPosted = answer.json()?;
        let ids = match (raw.id, raw.ids) {
            (Some(id), _) => vec![Seq::new(id)],
            (None, ids) => ids.into_iter().map(Seq::new).collect(),
        };
        if ids.len() != comments.len() {
            return Err(ClientError::NotTheProtocol(
                "the answer to a post has another number of ids than comments",
            ));
        }
        Ok(Posted {
            epoch: Epoch::new(raw.epoch),
            ids,
            held: None,
        })
    }

    /// Reads at most `limit` comments and events of a room after a position; from the oldest held without one, and as many as
    /// the server gives without a limit.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the server's words, no answer, or one that is not the protocol.
    pub async fn comments(
        &mut self,
        room: &RoomId,
        since: Option<Position>,
        limit: Option<usize>,
    ) -> Result<Page, ClientError> {
        let since = since.map(|since| format!("since={since}"));
        let limit = limit.map(|limit| format!("limit={limit}"));
        let query: Vec<String> = since.into_iter().chain(limit).collect();
        let question = if query.is_empty() { "" } else { "?" };
        let path = format!("{}{question}{}", comments_path(room), query.join("&"));
        let answer = self.send(Method::GET, &path, Bytes::new()).await?;
        if !answer.status.is_success() {
            return Err(answer.refusal());
        }
        answer.json::<RawPage>()?.page()
    }

    /// Retracts a comment: viewers are told to remove it.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the server's words, or no answer.
    pub async fn delete_comment(&mut self, room: &RoomId, id: Seq) -> Result<(), ClientError> {
        let path = format!("{}/{id}", comments_path(room));
        let answer = self.send(Method::DELETE, &path, Bytes::new()).await?;
        if answer.status == StatusCode::NO_CONTENT {
            Ok(())
        } else {
            Err(answer.refusal())
        }
    }

    /// Gets a JSON document.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the server's words, no answer, or a body that is not JSON.
    pub async fn get_json(&mut self, path: &str) -> Result<serde_json::Value, ClientError> {
        let answer = self.send(Method::GET, path, Bytes::new()).await?;
        if answer.status.is_success() {
            answer.json()
        } else {
            Err(answer.refusal())
        }
    }

    /// Gets a document as text, such as `/metrics`.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the server's words, no answer, or a body that is not UTF-8.
    pub async fn get_text(&mut self, path: &str) -> Result<String, ClientError> {
        let answer = self.send(Method::GET, path, Bytes::new()).await?;
        if !answer.status.is_success() {
            return Err(answer.refusal());
        }
        String::from_utf8(answer.body.into())
            .map_err(|_| ClientError::NotTheProtocol("a text document that is not UTF-8"))
    }

    /// Gets a document of any length, piece by piece. The connection is the download's from then on.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the server's words, or no answer.
    pub async fn download(mut self, path: &str) -> Result<Download, ClientError> {
        let deadline = self.deadline;
        let request = self.request(&Method::GET, path, &Bytes::new(), None)?;
        let answer = async { Ok(self.ready().await?.send_request(request).await?) };
        let response = handshake::within(deadline, answer).await?;
        if !response.status().is_success() {
            return Err(handshake::refusal(response).await);
        }
        Ok(Download {
            body: response.into_body(),
            deadline,
            _sender: self.sender,
        })
    }

    /// Sends one request and reads the whole answer, whatever its status.
    ///
    /// # Errors
    /// No connection, or no answer in time.
    pub async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<HttpAnswer, ClientError> {
        self.send_keyed(method, path, body, None).await
    }

    async fn send_keyed(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
        key: Option<&IdempotencyKey>,
    ) -> Result<HttpAnswer, ClientError> {
        let deadline = self.deadline;
        let exchange = self.exchange(method, path, body, key);
        let answer = handshake::within(deadline, exchange).await;
        if answer.is_err() {
            // The connection's state is unknown: the answer may still be on its way.
            self.sender = None;
        }
        answer
    }

    async fn exchange(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
        key: Option<&IdempotencyKey>,
    ) -> Result<HttpAnswer, ClientError> {
        let reused = self.sender.is_some();
        let request = self.request(&method, path, &body, key)?;
        let response = match self.ready().await?.send_request(request).await {
            // Cancelled means that not one byte was written: the server had dropped the idle connection. Safe to repeat.
            Err(error) if reused && error.is_canceled() => {
                self.sender = None;
                let request = self.request(&method, path, &body, key)?;
                self.ready().await?.send_request(request).await?
            }
            other => other?,
        };
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await
            .map_err(|_| {
                ClientError::NotTheProtocol("the response body ended early or is over 16 MiB")
            })?;
        Ok(HttpAnswer {
            status,
            body: body.to_bytes(),
        })
    }

    fn request(
        &self,
        method: &Method,
        path: &str,
        body: &Bytes,
        key: Option<&IdempotencyKey>,
    ) -> Result<Request<Full<Bytes>>, ClientError> {
        let request = Request::builder()
            .method(method)
            .uri(self.server.path(path))
            .header(HOST, self.server.authority());
        let request = if body.is_empty() {
            request
        } else {
            request.header(CONTENT_TYPE, "application/json")
        };
        let request = match key {
            Some(key) => request.header("Idempotency-Key", key.as_str()),
            None => request,
        };
        let mut request = request
            .body(Full::new(body.clone()))
            .map_err(|_| ClientError::NotTheProtocol("the path does not make a valid request"))?;
        handshake::add_headers(request.headers_mut(), &self.access);
        Ok(request)
    }

    /// The kept connection if it still works, otherwise a new one.
    async fn ready(&mut self) -> Result<&mut SendRequest<Full<Bytes>>, ClientError> {
        let kept = match self.sender.take() {
            Some(mut sender) => sender.ready().await.is_ok().then_some(sender),
            None => None,
        };
        let sender = match kept {
            Some(sender) => sender,
            None => {
                let stream = handshake::dial(&self.server, &self.access).await?;
                let (sender, connection) =
                    hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
                // The task ends with the connection; its error reaches us through `sender`.
                tokio::spawn(connection);
                sender
            }
        };
        Ok(self.sender.insert(sender))
    }
}

/// A document that is being received.
#[derive(Debug)]
pub struct Download {
    body: Incoming,
    deadline: Duration,
    /// The connection ends without it.
    _sender: Option<SendRequest<Full<Bytes>>>,
}

impl Download {
    /// The next piece; `None` after the last one.
    ///
    /// # Errors
    /// The server broke off, or sends nothing for as long as a request may take: the document is not complete.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        loop {
            let frame = handshake::within(self.deadline, async {
                Ok(self.body.frame().await.transpose()?)
            });
            match frame.await?.map(Frame::into_data) {
                None => return Ok(None),
                Some(Ok(bytes)) => return Ok(Some(bytes)),
                // Trailers.
                Some(Err(_)) => {}
            }
        }
    }
}

fn comments_path(room: &RoomId) -> String {
    format!("/v1/rooms/{room}/comments")
}

/// One comment is sent as an object, several as an array, as the API takes them.
fn body_of(comments: &[NewComment]) -> Bytes {
    let json = match comments {
        [one] => serde_json::to_vec(one),
        many => serde_json::to_vec(many),
    };
    json.expect("invariant: JSON values always serialise")
        .into()
}

impl HttpAnswer {
    fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, ClientError> {
        serde_json::from_slice(&self.body)
            .map_err(|_| ClientError::NotTheProtocol("the response is not the expected JSON"))
    }

    fn refusal(&self) -> ClientError {
        ClientError::Refused(Refusal::from_body(self.status.as_u16(), &self.body))
    }
}

#[derive(Deserialize)]
struct RawHeld {
    held: u64,
}

#[derive(Deserialize)]
struct RawPosted {
    epoch: u64,
    id: Option<u64>,
    #[serde(default)]
    ids: Vec<u64>,
}

#[derive(Deserialize)]
struct RawPage {
    epoch: u64,
    after: u64,
    seq: u64,
    more: bool,
    gap: Option<RawGap>,
    comments: Vec<LoggedComment>,
    #[serde(default)]
    events: Vec<RawRoomEvent>,
}

/// A comment that carries its own id and log time.
#[derive(Deserialize)]
struct LoggedComment {
    id: u64,
    ts: u64,
    #[serde(flatten)]
    comment: RawComment,
}

impl RawPage {
    fn page(self) -> Result<Page, ClientError> {
        let comments = self.comments.into_iter();
        Ok(Page {
            epoch: Epoch::new(self.epoch),
            after: Seq::new(self.after),
            seq: Seq::new(self.seq),
            more: self.more,
            gap: self.gap.map(RawGap::gap).transpose()?,
            comments: comments
                .map(|logged| logged.comment.comment(Seq::new(logged.id), logged.ts))
                .collect::<Result<_, _>>()?,
            events: RawRoomEvent::events(self.events)?,
        })
    }
}
