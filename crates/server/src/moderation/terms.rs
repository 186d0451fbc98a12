//! Owns the lists of blocked terms: of each room, and of all rooms.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use danmaku_log::Records;
use danmaku_moderation::{Blocked, BlockedTerm, BlockedTerms, Folded, TERMS_MAX, TermAction};
use danmaku_wire::{Comment, CommentLimits, CommentText, DisplayName, RoomId};
use serde::{Deserialize, Serialize};

use super::Submission;
use crate::objection::Objection;
use crate::refusal::Refusal;

/// Blocked terms, ready to search texts. A list is replaced as a whole, without a pause for those who post.
#[derive(Debug, Default)]
pub struct TermLists {
    /// That of all rooms is under `None`.
    lists: RwLock<HashMap<Option<RoomId>, Arc<BlockedTerms>>>,
    /// Held while a list is replaced, so that what is kept and what is searched for are the same.
    pub replacing: tokio::sync::Mutex<()>,
}

/// A list as moderators see it, and ready to search texts.
#[derive(Debug)]
pub struct TermList {
    /// Its JSON; empty for a list without terms.
    pub text: String,
    /// How many terms it has.
    pub count: usize,
    search: BlockedTerms,
}

/// Why a list is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct BadTerms {
    /// The term's index; `None` if the list as a whole is wrong.
    pub index: Option<usize>,
    /// What is wrong.
    pub problem: String,
}

/// What blocked terms do to a post.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    pub(super) masked: Option<Vec<Comment>>,
    pub(super) hold: bool,
}

impl TermLists {
    /// The lists that are kept in the records.
    pub(super) fn load(records: &Records) -> Self {
        let known = records.rooms_with_terms().into_iter().filter_map(|room| {
            let text = records.terms(room.as_ref())?;
            match TermList::parse(text.as_bytes()) {
                Ok(list) => Some((room, Arc::new(list.search))),
                Err(error) => {
                    tracing::error!(?room, %error, "blocked terms are not usable");
                    None
                }
            }
        });
        Self {
            lists: RwLock::new(known.collect()),
            ..Self::default()
        }
    }

    /// Replaces the list of a room, or of all rooms.
    pub fn replace(&self, room: Option<&RoomId>, list: TermList) {
        let mut lists = self.lists.write().unwrap_or_else(PoisonError::into_inner);
        let before = if list.count == 0 {
            lists.remove(&room.cloned())
        } else {
            lists.insert(room.cloned(), Arc::new(list.search))
        };
        drop(lists);
        // Freeing megabytes takes a while.
        drop(before);
    }

    /// What to search the texts of a room for.
    pub(super) fn of(&self, room: &RoomId) -> Vec<Arc<BlockedTerms>> {
        let lists = self.lists.read().unwrap_or_else(PoisonError::into_inner);
        if lists.is_empty() {
            return Vec::new();
        }
        let known = [lists.get(&None), lists.get(&Some(room.clone()))];
        known.into_iter().flatten().cloned().collect()
    }
}

impl TermList {
    /// Reads a JSON array of terms, and builds the search: tens of milliseconds for 50,000 terms.
    ///
    /// # Errors
    /// [`BadTerms`] names the first term that is wrong.
    pub fn parse(json: &[u8]) -> Result<Self, BadTerms> {
        let values: Vec<serde_json::Value> = if json.is_empty() {
            Vec::new()
        } else {
            serde_json::from_slice(json).map_err(|_| BadTerms {
                index: None,
                problem: "the body must be a JSON array of terms".to_owned(),
            })?
        };
        if values.len() > TERMS_MAX {
            return Err(BadTerms {
                index: Some(TERMS_MAX),
                problem: format!("a list has at most {TERMS_MAX} terms"),
            });
        }
        let mut terms = Vec::with_capacity(values.len());
        for (index, value) in values.into_iter().enumerate() {
            let term = serde_json::from_value(value).map_err(|error| BadTerms {
                index: Some(index),
                problem: format!("term {index}: {error}"),
            })?;
            terms.push(term);
        }
        Self::of(&terms)
    }

