//! The client against a server that says exactly what a test wants, over real sockets.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use danmaku_client::{
    Ack, ClientError, Closed, Connect, Connection, Event, EventStream, Gap, HttpClient, NewComment,
    Reference, RoomEventKind,
};
use danmaku_wire::{
    Batch, BatchComment, BatchEvent, Chains, CloseReason, CommentLimits, CommentText,
    CompressionPolicy, Cursor, Dialect, Encoding, Epoch, FrameSet, IdempotencyKey, Position,
    RoomId, Sealer, Seq, outbound,
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
async fn every_encoding_gives_the_same_events() {
    let address = serve_socket(|uri, mut socket| async move {
        let encoding = Encoding::ALL
            .into_iter()
            .find(|encoding| uri.contains(encoding.as_str()))
            .unwrap();
        let mut cursor = Cursor::default();
        let dialect = Dialect::web_socket(encoding);
        for set in three_batches() {
            let frame = set.form(cursor.choose(dialect, &set));
            // The frame carries its own head; the server side of fastwebsockets would add another one.
            socket = {
                let mut stream = socket.into_inner();
                tokio::io::AsyncWriteExt::write_all(&mut stream, frame)
                    .await
                    .unwrap();
                WebSocket::after_handshake(stream, fastwebsockets::Role::Server)
            };
        }
        text(&mut socket, r#"{"type":"gap","after":11,"seq":19}"#).await;
        // The socket stays open for as long as the client reads.
        std::future::pending::<()>().await;
    })
    .await;
    for encoding in Encoding::ALL {
        let mut connection = Connection::connect(&connect(address, encoding))
            .await
            .unwrap();
        for after in AFTER {
            let event = connection.next().await.unwrap();
            check_batch(&event, after, encoding);
        }
        let gap = Gap {
            after: Seq::new(11),
            seq: Seq::new(19),
            events: Vec::new(),
        };
        assert_eq!(connection.next().await.unwrap(), Event::Gap(gap));
    }
}

/// Where each of three batches begins. Each has two comments with a hole before the second, and ends with a retraction.
const AFTER: [u64; 3] = [0, 4, 8];
const EPOCH: Epoch = Epoch::new(7);

fn three_batches() -> Vec<FrameSet> {
    let mut sealer = Sealer::new(CompressionPolicy::default());
    let comment = |seq: u64, text: &str| {
        let text = CommentText::new(text, &CommentLimits::default()).unwrap();
        BatchComment {
            seq: Seq::new(seq),
            at_ms: 9000,
            fragment: danmaku_wire::Comment::new(text).fragment(),
        }
    };
    let seal = |after: u64| {
        let batch = Batch {
            epoch: EPOCH,
            after: Seq::new(after),
            seq: Seq::new(after + 4),
            ts_ms: 9500,
            viewers: 1,
            likes: 0,
            shed: 0,
            comments: vec![comment(after + 1, "前方高能"), comment(after + 3, "哈哈哈")],
            events: vec![BatchEvent {
                seq: Seq::new(after + 4),
                event: danmaku_wire::Event::Retract {
                    ids: [Seq::new(after + 1)].into(),
                },
            }],
        };
        let chains = Chains {
            ws_deflate: true,
            sse_gzip: true,
        };
        sealer.seal(batch, chains)
    };
    AFTER.into_iter().map(seal).collect()
}

fn check_batch(event: &Event, after: u64, encoding: Encoding) {
    let Event::Batch(batch) = event else {
        panic!("no batch in {encoding:?}: {event:?}")
    };
    assert_eq!(
        (batch.after.value(), batch.seq.value()),
        (after, after + 4),
        "in {encoding:?}"
    );
    let comments: Vec<(u64, u64)> = batch
        .comments
        .iter()
        .map(|comment| (comment.id.value(), comment.at_ms))
        .collect();
    assert_eq!(comments, [(after + 1, 9000), (after + 3, 9000)]);
    assert_eq!(batch.comments[0].text, "前方高能");
    let ids = vec![Seq::new(after + 1)];
    assert_eq!(batch.events[0].kind, RoomEventKind::Retract { ids });
}

/// Serves one event stream in pieces of three bytes and closes it. Returns the head of the request.
async fn serve_events(dialect: Dialect) -> (SocketAddr, tokio::task::JoinHandle<String>) {
    let room = RoomId::parse("room.1").unwrap();
    let joined = outbound::Joined {
        room: &room,
        epoch: EPOCH,
        after: Seq::ZERO,
        seq: Seq::ZERO,
        window_ms: 1000,
        viewers: 1,
        resumed: outbound::Resumed::No,
        pin: None,
    };
    let at = |seq| Position {
        epoch: EPOCH,
        seq: Seq::new(seq),
    };
    let mut bytes = dialect.opening().unwrap().to_vec();
    bytes.extend_from_slice(&dialect.positioned(&joined.to_json(), at(0)));
    let mut cursor = Cursor::default();
    for set in three_batches() {
        bytes.extend_from_slice(set.form(cursor.choose(dialect, &set)));
    }
    bytes.extend_from_slice(&dialect.heartbeat());
    let gap = outbound::gap_json(Seq::new(12), Seq::new(19), &[]);
    bytes.extend_from_slice(&dialect.positioned(&gap, at(19)));
    bytes.extend_from_slice(&dialect.close(CloseReason::SlowConsumer));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = vec![0; 4096];
        let len = tokio::io::AsyncReadExt::read(&mut stream, &mut head)
            .await
            .unwrap();
        for piece in bytes.chunks(3) {
            tokio::io::AsyncWriteExt::write_all(&mut stream, piece)
                .await
                .unwrap();
            tokio::task::yield_now().await;
        }
        String::from_utf8_lossy(&head[..len]).to_ascii_lowercase()
    });
    (address, serving)
}

