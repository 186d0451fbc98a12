//! Decodes frames that are new to a thread.

use std::collections::HashSet;

use danmaku_client::{Event, RoomEvent, RoomEventKind, Unpacker};
use danmaku_wire::{Dialect, Protocol};

use crate::audit::content::Content;
use crate::audit::history::Past;
use crate::audit::{Auditor, BATCH_START, Carrier, POSITION_MAX, Watch, is_chained};
use crate::clock::Moment;
use crate::event_text::{EVENT_END, EventText};
use crate::fingerprint::fingerprint;

/// What bytes turned out to be that a thread sees for the first time.
pub(super) enum Learned {
    /// A batch: the number of its content.
    Content(u64),
    /// Another event, whose text is left in `plain`.
    Text,
    Unfinished,
}

impl Auditor {
    /// Decodes bytes that no viewer of this thread had before. `None` when they cannot be decoded.
    #[cold]
    pub(super) fn learn(
        &mut self,
        watch: &Watch,
        carrier: Carrier<'_>,
        print: u64,
        now: Moment,
    ) -> Option<Learned> {
        let Carrier {
            room,
            dialect,
            payload,
        } = carrier;
        self.plain.clear();
        if is_chained(dialect) {
            let history = &self.rooms[room as usize].history;
            self.inflater
                .decode(history, watch.mark, payload, &mut self.plain)?;
        } else {
            Unpacker::new(dialect)
                .unpack(payload, &mut self.plain)
                .ok()?;
        }
        match dialect {
            Dialect::WsIdentity | Dialect::WsGzip => {}
            Dialect::WsDeflate => {
                self.plain.pop_if(|last| *last == b'\n')?;
            }
            Dialect::SseIdentity | Dialect::SseGzip => {
                if !self.plain.ends_with(EVENT_END) {
                    return Some(Learned::Unfinished);
                }
                let is_batch = matches!(
                    EventText::parse(&self.plain),
                    Some(EventText::Message { json, .. }) if json.starts_with(BATCH_START)
                );
                if !is_batch {
                    return Some(Learned::Text);
                }
            }
        }
        let plain = fingerprint(&self.plain);
        let number = match self.forms.get(&(room, plain)) {
            Some(known) => *known,
            None => self.learn_content(watch, room, dialect.protocol(), plain, now)?,
        };
        self.enter_form(room, print, number);
        Some(Learned::Content(number))
    }

    fn learn_content(
        &mut self,
        watch: &Watch,
        room: u32,
        protocol: Protocol,
        plain: u64,
        now: Moment,
    ) -> Option<u64> {
        // Text messages are UTF-8 (RFC 6455 section 8.1), and batches are such, however they are packed.
        std::str::from_utf8(&self.plain).ok()?;
        let (id, json) = match protocol {
            Protocol::WebSocket => (None, &self.plain[..]),
            Protocol::Sse => match EventText::parse(&self.plain)? {
                EventText::Message { id, json } => (Some(id?), json),
                EventText::Heartbeat => return None,
            },
        };
        let Ok(Event::Batch(batch)) = Event::parse(json) else {
            return None;
        };
        let (after, seq) = (batch.after.value(), batch.seq.value());
        let highest = batch.comments.iter().map(|comment| comment.id.value());
        if seq < after || highest.max().unwrap_or(seq).max(seq) > POSITION_MAX {
            return None;
        }
        if let Some(id) = id {
            // The position a viewer resumes from must be where the batch ends.
            let epoch = self.ledger.room(room).epoch()?;
            if id != format!("{epoch}:{seq}").as_bytes() {
                return None;
            }
        }
        let only_replayed = watch.is_replay(after, seq);
        let end: &[u8] = match protocol {
            Protocol::WebSocket => b"\n",
            Protocol::Sse => b"",
        };
        let audit = &mut self.rooms[room as usize];
        retract(&mut audit.retracted, &batch.events);
        let mark = audit.history.add(Past {
            order: (after, batch.ts_ms),
            only_replayed,
            plain: [&self.plain, end].concat().into(),
        });
        let sealed = self.judge.clock.at_unix_ms(batch.ts_ms);
        let number = self.front + self.contents.len() as u64;
        let mut content = Content::new(room, &batch, plain, mark, now, sealed);
        content.only_replayed = only_replayed;
        self.contents.push_back(content);
        // The plain text is the identity form as well.
        self.enter_form(room, plain, number);
        Some(number)
    }

    fn enter_form(&mut self, room: u32, print: u64, number: u64) {
        if self.forms.insert((room, print), number).is_none()
            && let Ok(index) = usize::try_from(number - self.front)
        {
            self.contents[index].forms.push(print);
        }
    }
}

/// Records which comments the events retract.
pub(super) fn retract(retracted: &mut HashSet<u64>, events: &[RoomEvent]) {
    for event in events {
        if let RoomEventKind::Retract { ids } = &event.kind {
            retracted.extend(ids.iter().map(|id| id.value()));
        }
    }
}
