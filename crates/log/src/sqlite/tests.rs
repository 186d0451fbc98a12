use std::fs;

use danmaku_store::Writer;
use tempfile::TempDir;

use super::*;
use crate::fixture::{EPOCH, append, comment, comments, ids, keyed, retract, room_id, values};
use crate::{Append, AppendError, EntryBody, Log, Lookup, RoomLog, Store, Tailed};

fn sqlite_config(folder: &Path) -> SqliteConfig {
    SqliteConfig {
        folder: folder.to_owned(),
        age_max: None,
        bytes_max: None,
        room_entries_max: None,
    }
}

/// A log over a file; its rings hold `entries_max`.
struct Fixture {
    folder: TempDir,
    sqlite: Sqlite,
    log: Log,
}

impl Fixture {
    fn start(entries_max: usize) -> Self {
        Self::start_in(TempDir::new().unwrap(), entries_max, |_| ())
    }

    fn start_in(folder: TempDir, entries_max: usize, set: impl Fn(&mut SqliteConfig)) -> Self {
        let mut config = sqlite_config(folder.path());
        set(&mut config);
        let sqlite = Sqlite::start(&config).unwrap();
        let log = Log::new(
            crate::fixture::config(entries_max),
            Store::Sqlite(sqlite.clone()),
        );
        Self {
            folder,
            sqlite,
            log,
        }
    }

    async fn open(&self) -> RoomLog {
        self.log.open(&room_id(), EPOCH).await.unwrap()
    }

    async fn restart(self, entries_max: usize) -> Self {
        self.sqlite.stop().await;
        Self::start_in(self.folder, entries_max, |_| ())
    }

    /// Whether a text is anywhere in the folder's files.
    fn holds(&self, text: &str) -> bool {
        fs::read_dir(self.folder.path()).unwrap().any(|file| {
            let bytes = fs::read(file.unwrap().path()).unwrap();
            bytes.windows(text.len()).any(|it| it == text.as_bytes())
        })
    }
}

/// Waits for something that the writer thread does by itself.
async fn until(mut done: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(60));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn positions_and_epoch_continue_over_a_restart() {
    let fixture = Fixture::start(10);
    assert!(fixture.log.find(&room_id()).await.unwrap().is_none());
    let log = fixture.open().await;
    let mut tail = log.tail_after(Seq::ZERO);
    let one = log.append(comments(&["a", "b"])).await.unwrap();
    assert_eq!((values(&one.seqs), one.epoch), (vec![1, 2], EPOCH));
    let mut taken = Vec::new();
    // Fed before the answer.
    assert_eq!(tail.drain(&mut taken, 9).await, Tailed::Entries);
    assert_eq!(ids(&taken), [1, 2]);
    drop((log, tail));

    let fixture = fixture.restart(10).await;
    let found = fixture.log.find(&room_id()).await.unwrap().unwrap();
    assert_eq!((found.epoch(), found.head()), (EPOCH, Seq::new(2)));
    let log = fixture.log.open(&room_id(), Epoch::new(99)).await.unwrap();
    assert_eq!(log.epoch(), EPOCH);
    let two = log.append(comments(&["c"])).await.unwrap();
    assert_eq!(values(&two.seqs), [3]);
    let page = log.read_after(Seq::ZERO, 2).await.unwrap();
    assert_eq!((ids(&page.entries), page.more), (vec![1, 2], true));
    let page = log.read_after(page.seq, 2).await.unwrap();
    assert_eq!((ids(&page.entries), page.more), (vec![3], false));
    let recent = log.read_last(log.head(), 2, 1_000).await.unwrap();
    assert_eq!(ids(&recent.entries), [2, 3]);
}

