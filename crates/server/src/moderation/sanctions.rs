//! Owns who cannot post because of a sanction.

use danmaku_engine::admission::AddressKey;
use danmaku_log::{RoomRecords, Sanction, SanctionKind, Subject};
use danmaku_wire::UserId;

use super::{Standing, Submission};
use crate::objection::Objection;
use crate::refusal::Refusal;

/// The subject of sanctions against an address. An IPv6 address stands for its /64.
#[must_use]
pub fn address_subject(address: AddressKey) -> Subject {
    Subject::Address(address.to_string())
}

/// Checks the address, the comments' users, and `user`.
pub(super) fn check(
    known: &RoomRecords,
    submission: &Submission<'_>,
    user: Option<&UserId>,
) -> Result<(), Refusal> {
    if !known.has_sanctions() {
        return Ok(());
    }
    let now_ms = submission.now.unix_ms;
    if submission.standing != Standing::BackEnd {
        let subject = address_subject(submission.address);
        if let Some(objection) = strictest(known.sanctions(&subject, now_ms), now_ms) {
            let index = None;
            return Err(Refusal::Moderated { index, objection });
        }
    }
    let users = submission
        .comments
        .iter()
        .map(|comment| comment.user.as_ref());
    let users = users.enumerate().chain(user.map(|user| (0, Some(user))));
    for (index, user) in users {
        let Some(user) = user else {
            continue;
        };
        let subject = Subject::User(user.as_str().to_owned());
        if let Some(objection) = strictest(known.sanctions(&subject, now_ms), now_ms) {
            let index = submission.index(index);
            return Err(Refusal::Moderated { index, objection });
        }
    }
    Ok(())
}

/// What to tell the poster: of a ban rather than of a timeout.
fn strictest<'a>(sanctions: impl Iterator<Item = &'a Sanction>, now_ms: u64) -> Option<Objection> {
    let mut found = None;
    for sanction in sanctions {
        let left_ms = sanction.until_ms.map(|until| until.saturating_sub(now_ms));
        match sanction.kind {
            SanctionKind::Ban => {
                return Some(Objection::Banned {
                    retry_after_ms: left_ms,
                });
            }
            SanctionKind::Timeout => {
                found = Some(Objection::TimedOut {
                    retry_after_ms: left_ms.unwrap_or(u64::MAX),
                });
            }
            SanctionKind::ShadowBan => {}
        }
    }
    found
}