#[tokio::test]
async fn an_event_stream_gives_the_same_events() {
    for dialect in [Dialect::SseIdentity, Dialect::SseGzip] {
        let (address, serving) = serve_events(dialect).await;
        let encoding = dialect.encoding();
        let before = Position {
            epoch: EPOCH,
            seq: Seq::ZERO,
        };
        let mut stream = EventStream::connect(&connect(address, encoding), Some(before))
            .await
            .unwrap();
        let joined = stream.next().await.unwrap();
        assert!(matches!(joined, Event::Joined(_)), "{joined:?}");
        for after in AFTER {
            check_batch(&stream.next().await.unwrap(), after, encoding);
            let id = stream.last_event_id().unwrap();
            assert_eq!((id.epoch, id.seq.value()), (EPOCH, after + 4));
        }
        let gap = stream.next().await.unwrap();
        assert!(matches!(gap, Event::Gap(_)), "{gap:?}");
        let closed = Closed {
            code: 4001,
            reason: "reading too slowly".to_owned(),
        };
        assert_eq!(stream.next().await.unwrap(), Event::Closed(closed));
        assert!(matches!(stream.next().await, Err(ClientError::Ended)));
        let id = stream.last_event_id().unwrap();
        assert_eq!(id.to_string(), "7:19");
        let request = serving.await.unwrap();
        assert!(
            request.starts_with("get /v1/rooms/room.1/events http/1.1\r\n"),
            "{request}"
        );
        for header in [
            "last-event-id: 7:0\r\n".to_owned(),
            format!("accept-encoding: {}\r\n", encoding.as_str()),
        ] {
            assert!(request.contains(&header), "{request}");
        }
    }
}

