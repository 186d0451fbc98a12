//! Lists of blocked terms, and what they say about a text.

use std::fmt;
use std::ops::Range;

use daachorse::CharwiseDoubleArrayAhoCorasick;

use crate::fold::Folded;

/// The most terms in one list.
pub const TERMS_MAX: usize = 50_000;

/// The most scalar values of one term, folded.
pub const TERM_SCALARS_MAX: usize = 64;

/// What happens to a comment with the term, the mildest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TermAction {
    /// The term is shown as asterisks.
    Mask,
    /// A moderator decides.
    Hold,
    /// The comment is refused.
    Deny,
}

/// One blocked term.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockedTerm {
    /// The term in any spelling: it is folded as the comments are.
    pub term: String,
    /// Whether it must stand between characters that are neither letters nor digits. Without, it counts inside of
    /// words as well, which scripts without spaces need.
    pub whole_word: bool,
    /// What happens to a comment with it.
    pub action: TermAction,
}

/// A list of blocked terms, ready to search texts.
pub struct BlockedTerms {
    /// None without terms. The value of a pattern is its index in `rules`.
    search: Option<CharwiseDoubleArrayAhoCorasick<u32>>,
    rules: Vec<Rule>,
}

#[derive(Clone, Copy)]
struct Rule {
    whole_word: bool,
    action: TermAction,
}

impl BlockedTerms {
    /// Builds the search, in time and memory proportional to the terms: 50,000 take tens of milliseconds, so this is no
    /// work for a thread that serves viewers.
    ///
    /// # Errors
    /// The first term that can't be searched for, by its index.
    pub fn new(terms: &[BlockedTerm]) -> Result<Self, TermError> {
        let refuse = |index, fault| Err(TermError { index, fault });
        if terms.len() > TERMS_MAX {
            return refuse(TERMS_MAX, TermFault::TooMany);
        }
        let mut patterns = Vec::with_capacity(terms.len());
        for (index, term) in terms.iter().enumerate() {
            let folded = Folded::new(term.term.trim());
            let scalars = folded.as_str().chars().count();
            if scalars == 0 {
                return refuse(index, TermFault::Blank);
            }
            if scalars > TERM_SCALARS_MAX {
                return refuse(index, TermFault::TooLong);
            }
            patterns.push(folded);
        }
        let search = if patterns.is_empty() {
            None
        } else {
            let patterns = patterns.iter().map(Folded::as_str).zip(0_u32..);
            let built = CharwiseDoubleArrayAhoCorasick::with_values(patterns);
            match built {
                Ok(search) => Some(search),
                Err(_) => return refuse(terms.len() - 1, TermFault::TooMany),
            }
        };
        let rules = terms.iter().map(|term| Rule {
            whole_word: term.whole_word,
            action: term.action,
        });
        Ok(Self {
            search,
            rules: rules.collect(),
        })
    }

    /// The strictest match in a text; none when it holds no blocked term.
    #[must_use]
    pub fn strictest(&self, text: &Folded) -> Option<TermMatch> {
        self.matches(text)
            .map(|(_, matched)| matched)
            .max_by_key(|matched| matched.action)
    }

    /// The bytes of the original text to show as asterisks, in no order; they may overlap.
    pub fn masked<'a>(&'a self, text: &'a Folded) -> impl Iterator<Item = Range<usize>> + 'a {
        self.matches(text).map(|(range, _)| text.original(range))
    }

    fn matches<'a>(
        &'a self,
        text: &'a Folded,
    ) -> impl Iterator<Item = (Range<usize>, TermMatch)> + 'a {
        let found = self.search.iter();
        let found = found.flat_map(|search| search.find_overlapping_iter(text.as_str()));
        found.filter_map(|found| {
            let index = found.value() as usize;
            let rule = self.rules[index];
            let range = found.start()..found.end();
            if rule.whole_word && !is_whole_word(text.as_str(), &range) {
                return None;
            }
            let action = rule.action;
            Some((range, TermMatch { index, action }))
        })
    }
}

impl fmt::Debug for BlockedTerms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockedTerms")
            .field("terms", &self.rules.len())
            .finish_non_exhaustive()
    }
}

/// A blocked term that a text holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TermMatch {
    /// The term's index in its list.
    pub index: usize,
    /// What the term asks for.
    pub action: TermAction,
}

/// What several lists say about one text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// Nothing: it may be shown as it is.
    No,
    /// It may be shown with the terms masked.
    Masked(String),
    /// A moderator decides.
    Hold,
    /// It is refused.
    Deny,
}

impl Blocked {
    /// Judges a text by all `lists`: the strictest term counts.
    #[must_use]
    pub fn judge(text: &str, folded: &Folded, lists: &[&BlockedTerms]) -> Self {
        let strictest = lists.iter().filter_map(|list| list.strictest(folded));
        match strictest.map(|matched| matched.action).max() {
            None => Self::No,
            Some(TermAction::Deny) => Self::Deny,
            Some(TermAction::Hold) => Self::Hold,
            Some(TermAction::Mask) => {
                let spans = lists.iter().flat_map(|list| list.masked(folded));
                Self::Masked(mask(text, spans.collect()))
            }
        }
    }
}

