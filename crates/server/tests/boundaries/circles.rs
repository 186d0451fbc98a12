//! No crate has a circle of modules; and the checker finds the circles it should.

use std::path::Path;

use crate::modules::{Circle, Modules, Sources, circles};
use crate::{members, root};

#[test]
fn no_crate_has_a_circle_of_modules() {
    let mut found = String::new();
    for folder in members() {
        for circle in circles(&sources(&folder)).unwrap() {
            found.push_str(&format!("{folder}: {circle}"));
        }
    }
    assert!(found.is_empty(), "circles of modules:\n{found}");
}

/// One line closes a circle with an arrow that the crate has, whichever way the line is written.
#[test]
fn a_circle_in_any_crate_is_found() {
    for folder in members() {
        let sources = sources(&folder);
        let root = ["lib.rs", "main.rs"]
            .into_iter()
            .find(|root| sources.contains_key(*root));
        let modules = Modules::read(&sources, root.unwrap()).unwrap();
        let known = modules.circles();
        let arrow = (modules.arrows.keys()).find(|(from, _)| {
            let from = from.join("::");
            !known.iter().any(|circle| circle.modules.contains(&from))
        });
        // A crate of one module below its root has no arrow to close.
        let Some((from, to)) = arrow else {
            continue;
        };
        let (from, supers) = (from.join("::"), "super::".repeat(to.len()));
        for line in [
            format!("use crate::{from} as _;"),
            format!("pub use crate::{{\n    self as _, {from}::{{self as _, *}},\n}};"),
            format!("fn line() {{ println!(\"{{}}\", {supers}{from}::line()); }}"),
        ] {
            let mut sources = sources.clone();
            let stem = to.join("/");
            let file = [format!("{stem}.rs"), format!("{stem}/mod.rs")]
                .into_iter()
                .find(|file| sources.contains_key(file))
                .unwrap();
            let text = sources.get_mut(&file).unwrap();
            text.insert_str(text.len(), &format!("\n{line}\n"));
            let found = circles(&sources).unwrap();
            assert!(
                found.iter().any(|circle| {
                    circle.modules.contains(&from) && circle.modules.contains(&to.join("::"))
                }),
                "{folder}: {file} with `{line}`: {found:?}"
            );
        }
    }
}

#[test]
fn a_circle_of_two_is_found() {
    let circle = the_circle(&[
        ("lib.rs", "mod a;\nmod b;"),
        ("a.rs", "use crate::{\n    b::{self, B},\n};\npub struct A;"),
        ("b.rs", "pub struct B;\nfn a() { crate::a::A; }"),
    ]);
    assert_eq!(circle.modules, ["a", "b"]);
    assert_eq!(
        circle.ties,
        ["a -> b: crate::b, crate::b::B", "b -> a: crate::a::A"]
    );
}

#[test]
fn a_circle_of_three_through_names_of_parents_is_found() {
    let circle = the_circle(&[
        ("lib.rs", "pub mod http;\nmod room;\npub use room::Room;"),
        (
            "http/mod.rs",
            "mod error;\nmod query;\npub use error::ApiError;\npub use self::query::*;",
        ),
        ("http/error.rs", "use super::Query;\npub struct ApiError;"),
        ("http/query.rs", "use crate::Room as R;\npub struct Query;"),
        (
            "room.rs",
            "pub struct Room;\nfn f(_: super::http::ApiError) {}",
        ),
    ]);
    assert_eq!(circle.modules, ["http::error", "http::query", "room"]);
    assert_eq!(
        circle.ties,
        [
            "http::error -> http::query: super::Query",
            "http::query -> room: crate::Room",
            "room -> http::error: super::http::ApiError",
        ]
    );
}

#[test]
fn a_path_through_an_imported_module_counts() {
    let circle = the_circle(&[
        ("main.rs", "mod a;\nmod b;"),
        ("a.rs", "mod inner;\npub use inner::run;"),
        ("a/inner.rs", "pub fn run() {}\nuse super::super::b::B;"),
        (
            "b.rs",
            "use crate::a;\npub struct B;\nfn b() { vec![a::run()]; }",
        ),
    ]);
    assert_eq!(circle.modules, ["a::inner", "b"]);
    assert_eq!(
        circle.ties,
        ["a::inner -> b: super::super::b::B", "b -> a::inner: a::run"]
    );
}

#[test]
fn parents_and_their_own_make_no_circle() {
    none(&[
        ("lib.rs", "mod a;\nuse a::deep::Deep;\npub struct Top;"),
        (
            "a.rs",
            "pub mod deep;\nuse deep::Deep;\npub struct A;\nuse crate::Top;",
        ),
        (
            "a/deep.rs",
            "use super::A;\nuse crate::{Top, a};\npub struct Deep;",
        ),
    ]);
}

#[test]
fn tests_comments_and_strings_make_no_circle() {
    none(&[
        ("lib.rs", "mod a;\nmod b;\n#[cfg(test)]\nmod tests;"),
        ("tests.rs", "mod sample;\nuse crate::{a, b};"),
        ("tests/sample.rs", "use crate::a::A;"),
        ("a.rs", "use crate::b::B;\npub struct A;"),
        (
            "b.rs",
            r##"
            //! Made by [`crate::a::A`].
            pub struct B;
            /// See [A](crate::a::A). */
            #[cfg(test)]
            #[derive(Debug)]
            pub(crate) struct Double<S, T>(S, T, crate::a::A);
            #[cfg(test)]
            use crate::{a::A, a};
            #[cfg(all(test, unix))]
            fn f() where A: Copy, u8: Copy { crate::a::f() }
            impl B {
                // crate::a::A
                #[cfg(test)]
                fn f<S, T>(_: S, _: T) { crate::a::f() }
                fn g(&self) -> &'static str { /* crate::a::A */ r#"crate::a::A"# }
            }
            struct C {
                #[cfg(test)]
                a: crate::a::A,
                b: B,
            }
            #[cfg(test)]
            mod tests { use crate::a::A; use super::*; }
            "##,
        ),
    ]);
}

#[test]
fn a_file_that_is_not_read_is_an_error() {
    let unread = circles(&tree(&[("lib.rs", "mod a;"), ("a.rs", ""), ("b.rs", "")]));
    assert_eq!(unread.unwrap_err(), "b.rs is in no module that was read");
    let missing = circles(&tree(&[("lib.rs", "mod a;")]));
    assert_eq!(missing.unwrap_err(), "module a has no file");
}

fn the_circle(files: &[(&str, &str)]) -> Circle {
    let mut circles = circles(&tree(files)).unwrap();
    assert_eq!(circles.len(), 1, "{circles:?}");
    circles.remove(0)
}

fn none(files: &[(&str, &str)]) {
    let circles = circles(&tree(files)).unwrap();
    assert!(circles.is_empty(), "{circles:?}");
}

fn tree(files: &[(&str, &str)]) -> Sources {
    (files.iter())
        .map(|(file, text)| (file.to_string(), text.to_string()))
        .collect()
}

/// The files of a crate of the workspace.
fn sources(member: &str) -> Sources {
    let folder = root().join(member).join("src");
    let name = |path: &Path| path.strip_prefix(&folder).unwrap().display().to_string();
    crate::files(&folder)
        .into_iter()
        .filter(|path| path.extension().is_some_and(|ending| ending == "rs"))
        .map(|path| (name(&path), std::fs::read_to_string(&path).unwrap()))
        .collect()
}
