//! Fails when the protocol changes and `docs/PROTOCOL.md` does not.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use danmaku_wire::limits::{
    BODY_BYTES_MAX, COLOR_MAX, FONT_SIZE_MAX, FONT_SIZE_MIN, MESSAGE_BYTES_MAX, ROOM_ID_BYTES_MAX,
};
use danmaku_wire::{CloseReason, CommentLimits, Encoding, Mode, Reconnect, Role};

fn document() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/PROTOCOL.md");
    std::fs::read_to_string(path).unwrap()
}

fn check(document: &str, said: &str) {
    assert!(
        document.contains(said),
        "docs/PROTOCOL.md does not say: {said}"
    );
}

#[test]
fn the_close_code_table_is_the_one_in_the_code() {
    let document = document();
    for reason in CloseReason::ALL {
        let reconnect = match reason.reconnect() {
            Reconnect::Yes => "yes",
            Reconnect::No => "no",
        };
        check(
            &document,
            &format!("| {} | `{}` |", reason.code(), reason.name()),
        );
        let row = document
            .lines()
            .find(|line| line.starts_with(&format!("| {} |", reason.code())))
            .unwrap();
        assert!(row.ends_with(&format!("| {reconnect} |")), "{row}");
    }
    let rows = document
        .lines()
        .filter(|line| {
            let code = line
                .strip_prefix("| ")
                .and_then(|rest| rest.split(' ').next());
            code.is_some_and(|code| code.parse().is_ok_and(|code: u16| code >= 1000))
        })
        .count();
    assert_eq!(rows, CloseReason::ALL.len());
}

#[test]
fn limits_and_names_are_the_ones_in_the_code() {
    let document = document();
    let limits = CommentLimits::default();
    check(&document, &format!("1 to {ROOM_ID_BYTES_MAX} of"));
    check(&document, &format!("at most {MESSAGE_BYTES_MAX} bytes"));
    check(&document, &format!("up to {} KiB", BODY_BYTES_MAX / 1024));
    check(
        &document,
        &format!("array of 1 to {}", limits.posted_comments_max),
    );
    check(
        &document,
        &format!("1 to {} Unicode scalar values", limits.text_scalars_max),
    );
    check(&document, &format!("up to {} bytes", limits.user_bytes_max));
    check(
        &document,
        &format!("up to {} scalar values", limits.name_scalars_max),
    );
    check(
        &document,
        &format!("`count` 1 to {}", limits.like_count_max),
    );
    check(
        &document,
        &format!("font size, {FONT_SIZE_MIN} to {FONT_SIZE_MAX}"),
    );
    check(&document, &format!("{COLOR_MAX} (white)"));
    for encoding in Encoding::ALL {
        check(&document, &format!("| `{}` |", encoding.as_str()));
    }
    for mode in Mode::ALL {
        check(&document, &format!("`{}`", mode.as_str()));
    }
    for role in Role::ALL {
        check(&document, &format!("`{}`", role.as_str()));
    }
}
