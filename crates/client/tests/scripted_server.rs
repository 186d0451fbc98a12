//! The client against a server that says exactly what a test wants, over real sockets.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use danmaku_client::{
    Ack, ClientError, Closed, Connect, Connection, Event, Gap, HttpClient, NewComment, Reference,
};
use danmaku_wire::{
    Batch, CommentLimits, CommentText, CompressionPolicy, DeflateViewers, Encoding, Epoch,
    Position, RoomId, Sealer, Seq,
};
use fastwebsockets::{Frame, OpCode, Payload, WebSocket};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

type Socket = WebSocket<TokioIo<Upgraded>>;

/// Serves every connection with `answer`.
async fn serve<F>(
    answer: impl Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
) -> SocketAddr
where
    F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let response = answer(request);
                    async move { Ok::<_, std::convert::Infallible>(response.await) }
                });
                let connection = hyper::server::conn::http1::Builder::new();
                let _ = connection
                    .serve_connection(TokioIo::new(stream), service)
                    .with_upgrades()
                    .await;
            });
        }
    });
    address
}

/// Serves WebSocket connections with `script`.
async fn serve_socket<F>(
    script: impl Fn(String, Socket) -> F + Clone + Send + Sync + 'static,
) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    serve(move |mut request| {
        let script = script.clone();
        async move {
            let uri = request.uri().to_string();
            let (response, upgrade) = fastwebsockets::upgrade::upgrade(&mut request).unwrap();
            tokio::spawn(async move { script(uri, upgrade.await.unwrap()).await });
            response.map(|_| Full::default())
        }
    })
    .await
}

fn answer(status: u16, body: &'static str) -> Response<Full<Bytes>> {
    Response::builder()
        .status(status)
        .body(Full::from(body))
        .unwrap()
}

fn connect(address: SocketAddr, encoding: Encoding) -> Connect {
    let room = RoomId::parse("room.1").unwrap();
    Connect {
        encoding,
        ..Connect::new(address.to_string().parse().unwrap(), room)
    }
}

async fn text(socket: &mut Socket, json: &str) {
    socket
        .write_frame(Frame::text(Payload::Borrowed(json.as_bytes())))
        .await
        .unwrap();
}

