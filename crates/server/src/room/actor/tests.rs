use danmaku_engine::Flush;
use danmaku_fanout::{FanoutConfig, RoomKey};
use danmaku_log::{Append, Log, LogConfig, Store};
use danmaku_wire::{CompressionPolicy, Dialect, Encoding, Epoch, Fragment, Priority, RoomId};

use super::*;
use crate::memory::MemoryBudget;

/// Longer than any test: what happens, happens at the times that a test names.
const WINDOW: Duration = Duration::from_secs(3_600);

/// The actor of a room with one viewer.
async fn watched() -> RoomActor {
    let id = RoomId::parse("r").unwrap();
    let log = Log::new(LogConfig::default(), Store::None);
    let records = log.records().clone();
    let log = log.open(&id, Epoch::new(7)).await.unwrap();
    let memory = Arc::new(MemoryBudget::new(1 << 20));
    let handle = RoomHandle::new(id, RoomKey(1), log, 1, memory, 2_000);
    let clock = Clock::start();
    let fanout = FanoutConfig {
        shards: 1.try_into().unwrap(),
        ..FanoutConfig::default()
    };
    let environment = RoomEnvironment {
        clock,
        fanout: Arc::new(Fanout::start(&fanout, clock.origin()).unwrap()),
        registry: Arc::new(Registry::new(1)),
        stats: Arc::default(),
        room: RoomConfig {
            window: WINDOW,
            flush: Flush::Leading,
            batch_comments_max: 10,
            history_frames_max: 10,
            history_bytes_max: 1 << 20,
            phase: Duration::ZERO,
            seed: 1,
            compression: CompressionPolicy::default(),
        },
        room_idle: WINDOW,
        replay_bytes_max: 1 << 20,
        records,
    };
    let viewer = Dialect::web_socket(Encoding::Identity);
    handle.audience().join(0, viewer);
    RoomActor::new(handle, Arc::new(environment))
}

/// Posts a comment and lets the actor take it.
async fn comment(actor: &mut RoomActor) {
    let fragment = Fragment::from_log(br#""text":"x""#.to_vec());
    let append = Append {
        entries: vec![EntryBody::Comment {
            fragment,
            priority: Priority::Viewer,
        }],
        key: None,
        now_ms: 1,
    };
    actor.handle.log().append(append).await.unwrap();
    let life = actor.ingest_all(Tailed::Nothing, &mut Vec::new()).await;
    assert_eq!(life, Life::GoesOn);
}

#[tokio::test]
async fn a_room_whose_window_is_open_has_a_timer_for_its_end() {
    let mut actor = watched().await;
    assert_eq!(actor.next_wait(Duration::ZERO), (Window::Closed, None));
    // The first comment is sealed at once, and the second at the end of the window that this began.
    comment(&mut actor).await;
    actor.seal_when_due().await;
    comment(&mut actor).await;
    let due = actor.room.deadline().unwrap();
    assert_eq!(actor.next_wait(due), (Window::Open, Some(due)));
    let at_end = Now {
        monotonic: due,
        unix_ms: 1,
    };
    let input = actor.seal_input();
    assert!(actor.room.tick(at_end, input).is_some());
    // The room expects more: its next window is open already.
    let end = actor.room.awaited_end().unwrap();
    let just_before = end - Duration::from_nanos(1);
    assert_eq!(actor.next_wait(just_before), (Window::Open, Some(end)));
    assert_eq!(actor.next_wait(end), (Window::Closed, None));
    // Likes that came while it closed open the next window.
    actor.handle.like(1);
    let (window, timer) = actor.next_wait(end);
    assert!(window == Window::Open && timer.is_some(), "{timer:?}");
}
