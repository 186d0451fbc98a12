//! No sequence of moderators' actions lets a banned user's later comment through, or loses another's.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use danmaku_log::{Change, Log, LogConfig, Sanction, SanctionKind, Settings, Store, Subject};
use danmaku_wire::{CommentLimits, CommentText, UserId};
use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    /// Against a user, or else an address; in a room, or else everywhere.
    Impose(usize, usize, SanctionKind, Option<u64>),
    /// The sanction of that kind.
    Lift(usize, usize, SanctionKind),
    Close(usize, bool),
    Wait(u64),
    Post(usize, usize, usize),
}

/// `None` for everywhere.
const ROOMS: [Option<&str>; 3] = [Some("a"), Some("b"), None];
const USERS: usize = 3;
const ADDRESSES: usize = 2;

fn step() -> impl Strategy<Value = Step> {
    let kind = || prop_oneof![Just(SanctionKind::Ban), Just(SanctionKind::Timeout)];
    let subject = 0..USERS + ADDRESSES;
    let until = proptest::option::of(1_u64..10_000);
    prop_oneof![
        (0..3_usize, subject.clone(), kind(), until)
            .prop_map(|(r, s, k, u)| Step::Impose(r, s, k, u)),
        (0..3_usize, subject, kind()).prop_map(|(r, s, k)| Step::Lift(r, s, k)),
        (0..3_usize, any::<bool>()).prop_map(|(r, closed)| Step::Close(r, closed)),
        (0_u64..4_000).prop_map(Step::Wait),
        (0..2_usize, 0..USERS, 0..ADDRESSES).prop_map(|(r, u, a)| Step::Post(r, u, a)),
        (0..2_usize, 0..USERS, 0..ADDRESSES).prop_map(|(r, u, a)| Step::Post(r, u, a)),
    ]
}

fn address(n: usize) -> AddressKey {
    AddressKey::of(IpAddr::V4(Ipv4Addr::from(u32::try_from(n).unwrap() + 1)))
}

fn subject(n: usize) -> Subject {
    if n < USERS {
        Subject::User(format!("u{n}"))
    } else {
        address_subject(address(n - USERS))
    }
}

/// What should hold: sanctions by room, subject and kind, with their id and end; closed rooms; and the time.
#[derive(Default)]
struct Model {
    sanctions: HashMap<(usize, usize, bool), (u64, Option<u64>)>,
    closed: [Option<bool>; 3],
    now_ms: u64,
}

impl Model {
    /// Whether, and for what, a post is refused.
    fn refusal(&self, room: usize, user: usize, from: usize) -> Option<&'static str> {
        for place in [room, 2] {
            for who in [USERS + from, user] {
                for (is_ban, code) in [(true, "banned"), (false, "timed_out")] {
                    let known = self.sanctions.get(&(place, who, is_ban));
                    if known.is_some_and(|(_, until)| until.is_none_or(|it| it > self.now_ms)) {
                        return Some(code);
                    }
                }
            }
        }
        let closed = self.closed[room].or(self.closed[2]);
        (closed == Some(true)).then_some("room_closed")
    }
}

async fn run(steps: Vec<Step>) {
    let log = Log::new(LogConfig::default(), Store::None);
    let records = log.records();
    let moderation = Moderation::default();
    // Records that ended by the machine's clock are forgotten, so the test's time is ahead of it.
    let mut model = Model {
        now_ms: 1 << 52,
        ..Model::default()
    };
    for step in steps {
        match step {
            Step::Impose(room, who, kind, lasts_ms) => {
                let until_ms = lasts_ms.map(|lasts| model.now_ms + lasts);
                let sanction = Sanction {
                    id: 0,
                    room: ROOMS[room].map(str::to_owned),
                    subject: subject(who),
                    kind,
                    until_ms,
                    by: String::new(),
                    why: String::new(),
                    at_ms: model.now_ms,
                };
                let id = records
                    .change(Change::Sanction(sanction), None)
                    .await
                    .unwrap();
                let name = (room, who, kind == SanctionKind::Ban);
                model.sanctions.insert(name, (id, until_ms));
            }
            Step::Lift(room, who, kind) => {
                let name = (room, who, kind == SanctionKind::Ban);
                if let Some((id, _)) = model.sanctions.remove(&name) {
                    let room = ROOMS[room].map(str::to_owned);
                    let change = Change::LiftSanction { room, id };
                    records.change(change, None).await.unwrap();
                }
            }
            Step::Close(room, closed) => {
                let id = ROOMS[room].map(|id| RoomId::parse(id).unwrap());
                let close = |settings| Settings {
                    closed: Some(closed),
                    ..settings
                };
                let updated = records.update_settings(id.as_ref(), close, None);
                updated.await.unwrap();
                model.closed[room] = Some(closed);
            }
            Step::Wait(ms) => model.now_ms += ms,
            Step::Post(room, user, from) => {
                let limits = CommentLimits::default();
                let mut comment = Comment::new(CommentText::new("hello", &limits).unwrap());
                comment.user = Some(UserId::new(&format!("u{user}"), &limits).unwrap());
                let submission = Submission {
                    room: &RoomId::parse(ROOMS[room].unwrap()).unwrap(),
                    comments: &[comment],
                    address: address(from),
                    standing: Standing::Anyone,
                    now: Now {
                        monotonic: Duration::from_millis(model.now_ms),
                        unix_ms: model.now_ms,
                    },
                };
                let checked = moderation.check(records, &submission);
                let found = checked.as_ref().err().map(Refusal::code);
                assert_eq!(found, model.refusal(room, user, from));
            }
        }
    }
}

proptest! {
    #[test]
    fn a_post_is_refused_exactly_while_something_speaks_against_it(
        steps in proptest::collection::vec(step(), 0..60)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(run(steps));
    }
}