#[tokio::test]
async fn appends_made_together_are_numbered_in_their_order() {
    let fixture = Fixture::start(1_000);
    let log = fixture.open().await;
    let mut appends: Vec<_> = (0..100)
        .map(|n| Box::pin(log.append(comments(&[&format!("c{n}")]))))
        .collect();
    let mut answers = vec![None; appends.len()];
    std::future::poll_fn(|cx| {
        for (append, answer) in appends.iter_mut().zip(&mut answers) {
            if answer.is_none()
                && let std::task::Poll::Ready(appended) = append.as_mut().poll(cx)
            {
                *answer = Some(values(&appended.unwrap().seqs)[0]);
            }
        }
        if answers.contains(&None) {
            std::task::Poll::Pending
        } else {
            std::task::Poll::Ready(())
        }
    })
    .await;
    let answers: Vec<_> = answers.into_iter().flatten().collect();
    assert_eq!(answers, (1..=100).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_key_is_answered_as_the_first_time_also_after_a_restart() {
    let fixture = Fixture::start(10);
    let log = fixture.open().await;
    // Keys are forgotten by the clock of the machine.
    let at = |now_ms, text| Append {
        now_ms,
        ..keyed(text, "k")
    };
    let now_ms = housekeeping::unix_ms();
    let first = log.append(at(now_ms, "a")).await.unwrap();
    assert_eq!(log.append(at(now_ms, "a")).await.unwrap(), first);
    log.append(comments(&["b"])).await.unwrap();
    drop(log);
    let fixture = fixture.restart(10).await;
    let log = fixture.open().await;
    assert_eq!(log.append(at(now_ms, "a")).await.unwrap(), first);
    let reused = log.append(at(now_ms, "other")).await;
    assert_eq!(reused, Err(AppendError::KeyReused));
    // Ten minutes later it is a new post.
    let late = at(now_ms + housekeeping::KEY_AGE_MS_MAX + 60_000, "a");
    assert_eq!(values(&log.append(late.clone()).await.unwrap().seqs), [3]);
    assert_eq!(values(&log.append(late).await.unwrap().seqs), [3]);
}

#[tokio::test]
async fn retracted_text_is_in_no_file_and_its_id_stays_taken() {
    let fixture = Fixture::start(10);
    // Several rooms, so that pages split in the middle.
    let mut logs = Vec::new();
    let mut tails = Vec::new();
    for name in ["a", "b", "c"] {
        let id = RoomId::parse(name).unwrap();
        let log = fixture.log.open(&id, EPOCH).await.unwrap();
        tails.push(log.tail_after(Seq::ZERO));
        logs.push(log);
    }
    for n in 0..200 {
        for (room, log) in logs.iter().enumerate() {
            let _ = tails[room].drain(&mut Vec::new(), 1_000).await;
            let texts = [
                format!("secret-{room}-{n}-."),
                format!("public-{room}-{n}-."),
            ];
            log.append(comments(&[&texts[0], &texts[1]])).await.unwrap();
        }
    }
    assert!(fixture.holds("secret-1-7-."));
    for log in &logs {
        let secrets: Vec<_> = (0..200).map(|n| 2 * n + 1).collect();
        log.append(append(vec![retract(&secrets)])).await.unwrap();
        assert_eq!(log.find(Seq::new(1)).await, Ok(Lookup::Retracted));
        assert_eq!(log.find(Seq::new(2)).await, Ok(Lookup::Comment));
        assert_eq!(log.find(Seq::new(401)).await, Ok(Lookup::Event));
        let page = log.read_after(Seq::ZERO, 3).await.unwrap();
        assert_eq!(ids(&page.entries), [2, 4, 6]);
    }
    until(|| !fixture.holds("secret-")).await;
    assert!(fixture.holds("public-1-7-."));
    drop((logs, tails));
    let fixture = fixture.restart(10).await;
    assert!(!fixture.holds("secret-"));
}

#[tokio::test]
async fn a_retracted_entry_comes_from_neither_ring_nor_file() {
    let fixture = Fixture::start(2);
    let log = fixture.open().await;
    let mut tail = log.tail_after(Seq::ZERO);
    log.append(comments(&["1", "2", "3", "4"])).await.unwrap();
    let mut taken = Vec::new();
    // The ring keeps what is not taken, whatever its bound.
    assert_eq!(tail.drain(&mut taken, 100).await, Tailed::Entries);
    assert_eq!(ids(&taken), [1, 2, 3, 4]);
    log.append(append(vec![retract(&[1, 4])])).await.unwrap();
    let page = log.read_after(Seq::ZERO, 9).await.unwrap();
    assert_eq!(ids(&page.entries), [2, 3, 5]);
    assert!(matches!(page.entries[2].body, EntryBody::Event(_)));
}

#[tokio::test]
async fn an_interval_is_the_same_from_the_ring_and_the_file() {
    let fixture = Fixture::start(100);
    let log = fixture.open().await;
    for text in ["a", "b", "c"] {
        log.append(comments(&[text])).await.unwrap();
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    log.append(append(vec![retract(&[2])])).await.unwrap();
    let at = |page: &crate::Page| page.entries.iter().map(|entry| entry.at_ms).collect();
    let times: Vec<u64> = at(&log.read_after(Seq::ZERO, 9).await.unwrap());
    let (first, last) = (times[0], times[times.len() - 1]);
    let stretches = [
        (0, first),
        (first, first + 1),
        (first + 1, last),
        (first, last + 1),
        (last + 1, last + 2),
    ];
    let mut before = Vec::new();
    for (from_ms, to_ms) in stretches {
        before.push(log.read_between(from_ms, to_ms, 1_000).await.unwrap());
    }
    assert_eq!(ids(&before[3].entries), [1, 3, 4]);
    drop(log);

    let fixture = fixture.restart(100).await;
    let log = fixture.open().await;
    for ((from_ms, to_ms), expected) in stretches.into_iter().zip(before) {
        let read = log.read_between(from_ms, to_ms, 1_000).await.unwrap();
        assert_eq!(read, expected, "{from_ms} to {to_ms}");
    }
}

#[tokio::test]
async fn the_oldest_go_when_a_room_is_over_its_bound() {
    let fixture = Fixture::start_in(TempDir::new().unwrap(), 4, |config| {
        config.room_entries_max = Some(10);
    });
    let log = fixture.open().await;
    let mut tail = log.tail_after(Seq::ZERO);
    for n in 0..40 {
        log.append(comments(&[&format!("c{n}")])).await.unwrap();
        let _ = tail.drain(&mut Vec::new(), 100).await;
    }
    until(|| log.floor() == Seq::new(30)).await;
    let page = log.read_after(Seq::ZERO, 100).await.unwrap();
    assert_eq!(page.after, Seq::new(30));
    assert_eq!(ids(&page.entries), (31..=40).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_is_too_old_goes_and_positions_go_on() {
    let fixture = Fixture::start_in(TempDir::new().unwrap(), 4, |config| {
        config.age_max = Some(Duration::from_secs(3_600));
    });
    let log = fixture.open().await;
    let mut tail = log.tail_after(Seq::ZERO);
    // From 1970.
    log.append(comments(&["old-one", "old-two"])).await.unwrap();
    let _ = tail.drain(&mut Vec::new(), 100).await;
    until(|| log.floor() == Seq::new(2)).await;
    assert!(
        log.read_after(Seq::ZERO, 9)
            .await
            .unwrap()
            .entries
            .is_empty()
    );
    until(|| !fixture.holds("old-")).await;
    let mut new = comments(&["new"]);
    new.now_ms = 1 << 50;
    assert_eq!(values(&log.append(new).await.unwrap().seqs), [3]);
    drop((log, tail));
    let fixture = fixture.restart(4).await;
    let log = fixture.open().await;
    assert_eq!((log.floor(), log.head()), (Seq::new(2), Seq::new(3)));
}

#[tokio::test]
async fn a_file_over_its_bytes_loses_its_oldest() {
    let fixture = Fixture::start_in(TempDir::new().unwrap(), 4, |config| {
        // Several times what goes in one step.
        config.bytes_max = Some(1 << 20);
    });
    let log = fixture.open().await;
    let mut tail = log.tail_after(Seq::ZERO);
    let text = "x".repeat(190);
    let texts = [&*text; 100];
    for _ in 0..80 {
        log.append(comments(&texts)).await.unwrap();
        let _ = tail.drain(&mut Vec::new(), 1_000).await;
    }
    until(|| log.floor() > Seq::new(2_000)).await;
    let newest = log.read_last(log.head(), 10, 10_000).await.unwrap();
    assert_eq!(newest.entries.len(), 10);
}

#[tokio::test]
async fn a_locked_file_refuses_appends_until_it_is_free() {
    let fixture = Fixture::start(10);
    let log = fixture.open().await;
    log.append(comments(&["1"])).await.unwrap();
    let mut health = fixture.sqlite.health();
    assert_eq!(fixture.sqlite.health_now(), Health::Ready);
    // A second writer in this process stands for a tool that was started by hand.
    let file = fixture.folder.path().join("danmaku.db");
    let foreign = TempDir::new().unwrap();
    std::os::unix::fs::symlink(&file, foreign.path().join("danmaku.db")).unwrap();
    let mut other = Writer::open(foreign.path()).unwrap();
    let lock = other.begin().unwrap();
    let refused = log.append(comments(&["2"])).await;
    assert_eq!(refused, Err(AppendError::Unavailable));
    health.changed().await.unwrap();
    let Health::Failing { reason } = fixture.sqlite.health_now() else {
        panic!("ready");
    };
    assert!(reason.contains("locked"), "{reason}");
    // Reading goes on.
    assert_eq!(log.read_after(Seq::ZERO, 9).await.unwrap().entries.len(), 1);
    drop(lock);
    until(|| fixture.sqlite.health_now() == Health::Ready).await;
    let appended = log.append(comments(&["2"])).await.unwrap();
    assert_eq!(values(&appended.seqs), [2]);
}

#[tokio::test]
async fn log_time_waits_for_a_commit_that_is_on_its_way() {
    let fixture = Fixture::start(10);
    let log = fixture.open().await;
    let (begun, commits) = sync_channel(1);
    let (go_on, may_go_on) = sync_channel(1);
    let may_go_on = Mutex::new(may_go_on);
    fixture.sqlite.before_commits(move || {
        begun.send(()).unwrap();
        may_go_on.lock().unwrap().recv().unwrap();
    });
    let mut one = comments(&["1"]);
    one.now_ms = 1_000;
    let mut append = Box::pin(log.append(one));
    // It is queued at the first poll.
    assert!(
        tokio::time::timeout(Duration::ZERO, &mut append)
            .await
            .is_err()
    );
    commits.recv().unwrap();
    let later_ms = 1 << 50;
    assert!(log.reach(later_ms) < later_ms);
    go_on.send(()).unwrap();
    append.await.unwrap();
    until(|| log.reach(later_ms) == later_ms).await;
    let mut append = Box::pin(log.append(comments(&["2"])));
    assert!(
        tokio::time::timeout(Duration::ZERO, &mut append)
            .await
            .is_err()
    );
    commits.recv().unwrap();
    go_on.send(()).unwrap();
    append.await.unwrap();
    let before = log.read_between(0, later_ms, 1_000).await.unwrap();
    let after = log
        .read_between(later_ms, later_ms + 1, 1_000)
        .await
        .unwrap();
    assert_eq!(
        (ids(&before.entries), ids(&after.entries)),
        (vec![1], vec![2])
    );
}

#[tokio::test]
async fn everybody_opens_the_same_room() {
    let fixture = Fixture::start(10);
    let id = room_id();
    let (one, two) = tokio::join!(
        fixture.log.open(&id, Epoch::new(1)),
        fixture.log.open(&id, Epoch::new(2)),
    );
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!(one.epoch(), two.epoch());
    one.append(comments(&["1"])).await.unwrap();
    assert_eq!(two.head(), Seq::new(1));
    assert_eq!(
        two.append(append(vec![comment("2")]))
            .await
            .unwrap()
            .seqs
            .len(),
        1
    );
    assert_eq!(one.head(), Seq::new(2));
}

#[tokio::test]
async fn the_text_of_a_pin_is_in_no_file_after_it() {
    let fixture = Fixture::start(10);
    let records = fixture.log.records();
    let pin = |text: &str| crate::Change::Pin {
        room: "r".to_owned(),
        pin: crate::Pin {
            epoch: 7,
            seq: 1,
            body: text.as_bytes().to_vec(),
            until_ms: None,
            by: "operator".to_owned(),
            at_ms: 5,
        },
    };
    let texts = ["the-first-secret", "the-second-secret"];
    for text in texts {
        records.change(pin(text), None).await.unwrap();
        assert!(fixture.holds(text));
    }
    let room = "r".to_owned();
    let unpin = crate::Change::Unpin { room };
    records.change(unpin, None).await.unwrap();
    let begun = std::time::Instant::now();
    while texts.iter().any(|text| fixture.holds(text)) {
        assert!(begun.elapsed() < Duration::from_secs(30), "not scrubbed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn comments_are_counted_by_time_in_memory_and_in_the_file() {
    let fixture = Fixture::start(2);
    for log in [
        fixture.open().await,
        crate::fixture::memory(crate::fixture::config(100)).await,
    ] {
        for (now_s, entry) in [
            // Seconds, so that the milliseconds an append waits for its commit don't count.
            (10, comment("1")),
            (15, comment("2")),
            (21, comment("3")),
            (33, retract(&[2])),
            (34, comment("5")),
        ] {
            let append = Append {
                now_ms: now_s * 1_000,
                ..append(vec![entry])
            };
            log.append(append).await.unwrap();
        }
        let check = async |from_s: u64, to_s: u64, expected: &[u64]| {
            let steps = crate::Steps {
                from_ms: from_s * 1_000,
                to_ms: to_s * 1_000,
                step_ms: 10_000,
            };
            assert_eq!(log.count_comments(steps).await.unwrap(), expected);
        };
        check(10, 40, &[2, 1, 1]).await;
        check(0, 45, &[0, 2, 1, 1, 0]).await;
        check(11, 15, &[0]).await;
        check(12, 22, &[2]).await;
    }
    let nothing = RoomId::parse("nothing").unwrap();
    let log = fixture.log.open(&nothing, EPOCH).await.unwrap();
    let steps = crate::Steps {
        from_ms: 0,
        to_ms: 25,
        step_ms: 10,
    };
    assert_eq!(log.count_comments(steps).await.unwrap(), [0, 0, 0]);
}

#[tokio::test]
async fn a_file_that_is_moved_away_refuses_appends_until_it_is_back() {
    let fixture = Fixture::start(10);
    let log = fixture.open().await;
    let file = fixture.folder.path().join("danmaku.db");
    let aside = fixture.folder.path().join("aside");
    fs::rename(&file, &aside).unwrap();
    let refused = log.append(comments(&["a"])).await;
    assert_eq!(refused, Err(AppendError::Unavailable));
    let Health::Failing { reason } = fixture.sqlite.health_now() else {
        panic!("nobody is told");
    };
    assert!(reason.contains("danmaku.db was deleted"), "{reason}");
    fs::rename(&aside, &file).unwrap();
    until(|| fixture.sqlite.health_now() == Health::Ready).await;
    let appended = log.append(comments(&["b"])).await.unwrap();
    assert_eq!(values(&appended.seqs), [1]);
}

#[tokio::test]
async fn a_deleted_folder_is_reported_without_a_post() {
    let fixture = Fixture::start(10);
    fs::remove_dir_all(fixture.folder.path()).unwrap();
    until(|| fixture.sqlite.health_now() != Health::Ready).await;
}
