use std::cell::RefCell;
use std::pin::pin;

use clap::Parser;
use danmaku_fanout::Fanout;
use danmaku_log::{Append, EntryBody, Store};
use danmaku_wire::{Encoding, Fragment, Position, Priority, RoomId};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::clock::Clock;
use crate::config::ServeArgs;
use crate::room::actor::RoomActor;

thread_local! {
    /// Actors that are not started yet: a test decides when.
    static ACTORS: RefCell<Vec<RoomActor>> = const { RefCell::new(Vec::new()) };
}

/// Runs the room's actor until `done`.
async fn run_actor_until(done: impl Future<Output = ()>) {
    let mut actor = ACTORS.with_borrow_mut(|actors| actors.pop().unwrap());
    tokio::select! {
        () = actor.run() => panic!("the room ended"),
        () = done => {}
    }
}

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    serve: ServeArgs,
}

/// A room whose ring holds no frames, so that a viewer whose start was sealed meanwhile needs a lead.
struct Fixture {
    context: Context,
    room: Arc<RoomHandle>,
}

impl Fixture {
    async fn new() -> Self {
        let flags = ["test", "--window-ms", "10", "--history-frames-max", "0"];
        let config = Flags::parse_from(flags).serve.check(1_024).unwrap();
        let clock = Clock::start();
        let fanout = Fanout::start(&config.fanout, clock.origin()).unwrap();
        let later = |actor| ACTORS.with_borrow_mut(|actors| actors.push(actor));
        let context = Context::new(config, Store::None, fanout, clock, later);
        let id = RoomId::parse("r").unwrap();
        let room = context.open_room(&id, None).await.unwrap();
        Self { context, room }
    }

    /// A viewer of the room, and the other end of its connection.
    async fn joining(&self, since: Option<Position>) -> (Joining, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let (client, accepted) = tokio::join!(client, listener.accept());
        let joining = Joining {
            link: Arc::new(Link::new(accepted.unwrap().0.into(), Duration::ZERO)),
            room: Arc::clone(&self.room),
            dialect: Dialect::web_socket(Encoding::Identity),
            opening: Bytes::new(),
            start: Start { since, history: 10 },
        };
        (joining, client.unwrap())
    }

    async fn comment(&self, text: &str) {
        let members = format!(r#""text":"{text}""#).into_bytes();
        let append = Append {
            entries: vec![EntryBody::Comment {
                fragment: Fragment::from_log(members),
                priority: Priority::Viewer,
            }],
            key: None,
            now_ms: 1,
        };
        self.room.log().append(append).await.unwrap();
    }

    /// Fills the actor's mailbox with joins that were given up, so that the next one arrives after the actor has run.
    async fn crowd(&self) {
        let (viewer, _client) = self.joining(None).await;
        loop {
            let given_up = Join {
                link: Arc::clone(&viewer.link),
                dialect: viewer.dialect,
                opening: Bytes::new(),
                from: JoinFrom::Live,
                answer: oneshot::channel().0,
            };
            if !is_ready(self.room.send(RoomMsg::Join(Box::new(given_up)))) {
                return;
            }
        }
    }
}

/// Whether a future is ready at its first poll.
fn is_ready(future: impl Future) -> bool {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    pin!(future).poll(&mut context).is_ready()
}

/// Reads until a viewer was sent `wanted`.
async fn read_until(client: &mut TcpStream, wanted: &str) -> String {
    let mut sent = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&sent);
        if text.contains(wanted) {
            return text.into_owned();
        }
        let read = tokio::time::timeout(Duration::from_secs(60), client.read_buf(&mut sent));
        let read = read.await.unwrap_or_else(|_| panic!("no {wanted:?}"));
        assert_ne!(read.unwrap(), 0, "closed");
    }
}

#[tokio::test]
async fn a_viewer_that_asks_for_history_gets_the_first_comment_of_a_room() {
    let fixture = Fixture::new().await;
    let (viewer, mut client) = fixture.joining(None).await;
    fixture.crowd().await;
    let mut joined = pin!(join(&fixture.context, &viewer));
    // It has found the room empty, and waits for its place in the mailbox.
    assert!(!is_ready(joined.as_mut()));
    fixture.comment("first").await;
    run_actor_until(async {
        joined.await.unwrap();
        let sent = read_until(&mut client, "first").await;
        assert!(sent.contains(r#""after":0,"seq":1,"#), "{sent}");
    })
    .await;
}

#[tokio::test]
async fn a_position_above_everything_sealed_is_not_resumed_when_the_room_moves_on() {
    let fixture = Fixture::new().await;
    let since = Position {
        epoch: fixture.room.log().epoch(),
        seq: Seq::new(1_000),
    };
    let (viewer, mut client) = fixture.joining(Some(since)).await;
    fixture.crowd().await;
    let mut joined = pin!(join(&fixture.context, &viewer));
    // It waits for its position, then gives up and waits for its place in the mailbox.
    let waits = tokio::time::timeout(SEALED_WAIT_MAX + SEALED_POLL, joined.as_mut());
    assert!(waits.await.is_err());
    fixture.comment("first").await;
    run_actor_until(async {
        joined.await.unwrap();
        let sent = read_until(&mut client, "first").await;
        assert!(sent.contains(r#""resumed":false"#), "{sent}");
        assert!(sent.contains(r#""after":0,"seq":1,"#), "{sent}");
    })
    .await;
}
