//! Fails when the protocol changes and the files of `docs` that say what it is do not.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use danmaku_wire::limits::{
    BODY_BYTES_MAX, COLOR_MAX, FONT_SIZE_MAX, FONT_SIZE_MIN, MESSAGE_BYTES_MAX, ROOM_ID_BYTES_MAX,
};
use danmaku_wire::{CloseReason, CommentLimits, Encoding, Mode, Reconnect, Role};

fn document() -> String {
    read("PROTOCOL.md")
}

fn read(name: &str) -> String {
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/");
    std::fs::read_to_string(format!("{docs}{name}")).unwrap()
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

#[test]
fn the_paths_of_the_http_description_are_those_of_the_protocol() {
    let (document, description) = (document(), read("openapi.yaml"));
    for path in PATHS {
        check(&document, &format!("GET {path}"));
        let entry = format!("\n  {path}:\n");
        assert!(description.contains(&entry), "openapi.yaml lacks {path}");
    }
}

#[test]
fn the_http_description_has_every_http_error_code() {
    let (document, description) = (document(), read("openapi.yaml"));
    let (_, errors) = document.split_once("\n## HTTP errors\n").unwrap();
    let is_code = |word: &&str| word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    let codes: Vec<_> = errors
        .lines()
        .filter(|line| line.starts_with("| "))
        // Between backticks, where header names stand too.
        .flat_map(|row| row.split('`').skip(1).step_by(2).filter(is_code))
        .collect();
    assert!(codes.contains(&"not_found"), "{codes:?}");
    for code in codes {
        let entry = format!("\n        - {code}\n");
        assert!(description.contains(&entry), "openapi.yaml lacks {code}");
    }
}

#[test]
fn the_websocket_description_has_every_close_code() {
    let description = read("asyncapi.yaml");
    for reason in CloseReason::ALL {
        let row = format!(
            "- {{ code: {}, name: {}, reconnect: {}, ",
            reason.code(),
            reason.name(),
            reason.reconnect() == Reconnect::Yes
        );
        assert!(description.contains(&row), "asyncapi.yaml lacks {row}");
    }
}

/// The server's paths, as the protocol names them.
const PATHS: [&str; 8] = [
    "/v1/rooms/{room}/ws",
    "/v1/rooms/{room}/comments",
    "/v1/rooms",
    "/v1/rooms/{room}",
    "/v1/stats",
    "/metrics",
    "/healthz",
    "/readyz",
];
