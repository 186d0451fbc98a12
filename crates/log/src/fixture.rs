//! Small logs, and entries to put into them.

use danmaku_wire::{
    Comment, CommentLimits, CommentText, Epoch, Event, IdempotencyKey, Priority, RoomId, Seq,
};

use crate::{Append, AppendKey, Double, Entry, EntryBody, Log, LogConfig, RoomLog, Store};

pub(crate) const EPOCH: Epoch = Epoch::new(7);

pub(crate) fn config(entries_max: usize) -> LogConfig {
    LogConfig {
        entries_max,
        bytes_max: 1 << 20,
        tail_lag_max: 100,
    }
}

pub(crate) fn room_id() -> RoomId {
    RoomId::parse("r").unwrap()
}

pub(crate) async fn memory(config: LogConfig) -> RoomLog {
    Log::new(config, Store::None)
        .open(&room_id(), EPOCH)
        .await
        .unwrap()
}

pub(crate) async fn over(double: &Double, config: LogConfig) -> RoomLog {
    Log::new(config, Store::Double(double.clone()))
        .open(&room_id(), EPOCH)
        .await
        .unwrap()
}

pub(crate) fn comment(text: &str) -> EntryBody {
    let text = CommentText::new(text, &CommentLimits::default()).unwrap();
    EntryBody::Comment {
        fragment: Comment::new(text).fragment(),
        priority: Priority::Viewer,
    }
}

pub(crate) fn retract(ids: &[u64]) -> EntryBody {
    EntryBody::Event(Event::Retract {
        ids: ids.iter().map(|&id| Seq::new(id)).collect(),
    })
}

pub(crate) fn append(entries: Vec<EntryBody>) -> Append {
    Append {
        entries,
        key: None,
        now_ms: 1_000,
    }
}

pub(crate) fn comments(texts: &[&str]) -> Append {
    append(texts.iter().map(|text| comment(text)).collect())
}

pub(crate) fn keyed(text: &str, key: &str) -> Append {
    Append {
        key: Some(AppendKey {
            poster: 1,
            key: IdempotencyKey::new(key).unwrap(),
        }),
        ..comments(&[text])
    }
}

pub(crate) fn values(seqs: &[Seq]) -> Vec<u64> {
    seqs.iter().map(|seq| seq.value()).collect()
}

pub(crate) fn ids(entries: &[Entry]) -> Vec<u64> {
    entries.iter().map(|entry| entry.seq.value()).collect()
}
