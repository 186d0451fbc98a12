//! Owns what was said lately in the rooms whose texts must be unique within a time.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use danmaku_log::Settings;
use danmaku_moderation::{Folded, Repeats};
use danmaku_wire::RoomId;

use super::Submission;
use crate::objection::Objection;
use crate::refusal::Refusal;

/// What was said lately, by room.
#[derive(Debug, Default)]
pub(super) struct Repeated(Mutex<HashMap<RoomId, Repeats>>);

/// Texts that are about to be posted. Dropped without [`Said::posted`], they were not.
#[derive(Debug)]
pub(super) struct Said<'a> {
    repeated: &'a Repeated,
    room: RoomId,
    texts: Vec<Folded>,
    at_ms: u64,
}

impl Repeated {
    /// Claims the texts, if the room asks for unique ones. A text twice in one array is a repeat.
    pub(super) fn claim(
        &self,
        settings: &Settings,
        submission: &Submission<'_>,
    ) -> Result<Option<Said<'_>>, Refusal> {
        let Some(unique_s) = settings.unique_s.filter(|&seconds| seconds > 0) else {
            return Ok(None);
        };
        let within_ms = u64::from(unique_s) * 1_000;
        let at_ms = u64::try_from(submission.now.monotonic.as_millis()).unwrap_or(u64::MAX);
        let mut said = Said {
            repeated: self,
            room: submission.room.clone(),
            texts: Vec::new(),
            at_ms,
        };
        for (index, comment) in submission.comments.iter().enumerate() {
            let text = Folded::new(comment.text.as_str());
            let claimed = {
                let mut rooms = self.rooms();
                make_place(&mut rooms, submission.room, at_ms);
                let repeats = rooms.entry(submission.room.clone()).or_default();
                repeats.claim(&text, at_ms, within_ms)
            };
            match claimed {
                Ok(()) => said.texts.push(text),
                Err(age_ms) => {
                    return Err(Refusal::Moderated {
                        index: submission.index(index),
                        objection: Objection::Repeated {
                            retry_after_ms: within_ms - age_ms,
                        },
                    });
                }
            }
        }
        Ok(Some(said))
    }

    fn rooms(&self) -> MutexGuard<'_, HashMap<RoomId, Repeats>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Said<'_> {
    pub(super) fn posted(mut self) {
        self.texts.clear();
    }
}

impl Drop for Said<'_> {
    fn drop(&mut self) {
        if self.texts.is_empty() {
            return;
        }
        if let Some(repeats) = self.repeated.rooms().get_mut(&self.room) {
            for text in &self.texts {
                repeats.release(text, self.at_ms);
            }
        }
    }
}

/// Makes a place for one more room: forgets those where nothing was said for long, or else some room.
fn make_place(rooms: &mut HashMap<RoomId, Repeats>, room: &RoomId, now_ms: u64) {
    if rooms.len() < ROOMS_MAX || rooms.contains_key(room) {
        return;
    }
    rooms.retain(|_, repeats| {
        let newest_ms = repeats.newest_ms();
        newest_ms.is_some_and(|newest_ms| now_ms.saturating_sub(newest_ms) < UNIQUE_MS_MAX)
    });
    if rooms.len() >= ROOMS_MAX
        && let Some(some) = rooms.keys().next().cloned()
    {
        rooms.remove(&some);
    }
}

/// Rooms with unique texts whose texts are remembered: at most 16 KiB each.
const ROOMS_MAX: usize = 1_024;

/// The longest time that texts are remembered, in milliseconds.
const UNIQUE_MS_MAX: u64 = 3_600_000;