#[tokio::test]
async fn a_broken_or_missing_event_stream_is_an_error() {
    let address = serve(|request| async move {
        let kind = match request.uri().query() {
            Some("since=7:1") => "text/event-stream",
            _ => "text/html",
        };
        let mut response = answer(200, "data: {\"type\":\"chatter\"}\n\ndata: {");
        let headers = response.headers_mut();
        headers.insert("content-type", kind.parse().unwrap());
        response
    })
    .await;
    let html = EventStream::connect(&connect(address, Encoding::Identity), None).await;
    assert!(matches!(html.err(), Some(ClientError::NotTheProtocol(_))));
    let deflate = EventStream::connect(&connect(address, Encoding::Deflate), None).await;
    assert!(matches!(deflate.err(), Some(ClientError::Encoding(_))));
    let since = Some("7:1".parse().unwrap());
    let connect = Connect {
        since,
        ..connect(address, Encoding::Identity)
    };
    let mut stream = EventStream::connect(&connect, None).await.unwrap();
    let event = stream.next().await.unwrap();
    assert_eq!(event, Event::Other("chatter".to_owned()));
    let event = stream.next().await.unwrap();
    assert!(matches!(event, Event::Closed(Closed { code: 1006, .. })));
}

#[tokio::test]
async fn a_page_has_positions_comments_and_events() {
    let address = serve(|request| async move {
        assert_eq!(
            request.uri().to_string(),
            "/v1/rooms/room.1/comments?since=7:3&limit=5"
        );
        answer(
            200,
            r#"{"epoch":7,"after":59,"seq":61,"more":true,"gap":{"after":3,"seq":59},"comments":[{"id":60,"ts":1764,"text":"one","data":{"a":1}}],"events":[{"id":61,"ts":1765,"type":"retract","ids":[4]}]}"#,
        )
    })
    .await;
    let mut http = HttpClient::new(address.to_string().parse().unwrap());
    let room = RoomId::parse("room.1").unwrap();
    let since = Some("7:3".parse().unwrap());
    let page = http.comments(&room, since, Some(5)).await.unwrap();
    assert_eq!(
        (page.epoch, page.after.value(), page.seq.value(), page.more),
        (EPOCH, 59, 61, true)
    );
    let gap = page.gap.unwrap();
    assert_eq!((gap.after.value(), gap.seq.value()), (3, 59));
    let comment = &page.comments[0];
    assert_eq!((comment.id.value(), comment.at_ms), (60, 1764));
    assert_eq!(comment.data, Some(serde_json::json!({"a": 1})));
    assert_eq!(page.events[0].at_ms, Some(1765));
}

#[tokio::test]
async fn comments_are_retracted_and_posted_with_a_key() {
    let address = serve(|request| async move {
        let path = request.uri().path().to_owned();
        match (request.method(), request.headers().get("idempotency-key")) {
            (&Method::DELETE, _) if path.ends_with("/comments/7") => answer(204, ""),
            (&Method::DELETE, _) => answer(
                404,
                r#"{"error":{"code":"comment_not_found","message":"m"}}"#,
            ),
            (_, Some(key)) if key == "k1" => answer(201, r#"{"epoch":3,"id":8}"#),
            _ => answer(400, "{}"),
        }
    })
    .await;
    let mut http = HttpClient::new(address.to_string().parse().unwrap());
    let room = RoomId::parse("room.1").unwrap();
    http.delete_comment(&room, Seq::new(7)).await.unwrap();
    let error = http.delete_comment(&room, Seq::new(8)).await.err();
    assert!(
        matches!(&error, Some(ClientError::Refused(refusal)) if refusal.code == "comment_not_found"),
        "{error:?}"
    );
    let key = IdempotencyKey::new("k1").unwrap();
    let comments = [NewComment::new("a")];
    let posted = http.post_comments_with_key(&room, &comments, &key).await;
    assert_eq!(posted.unwrap().ids, [Seq::new(8)]);
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
                        br#"{"type":"comment","ref":"r1","key":"k1","text":"hi"}"#
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
    let key = IdempotencyKey::new("k1").unwrap();
    connection
        .post_with_key(&NewComment::new("hi"), Some(&reference), &key)
        .await
        .unwrap();
    let ack = Ack {
        reference: Some(reference),
        id: Seq::new(12),
        held: None,
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
async fn a_clean_close_waits_for_the_server() {
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
async fn a_refused_upgrade_carries_the_servers_error() {
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
async fn a_response_without_the_accept_value_is_refused() {
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
async fn an_unreachable_and_a_silent_server_are_different_errors() {
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
