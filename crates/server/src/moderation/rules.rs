//! Owns the rules of a room: who can post now, and which texts.

use std::time::Duration;

use danmaku_log::Settings;
use danmaku_moderation::{Folded, has_link, is_emoji_only, special_percent};
use danmaku_wire::{Comment, Fault, Field, Problem};

use super::{Standing, Submission};
use crate::objection::Objection;
use crate::refusal::Refusal;
use crate::slow_mode::{Poster, SlowMode, Turn};

/// Checks what needs no memory. A closed room and the length of texts are for everybody, the rest is not for moderators.
pub(super) fn check(settings: &Settings, submission: &Submission<'_>) -> Result<(), Refusal> {
    if settings.closed == Some(true) {
        return Err(Refusal::RoomClosed);
    }
    let now_s = submission.now.unix_ms / 1_000;
    if settings.members_only == Some(true) && !is_member(settings, submission.standing, now_s) {
        return Err(Refusal::Moderated {
            index: None,
            objection: Objection::MembersOnly,
        });
    }
    for (index, comment) in submission.comments.iter().enumerate() {
        let index = submission.index(index);
        if let Some(max) = settings.text_scalars_max {
            check_length(comment, max as usize, index)?;
        }
        if submission.standing != Standing::Moderator {
            check_text(settings, comment.text.as_str())
                .map_err(|objection| Refusal::Moderated { index, objection })?;
        }
    }
    Ok(())
}

/// Claims the posters' turns in slow mode.
pub(super) fn claim_turn<'m>(
    slow_mode: &'m SlowMode,
    settings: &Settings,
    submission: &Submission<'_>,
) -> Result<Option<Turn<'m>>, Refusal> {
    // A back end knows how often its users may post.
    let slow_s = (settings.slow_mode_s).filter(|_| submission.standing != Standing::BackEnd);
    let Some(interval_s) = slow_s.filter(|&seconds| seconds > 0) else {
        return Ok(None);
    };
    let posters = submission
        .comments
        .iter()
        .map(|comment| match &comment.user {
            Some(user) => Poster::User(user.as_str()),
            None => Poster::Address(submission.address),
        });
    let interval = Duration::from_secs(interval_s.into());
    let now = submission.now.monotonic;
    let claimed = slow_mode.claim(submission.room, posters, interval, now);
    claimed
        .map(Some)
        .map_err(|no_turn| Refusal::slow_mode(interval_s, no_turn))
}

fn is_member(settings: &Settings, standing: Standing, now_s: u64) -> bool {
    let age_s = u64::from(settings.member_age_s.unwrap_or(0));
    match standing {
        Standing::Anyone => false,
        Standing::Member { since_s } => {
            age_s == 0 || since_s.is_some_and(|since_s| since_s.saturating_add(age_s) <= now_s)
        }
        Standing::Moderator | Standing::BackEnd => true,
    }
}

fn check_length(comment: &Comment, max: usize, index: Option<usize>) -> Result<(), Refusal> {
    if comment.text.as_str().chars().nth(max).is_none() {
        return Ok(());
    }
    let problem = Problem {
        field: Field::Text,
        fault: Fault::TooManyScalars { max },
    };
    Err(Refusal::BadInput { index, problem })
}

fn check_text(settings: &Settings, text: &str) -> Result<(), Objection> {
    if settings.emoji_only == Some(true) && !is_emoji_only(text) {
        return Err(Objection::EmojiOnly);
    }
    if settings.no_links == Some(true) && has_link(&Folded::new(text)) {
        return Err(Objection::Link);
    }
    if let Some(max_percent) = settings.special_percent_max
        && special_percent(text) > max_percent
    {
        return Err(Objection::SpecialCharacters { max_percent });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members() {
        #[track_caller]
        fn check(age_s: Option<u32>, standing: Standing, expected: bool) {
            let settings = Settings {
                member_age_s: age_s,
                ..Settings::default()
            };
            assert_eq!(is_member(&settings, standing, 1_000), expected);
        }
        let since = |since_s| Standing::Member { since_s };
        check(None, Standing::Anyone, false);
        check(None, since(None), true);
        check(Some(0), since(Some(2_000)), true);
        check(Some(100), since(None), false);
        check(Some(100), since(Some(900)), true);
        check(Some(100), since(Some(901)), false);
        check(Some(100), Standing::Moderator, true);
    }

    #[test]
    fn texts() {
        let off = Settings::default();
        let emoji = Settings {
            emoji_only: Some(true),
            ..off
        };
        let links = Settings {
            no_links: Some(true),
            ..off
        };
        let special = Settings {
            special_percent_max: Some(50),
            ..off
        };
        #[track_caller]
        fn check(settings: &Settings, text: &str, expected: Option<&str>) {
            let found = check_text(settings, text).err().map(Objection::code);
            assert_eq!(found, expected, "{text}");
        }
        check(&off, "!!! see example.com", None);
        check(&emoji, "🔥 🔥", None);
        check(&emoji, "so 🔥", Some("emoji_only"));
        check(&links, "3.5 of 5", None);
        check(
            &links,
            "see ｅｘａｍｐｌｅ．ｃｏｍ",
            Some("link_not_allowed"),
        );
        check(&special, "hm??", None);
        check(&special, "h???", Some("too_many_special_characters"));
    }
}
