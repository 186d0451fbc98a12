use std::path::Path;

use danmaku_store::{ChangeRefusal, Pin, Revoked, Sanction, SanctionKind, Subject};
use tempfile::TempDir;

use super::*;
use crate::fixture::{config, room_id};
use crate::{Log, SqliteConfig, Store};

/// Records in memory, and in a file.
struct Both {
    folder: TempDir,
    logs: [Log; 2],
}

impl Both {
    fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let logs = [log(Store::None), in_file(folder.path())];
        Self { folder, logs }
    }

    /// The records in the file after a restart.
    async fn restart(self) -> (TempDir, Records) {
        self.logs[1].file().unwrap().stop().await;
        let log = in_file(self.folder.path());
        (self.folder, log.records().clone())
    }
}

fn log(store: Store) -> Log {
    Log::new(config(10), store)
}

fn in_file(folder: &Path) -> Log {
    let file = Sqlite::start(&SqliteConfig {
        folder: folder.to_owned(),
        age_max: None,
        bytes_max: None,
        room_entries_max: None,
    });
    log(Store::Sqlite(file.unwrap()))
}

fn stream(start_ms: u64, title: &str) -> Stream {
    Stream {
        id: 0,
        start_ms,
        end_ms: None,
        title: title.to_owned(),
    }
}

fn audit(what: &str, room: Option<&str>, target: &str) -> Audit {
    Audit {
        id: 0,
        at_ms: 5,
        who: "operator".to_owned(),
        what: what.to_owned(),
        room: room.map(str::to_owned),
        target: target.to_owned(),
        why: String::new(),
    }
}

fn ban(room: Option<&str>, user: &str, kind: SanctionKind, until_ms: Option<u64>) -> Change {
    Change::Sanction(Sanction {
        id: 0,
        room: room.map(str::to_owned),
        subject: Subject::User(user.to_owned()),
        kind,
        until_ms,
        by: "operator".to_owned(),
        why: "spam".to_owned(),
        at_ms: 5,
    })
}