#[tokio::test]
async fn the_request_names_room_encoding_and_position() {
    let address = serve_socket(|uri, mut socket| async move {
        text(&mut socket, &format!(r#"{{"type":"{uri}"}}"#)).await;
    })
    .await;
    let since = Some(Position {
        epoch: Epoch::new(9),
        seq: Seq::new(4),
    });
    let connect = Connect {
        since,
        history: Some(20),
        ..connect(address, Encoding::Gzip)
    };
    let mut connection = Connection::connect(&connect).await.unwrap();
    let expected = "/v1/rooms/room.1/ws?encoding=gzip&since=9:4&history=20";
    assert_eq!(
        connection.next().await.unwrap(),
        Event::Other(expected.to_owned())
    );
}

#[tokio::test]
async fn batches_of_every_encoding_arrive_as_the_same_event() {
    let address = serve_socket(|uri, mut socket| async move {
        let encoding = Encoding::ALL
            .into_iter()
            .find(|encoding| uri.contains(encoding.as_str()))
            .unwrap();
        let mut sealer = Sealer::new(CompressionPolicy::default());
        let mut cursor = danmaku_wire::DeflateCursor::default();
        for first in [1_u64, 3, 5] {
            let text = |text: &str| {
                danmaku_wire::Comment::new(
                    CommentText::new(text, &CommentLimits::default()).unwrap(),
                )
                .fragment()
            };
            let comments = vec![
                (Seq::new(first), text("前方高能")),
                (Seq::new(first + 1), text("哈哈哈")),
            ];
            let batch = Batch {
                first: Seq::new(first),
                ts_ms: 7,
                viewers: 1,
                likes: 0,
                shed: 0,
                comments,
            };
            let set = sealer.seal(&batch, DeflateViewers::Some);
            let frame = danmaku_wire::frame_for(encoding, &mut cursor, &set);
            // The frame carries its own head; the server side of fastwebsockets would add another one.
            socket = {
                let mut stream = socket.into_inner();
                tokio::io::AsyncWriteExt::write_all(&mut stream, frame)
                    .await
                    .unwrap();
                WebSocket::after_handshake(stream, fastwebsockets::Role::Server)
            };
        }
        text(&mut socket, r#"{"type":"gap","from":7,"to":9}"#).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
    })
    .await;
    for encoding in Encoding::ALL {
        let mut connection = Connection::connect(&connect(address, encoding))
            .await
            .unwrap();
        for first in [1, 3, 5] {
            let Event::Batch(batch) = connection.next().await.unwrap() else {
                panic!("no batch in {encoding:?}")
            };
            let ids: Vec<u64> = batch
                .comments
                .iter()
                .map(|comment| comment.id.value())
                .collect();
            assert_eq!(ids, [first, first + 1], "in {encoding:?}");
            assert_eq!(batch.comments[0].text, "前方高能");
        }
        let gap = Gap {
            from: Seq::new(7),
            to: Seq::new(9),
        };
        assert_eq!(connection.next().await.unwrap(), Event::Gap(gap));
    }
}

#[tokio::test]
async fn posts_carry_their_reference_and_pings_are_answered() {
    let address = serve_socket(|_, mut socket| async move {
        socket.set_auto_pong(false);
        socket
            .write_frame(Frame::new(
                true,
                OpCode::Ping,
                None,
                Payload::Borrowed(b"p"),
            ))
            .await
            .unwrap();
        let (mut pongs, mut posts) = (0, 0);
        while (pongs, posts) != (1, 1) {
            let frame = socket.read_frame().await.unwrap();
            match frame.opcode {
                OpCode::Pong => {
                    assert_eq!(&*frame.payload, b"p");
                    pongs += 1;
                }
                _ => {
                    assert_eq!(
                        &*frame.payload,
                        br#"{"type":"comment","ref":"r1","text":"hi"}"#
                    );
                    posts += 1;
                }
            }
        }
        text(&mut socket, r#"{"type":"ack","ref":"r1","id":12}"#).await;
        socket
            .write_frame(Frame::close(4001, b"slow_consumer"))
            .await
            .unwrap();
        // Leaves time for the close frame to arrive before the reset that dropping the socket may cause.
        let _ = socket.read_frame().await;
    })
    .await;
    let mut connection = Connection::connect(&connect(address, Encoding::Identity))
        .await
        .unwrap();
    let reference = Reference::from("r1");
    connection
        .post(&NewComment::new("hi"), Some(&reference))
        .await
        .unwrap();
    let ack = Ack {
        reference: Some(reference),
        id: Seq::new(12),
    };
    assert_eq!(connection.next().await.unwrap(), Event::Ack(ack));
    let closed = Closed {
        code: 4001,
        reason: "slow_consumer".to_owned(),
    };
    assert_eq!(connection.next().await.unwrap(), Event::Closed(closed));
    assert!(matches!(connection.next().await, Err(ClientError::Ended)));
}

#[tokio::test]
async fn a_cut_connection_is_closed_1006() {
    let address = serve_socket(|_, socket| async move { drop(socket) }).await;
    let mut connection = Connection::connect(&connect(address, Encoding::Identity))
        .await
        .unwrap();
    let event = connection.next().await.unwrap();
    assert!(
        matches!(event, Event::Closed(Closed { code: 1006, .. })),
        "{event:?}"
    );
}

#[tokio::test]
async fn a_polite_close_waits_for_the_server() {
    let address = serve_socket(|_, mut socket| async move {
        while socket
            .read_frame()
            .await
            .is_ok_and(|frame| frame.opcode != OpCode::Close)
        {}
    })
    .await;
    let connection = Connection::connect(&connect(address, Encoding::Identity))
        .await
        .unwrap();
    connection.close().await.unwrap();
}

#[tokio::test]
async fn a_refused_upgrade_carries_the_servers_words() {
    let body =
        r#"{"error":{"code":"too_many_connections","message":"try later","retry_after_ms":500}}"#;
    let address = serve(move |_| async move { answer(503, body) }).await;
    let error = Connection::connect(&connect(address, Encoding::Identity))
        .await
        .err();
    let Some(ClientError::Refused(refusal)) = error else {
        panic!("not a refusal: {error:?}")
    };
    assert_eq!(
        (refusal.status, refusal.code.as_str()),
        (503, "too_many_connections")
    );
    assert_eq!(refusal.retry_after_ms, Some(500));
}

#[tokio::test]
async fn an_answer_without_the_accept_value_is_not_trusted() {
    let address = serve(|_| async move {
        Response::builder()
            .status(101)
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
            .body(Full::default())
            .unwrap()
    })
    .await;
    let error = Connection::connect(&connect(address, Encoding::Identity))
        .await
        .err();
    assert!(
        matches!(error, Some(ClientError::NotTheProtocol(_))),
        "{error:?}"
    );
}

#[tokio::test]
async fn nobody_listening_and_nobody_answering_are_different_errors() {
    let unused = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let error = Connection::connect(&connect(unused, Encoding::Identity))
        .await
        .err();
    assert!(
        matches!(error, Some(ClientError::Unreachable { .. })),
        "{error:?}"
    );

    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let deadline = Duration::from_millis(50);
    let connect = Connect {
        deadline,
        ..connect(address, Encoding::Identity)
    };
    let error = Connection::connect(&connect).await.err();
    assert!(matches!(error, Some(ClientError::Deadline(_))), "{error:?}");
}

#[tokio::test]
async fn one_comment_is_an_object_and_several_are_an_array() {
    let address = serve(|request| async move {
        assert_eq!(
            (request.method(), request.uri().path()),
            (&Method::POST, "/v1/rooms/room.1/comments")
        );
        let body = request.into_body().collect().await.unwrap().to_bytes();
        match &body[..] {
            br#"{"text":"a"}"# => answer(201, r#"{"epoch":3,"id":8}"#),
            br#"[{"text":"a"},{"text":"b"}]"# => answer(201, r#"{"epoch":3,"ids":[9,10]}"#),
            _ => answer(400, r#"{"error":{"code":"text_empty","message":"m"}}"#),
        }
    })
    .await;
    let mut http = HttpClient::new(address.to_string().parse().unwrap());
    let room = RoomId::parse("room.1").unwrap();
    let ids =
        |posted: danmaku_client::Posted| posted.ids.iter().map(|id| id.value()).collect::<Vec<_>>();
    let comment = NewComment::new;
    assert_eq!(
        ids(http.post_comments(&room, &[comment("a")]).await.unwrap()),
        [8]
    );
    assert_eq!(
        ids(http
            .post_comments(&room, &[comment("a"), comment("b")])
            .await
            .unwrap()),
        [9, 10]
    );
    let error = http.post_comments(&room, &[comment("")]).await.err();
    assert!(
        matches!(&error, Some(ClientError::Refused(refusal)) if refusal.code == "text_empty"),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_connection_the_server_dropped_while_idle_is_renewed() {
    let address = serve(|_| async move {
        let mut response = answer(200, "[1]");
        response
            .headers_mut()
            .insert("connection", "close".parse().unwrap());
        response
    })
    .await;
    let mut http = HttpClient::new(address.to_string().parse().unwrap());
    for _ in 0..3 {
        assert_eq!(
            http.get_json("/v1/rooms").await.unwrap(),
            serde_json::json!([1])
        );
    }
}
