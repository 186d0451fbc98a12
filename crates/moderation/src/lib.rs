//! Decisions about the text of a comment: does it hold a blocked term, a link, only emoji, too many special characters,
//! or what was just said?
//!
//! Everything here is pure: it knows no room, no clock and no I/O. Texts are compared in a folded form ([`Folded`]), and
//! shown as they were written.

mod blocked;
mod content;
mod fold;
mod repeats;

pub use blocked::{
    Blocked, BlockedTerm, BlockedTerms, TERM_SCALARS_MAX, TERMS_MAX, TermAction, TermError,
    TermFault, TermMatch,
};
pub use content::{has_link, is_emoji_only, special_percent};
pub use fold::Folded;
pub use repeats::{REPEATS_MAX, Repeats};