/// The text with each character of the spans as an asterisk.
fn mask(text: &str, mut spans: Vec<Range<usize>>) -> String {
    spans.sort_unstable_by_key(|span| span.start);
    let mut masked = String::with_capacity(text.len());
    let mut done = 0;
    for span in spans {
        if span.end <= done {
            continue;
        }
        let start = span.start.max(done);
        masked.push_str(&text[done..start]);
        masked.extend(text[start..span.end].chars().map(|_| '*'));
        done = span.end;
    }
    masked.push_str(&text[done..]);
    masked
}

fn is_whole_word(text: &str, range: &Range<usize>) -> bool {
    let before = text[..range.start].chars().next_back();
    let after = text[range.end..].chars().next();
    !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric)
}

/// A list that can't be searched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("term {index} {fault}")]
pub struct TermError {
    /// The term's index in the list.
    pub index: usize,
    /// What is wrong with it.
    pub fault: TermFault,
}

/// What is wrong with a term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TermFault {
    /// Nothing that could be compared is in it.
    #[error("is blank")]
    Blank,
    /// It has more than [`TERM_SCALARS_MAX`] scalar values.
    #[error("is longer than {TERM_SCALARS_MAX} characters")]
    TooLong,
    /// The list has more than [`TERMS_MAX`] terms.
    #[error("is one too many: a list holds at most {TERMS_MAX}")]
    TooMany,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn list(terms: &[(&str, bool, TermAction)]) -> BlockedTerms {
        let terms = terms.iter().map(|(term, whole_word, action)| BlockedTerm {
            term: (*term).to_owned(),
            whole_word: *whole_word,
            action: *action,
        });
        BlockedTerms::new(&terms.collect::<Vec<_>>()).unwrap()
    }

    fn judge(text: &str, lists: &[&BlockedTerms]) -> Blocked {
        Blocked::judge(text, &Folded::new(text), lists)
    }

    #[test]
    fn the_strictest_of_all_lists_counts() {
        let server = list(&[
            ("坏词", false, TermAction::Deny),
            ("ass", true, TermAction::Mask),
        ]);
        let room = list(&[("assassin", true, TermAction::Hold)]);
        let check = |text, expected: Blocked| {
            assert_eq!(judge(text, &[&server, &room]), expected, "{text}");
        };
        check("a class of its own", Blocked::No);
        check("what an ASS!", Blocked::Masked("what an ***!".to_owned()));
        check("a\u{300}ss", Blocked::Masked("****".to_owned()));
        check("ass ass", Blocked::Masked("*** ***".to_owned()));
        check("the assassin", Blocked::Hold);
        check("ass, assassin", Blocked::Hold);
        check("这是坏词啊", Blocked::Deny);
        check("这是坏\u{200b}词啊", Blocked::Deny);
        check("the assassin 坏词", Blocked::Deny);
        assert_eq!(judge("坏词", &[]), Blocked::No);
        assert_eq!(judge("坏词", &[&list(&[])]), Blocked::No);
    }

    #[test]
    fn one_term_may_be_in_a_list_twice_and_inside_another() {
        let twice = list(&[
            ("bad", true, TermAction::Deny),
            ("BAD", false, TermAction::Mask),
            ("badge", false, TermAction::Mask),
        ]);
        assert_eq!(judge("bad", &[&twice]), Blocked::Deny);
        assert_eq!(
            judge("a badger", &[&twice]),
            Blocked::Masked("a *****r".to_owned())
        );
    }

    #[test]
    fn a_term_that_cannot_be_searched_for_is_named() {
        let check = |terms: &[&str], index, fault| {
            let terms = terms.iter().map(|term| BlockedTerm {
                term: (*term).to_owned(),
                whole_word: false,
                action: TermAction::Deny,
            });
            let refused = BlockedTerms::new(&terms.collect::<Vec<_>>()).unwrap_err();
            assert_eq!(refused, TermError { index, fault });
        };
        check(&["fine", " \u{200b}"], 1, TermFault::Blank);
        check(&[&"x".repeat(65)], 0, TermFault::TooLong);
        let many = vec!["x"; TERMS_MAX + 1];
        check(&many, TERMS_MAX, TermFault::TooMany);
    }

    proptest! {
        /// The search agrees with a plain one, and masking replaces character by character.
        #[test]
        fn searching_agrees_with_comparing(
            text in "[a-cA-C坏词é \u{200b}]{0,24}",
            terms in proptest::collection::vec(("[a-c坏词]{1,3}", any::<bool>()), 0..6),
        ) {
            let folded = Folded::new(&text);
            let expected = (terms.iter()).any(|(term, whole_word)| holds(folded.as_str(), term, *whole_word));
            let terms: Vec<_> = terms.iter().map(|(term, whole_word)| BlockedTerm {
                term: term.clone(),
                whole_word: *whole_word,
                action: TermAction::Mask,
            }).collect();
            let list = BlockedTerms::new(&terms).unwrap();
            match Blocked::judge(&text, &folded, &[&list]) {
                Blocked::No => prop_assert!(!expected),
                Blocked::Masked(masked) => {
                    prop_assert!(expected);
                    prop_assert_eq!(masked.chars().count(), text.chars().count());
                }
                other => prop_assert!(false, "{other:?}"),
            }
        }
    }

    fn holds(text: &str, term: &str, whole_word: bool) -> bool {
        text.char_indices().any(|(start, _)| {
            text[start..].starts_with(term)
                && (!whole_word || is_whole_word(text, &(start..start + term.len())))
        })
    }
}