    fn of(terms: &[Term]) -> Result<Self, BadTerms> {
        let blocked: Vec<_> = terms.iter().map(BlockedTerm::from).collect();
        let search = BlockedTerms::new(&blocked).map_err(|error| BadTerms {
            index: Some(error.index),
            problem: error.to_string(),
        })?;
        let text = if terms.is_empty() {
            String::new()
        } else {
            serde_json::to_string(terms).expect("invariant: terms have string keys only")
        };
        Ok(Self {
            text,
            count: terms.len(),
            search,
        })
    }
}

/// A term as moderators write it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Term {
    term: String,
    #[serde(default, rename = "match")]
    matched: Match,
    #[serde(default)]
    action: Action,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Match {
    #[default]
    Substring,
    Word,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    #[default]
    Deny,
    Hold,
    Mask,
}

impl From<&Term> for BlockedTerm {
    fn from(term: &Term) -> Self {
        Self {
            term: term.term.clone(),
            whole_word: matches!(term.matched, Match::Word),
            action: match term.action {
                Action::Deny => TermAction::Deny,
                Action::Hold => TermAction::Hold,
                Action::Mask => TermAction::Mask,
            },
        }
    }
}

/// Searches texts and names.
pub(super) fn check(
    lists: &[Arc<BlockedTerms>],
    submission: &Submission<'_>,
) -> Result<Verdict, Refusal> {
    let mut verdict = Verdict::default();
    if lists.is_empty() {
        return Ok(verdict);
    }
    let lists: Vec<_> = lists.iter().map(|list| &**list).collect();
    let judge = |text: &str| Blocked::judge(text, &Folded::new(text), &lists);
    for (index, comment) in submission.comments.iter().enumerate() {
        let refuse = |objection| {
            let index = submission.index(index);
            Err(Refusal::Moderated { index, objection })
        };
        let text = judge(comment.text.as_str());
        let name = (comment.name.as_ref()).map_or(Blocked::No, |name| judge(name.as_str()));
        if text == Blocked::Deny || name == Blocked::Deny {
            return refuse(Objection::BlockedTerm);
        }
        if text == Blocked::Hold || name == Blocked::Hold {
            if submission.comments.len() > 1 {
                return refuse(Objection::NeedsReview);
            }
            verdict.hold = true;
        }
        let masked = |comments: &mut Option<Vec<Comment>>, mask: &dyn Fn(&mut Comment)| {
            let comments = comments.get_or_insert_with(|| submission.comments.to_vec());
            mask(&mut comments[index]);
        };
        // Each character became one asterisk, so both are as long as they were.
        let limits = CommentLimits::default();
        if let Blocked::Masked(text) = &text
            && let Ok(text) = CommentText::new(text, &limits)
        {
            masked(&mut verdict.masked, &|comment| comment.text = text.clone());
        }
        if let Blocked::Masked(name) = &name
            && let Ok(name) = DisplayName::new(name, &limits)
        {
            masked(&mut verdict.masked, &|comment| {
                comment.name = Some(name.clone());
            });
        }
    }
    Ok(verdict)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_written_again() {
        #[track_caller]
        fn check(json: &str, expected: Result<&str, Option<usize>>) {
            let read = TermList::parse(json.as_bytes());
            let found = read.as_ref().map(|list| list.text.as_str());
            assert_eq!(found.map_err(|error| error.index), expected, "{json}");
        }
        check("[]", Ok(""));
        check(
            r#"[{"term":"弹"},{"action":"mask","match":"word","term":"a"}]"#,
            Ok(
                r#"[{"term":"弹","match":"substring","action":"deny"},{"term":"a","match":"word","action":"mask"}]"#,
            ),
        );
        check("{}", Err(None));
        check("[", Err(None));
        check(r#"[{"term":"a"},{"term":" "}]"#, Err(Some(1)));
        check(r#"[{"term":"a"},7]"#, Err(Some(1)));
        check(r#"[{"term":"a","match":"regex"}]"#, Err(Some(0)));
        check(r#"[{"term":"a","action":"warn"}]"#, Err(Some(0)));
        check(r#"[{"term":"a","x":1}]"#, Err(Some(0)));
        let many = vec![r#"{"term":"a"}"#; TERMS_MAX + 1].join(",");
        check(&format!("[{many}]"), Err(Some(TERMS_MAX)));
    }
}
