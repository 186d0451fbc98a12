//! The HTTP API over one kept-alive connection.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::SendRequest;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;

use danmaku_wire::{Epoch, RoomId, Seq};

use crate::ServerAddress;
use crate::comment::NewComment;
use crate::error::{ClientError, Refusal};
use crate::handshake;

/// Speaks HTTP/1.1 with one server, one request at a time, over a connection that is kept and renewed when the server drops
/// it.
pub struct HttpClient {
    server: ServerAddress,
    deadline: Duration,
    sender: Option<SendRequest<Full<Bytes>>>,
}

/// An answer of any status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The whole body.
    pub body: Bytes,
}

/// Where accepted comments are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Posted {
    /// The numbering of the room.
    pub epoch: Epoch,
    /// One position for each comment, in the order they were given.
    pub ids: Vec<Seq>,
}

/// Largest answer that is read.
const ANSWER_BYTES_MAX: usize = 16 << 20;

impl HttpClient {
    /// A client that connects at its first request; every request may take ten seconds.
    #[must_use]
    pub fn new(server: ServerAddress) -> Self {
        Self {
            server,
            deadline: Duration::from_secs(10),
            sender: None,
        }
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
        let answer = self
            .send(
                Method::POST,
                &format!("/v1/rooms/{room}/comments"),
                body_of(comments),
            )
            .await?;
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
        })
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

    /// Sends one request and reads the whole answer, whatever its status.
    ///
    /// # Errors
    /// No connection, or no answer in time.
    pub async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Answer, ClientError> {
        let deadline = self.deadline;
        let answer = handshake::within(deadline, self.exchange(method, path, body)).await;
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
    ) -> Result<Answer, ClientError> {
        let reused = self.sender.is_some();
        let request = self.request(&method, path, &body)?;
        let response = match self.ready().await?.send_request(request).await {
            // Cancelled means that not one byte was written: the server had dropped the idle connection. Safe to repeat.
            Err(error) if reused && error.is_canceled() => {
                self.sender = None;
                let request = self.request(&method, path, &body)?;
                self.ready().await?.send_request(request).await?
            }
            other => other?,
        };
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await
            .map_err(|_| {
                ClientError::NotTheProtocol("the answer's body broke off or is over 16 MiB")
            })?;
        Ok(Answer {
            status,
            body: body.to_bytes(),
        })
    }

    fn request(
        &self,
        method: &Method,
        path: &str,
        body: &Bytes,
    ) -> Result<Request<Full<Bytes>>, ClientError> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.server.authority());
        let request = if body.is_empty() {
            request
        } else {
            request.header(CONTENT_TYPE, "application/json")
        };
        request
            .body(Full::new(body.clone()))
            .map_err(|_| ClientError::NotTheProtocol("the path makes no request"))
    }

    /// The kept connection when it still works, a new one otherwise.
    async fn ready(&mut self) -> Result<&mut SendRequest<Full<Bytes>>, ClientError> {
        let kept = match self.sender.take() {
            Some(mut sender) => sender.ready().await.is_ok().then_some(sender),
            None => None,
        };
        let sender = match kept {
            Some(sender) => sender,
            None => {
                let stream = handshake::dial(&self.server).await?;
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

/// One comment is sent as an object, several as an array, as the API takes them.
fn body_of(comments: &[NewComment]) -> Bytes {
    let json = match comments {
        [one] => serde_json::to_vec(one),
        many => serde_json::to_vec(many),
    };
    json.expect("invariant: strings and integers always serialise")
        .into()
}

impl Answer {
    fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, ClientError> {
        serde_json::from_slice(&self.body)
            .map_err(|_| ClientError::NotTheProtocol("the answer is not the expected JSON"))
    }

    fn refusal(&self) -> ClientError {
        ClientError::Refused(Refusal::from_body(self.status.as_u16(), &self.body))
    }
}

#[derive(Deserialize)]
struct RawPosted {
    epoch: u64,
    id: Option<u64>,
    #[serde(default)]
    ids: Vec<u64>,
}