#[tokio::test]
async fn streams_are_listed_as_they_began() {
    let both = Both::start();
    for log in &both.logs {
        let records = log.records();
        let add = async |start_ms, title| {
            let change = Change::AddStream {
                room: "r".to_owned(),
                stream: stream(start_ms, title),
            };
            records.change(change, None).await.unwrap()
        };
        let (late, early) = (add(20, "late").await, add(10, "early").await);
        let ended = |id| Stream {
            id,
            end_ms: Some(15),
            ..stream(11, "renamed")
        };
        let end = |id| Change::UpdateStream {
            room: "r".to_owned(),
            stream: ended(id),
        };
        records.change(end(early), None).await.unwrap();
        let unknown = records.change(end(99), None).await;
        assert_eq!(unknown, Err(ChangeRefusal::NotFound.into()));
        let open = Stream {
            id: late,
            ..stream(20, "late")
        };
        assert_eq!(
            records.streams(&room_id()).await.unwrap(),
            [ended(early), open]
        );
        let other = RoomId::parse("other").unwrap();
        assert_eq!(records.streams(&other).await.unwrap(), []);
    }
    let (_folder, records) = both.restart().await;
    assert_eq!(records.streams(&room_id()).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_rooms_settings_go_before_the_defaults() {
    let both = Both::start();
    let room = room_id();
    for log in &both.logs {
        let records = log.records();
        assert_eq!(records.settings(&room), Settings::default());
        let slow = |settings| Settings {
            slow_mode_s: Some(5),
            ..settings
        };
        let own = records.update_settings(Some(&room), slow, None);
        assert_eq!(own.await.unwrap().slow_mode_s, Some(5));
        let defaults = |_| Settings {
            closed: Some(true),
            slow_mode_s: Some(30),
            ..Settings::default()
        };
        records.update_settings(None, defaults, None).await.unwrap();
        let settings = records.settings(&room);
        assert_eq!(
            (settings.closed, settings.slow_mode_s),
            (Some(true), Some(5))
        );
        assert_eq!(records.own_settings(Some(&room)).closed, None);
    }
    let (_folder, records) = both.restart().await;
    assert_eq!(records.settings(&room).slow_mode_s, Some(5));
    assert_eq!(records.settings(&room).closed, Some(true));
}

#[tokio::test]
async fn sanctions_replace_each_other_and_end() {
    let both = Both::start();
    let user = Subject::User("u".to_owned());
    let count = |records: &Records, now_ms| {
        let found = records.of_room(&room_id());
        found.map_or(0, |found| found.sanctions(&user, now_ms).count())
    };
    for log in &both.logs {
        let records = log.records();
        let timeout = |until| ban(Some("r"), "u", SanctionKind::Timeout, Some(until));
        records.change(timeout(10), None).await.unwrap();
        records.change(timeout(1 << 50), None).await.unwrap();
        assert_eq!((count(records, 5), count(records, 1 << 50)), (1, 0));
        let banned = ban(Some("r"), "u", SanctionKind::Ban, None);
        let id = records.change(banned, None).await.unwrap();
        assert_eq!((count(records, 5), count(records, 1 << 50)), (2, 1));
        let ended = ban(Some("r"), "v", SanctionKind::Timeout, Some(10));
        records.change(ended, None).await.unwrap();
        let everywhere = ban(None, "u", SanctionKind::ShadowBan, None);
        records.change(everywhere, None).await.unwrap();
        let all = records.of_all_rooms().unwrap();
        assert_eq!(all.all_sanctions(5).count(), 1);

        let lift = |room: Option<&str>| Change::LiftSanction {
            room: room.map(str::to_owned),
            id,
        };
        let elsewhere = records.change(lift(Some("other")), None).await;
        assert_eq!(elsewhere, Err(ChangeRefusal::NotFound.into()));
        records.change(lift(Some("r")), None).await.unwrap();
        assert_eq!(count(records, 1 << 50), 0);
    }
    let (_folder, records) = both.restart().await;
    assert_eq!((count(&records, 5), count(&records, 1 << 50)), (1, 0));
    records.0.in_force.forget_ended(1 << 50);
    assert!(records.of_room(&room_id()).is_none());
    assert!(records.of_all_rooms().is_some());
}

#[tokio::test]
async fn a_room_has_one_pin_and_revocations_are_kept() {
    let both = Both::start();
    let pin = |seq| Change::Pin {
        room: "r".to_owned(),
        pin: Pin {
            epoch: 7,
            seq,
            body: b"{}".to_vec(),
            until_ms: Some(1 << 50),
            by: "operator".to_owned(),
            at_ms: 5,
        },
    };
    let pinned = |records: &Records, now_ms| {
        let found = records.of_room(&room_id());
        found.and_then(|found| found.pin(now_ms).map(|pin| pin.seq))
    };
    for log in &both.logs {
        let records = log.records();
        records.change(pin(1), None).await.unwrap();
        records.change(pin(2), None).await.unwrap();
        assert_eq!(pinned(records, 5), Some(2));
        assert_eq!(pinned(records, 1 << 50), None);
        let unpin = || Change::Unpin {
            room: "r".to_owned(),
        };
        records.change(unpin(), None).await.unwrap();
        assert_eq!(pinned(records, 5), None);
        let again = records.change(unpin(), None).await;
        assert_eq!(again, Err(ChangeRefusal::NotFound.into()));
        records.change(pin(3), None).await.unwrap();

        let revoke = |revoked| {
            Change::Revoke(Revocation {
                id: 0,
                revoked,
                issued_before_ms: Some(9),
                until_ms: None,
                by: "operator".to_owned(),
                why: "lost".to_owned(),
                at_ms: 5,
            })
        };
        let id = records.change(revoke(Revoked::All), None).await.unwrap();
        let token = Revoked::Token("t".to_owned());
        records.change(revoke(token), None).await.unwrap();
        let user = Revoked::User("u".to_owned());
        records.change(revoke(user), None).await.unwrap();
        let lift = Change::LiftRevocation { id };
        records.change(lift, None).await.unwrap();
        assert_eq!(records.revocations().len(), 2);
    }
    let (_folder, records) = both.restart().await;
    assert_eq!(pinned(&records, 5), Some(3));
    let revoked: Vec<_> = (records.revocations().iter())
        .map(|revocation| revocation.revoked.clone())
        .collect();
    assert_eq!(
        revoked,
        [
            Revoked::Token("t".to_owned()),
            Revoked::User("u".to_owned())
        ]
    );
}

#[tokio::test]
async fn the_audit_trail_has_what_was_done_and_nothing_else() {
    let both = Both::start();
    for log in &both.logs {
        let records = log.records();
        let add = async |change, entry| records.change(change, Some(entry)).await;
        for n in 0..5 {
            let entry = audit("erase", Some("r"), &format!("u{n}"));
            add(Change::Nothing, entry).await.unwrap();
        }
        add(Change::Nothing, audit("revoke", None, "u1"))
            .await
            .unwrap();
        let unpin = Change::Unpin {
            room: "r".to_owned(),
        };
        let refused = add(unpin, audit("unpin", Some("r"), "")).await;
        assert_eq!(refused, Err(ChangeRefusal::NotFound.into()));

        let check = async |query: AuditQuery, expected: &[&str]| {
            let page = records.audit(query).await.unwrap();
            let found: Vec<_> = page.iter().map(|entry| entry.target.as_str()).collect();
            assert_eq!(found, expected);
            page.last().map(|entry| entry.id)
        };
        let all = AuditQuery {
            limit: 2,
            ..AuditQuery::default()
        };
        let before = check(all.clone(), &["u1", "u4"]).await;
        check(AuditQuery { before, ..all }, &["u3", "u2"]).await;
        let of_user = AuditQuery {
            user: Some("u1".to_owned()),
            limit: 9,
            ..AuditQuery::default()
        };
        check(of_user.clone(), &["u1", "u1"]).await;
        let room = Some("r".to_owned());
        check(AuditQuery { room, ..of_user }, &["u1"]).await;
    }
    let (_folder, records) = both.restart().await;
    let all = AuditQuery {
        limit: 99,
        ..AuditQuery::default()
    };
    assert_eq!(records.audit(all).await.unwrap().len(), 6);
}
