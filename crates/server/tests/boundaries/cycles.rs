//! The modules of a crate have no import cycles, and the checker finds those it should.

use std::path::Path;

use crate::modules::{Cycle, Modules, Sources, cycles};
use crate::{members, root};

#[test]
fn modules_have_no_import_cycles() {
    let mut found = String::new();
    for folder in members() {
        for cycle in cycles(&sources(&folder)).unwrap() {
            found.push_str(&format!("{folder}: {cycle}"));
        }
    }
    assert!(found.is_empty(), "import cycles:\n{found}");
}

/// Adds one line to each crate that closes a cycle with an existing import, in each way to write one.
#[test]
fn a_cycle_in_any_crate_is_found() {
    for folder in members() {
        let sources = sources(&folder);
        let root = ["lib.rs", "main.rs"]
            .into_iter()
            .find(|root| sources.contains_key(*root));
        let modules = Modules::read(&sources, root.unwrap()).unwrap();
        let known = modules.cycles();
        let edge = (modules.edges.keys()).find(|(from, _)| {
            let from = from.join("::");
            !known.iter().any(|cycle| cycle.modules.contains(&from))
        });
        // A crate with only one module below its root has no imports between modules.
        let Some((from, to)) = edge else {
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
            let found = cycles(&sources).unwrap();
            assert!(
                found.iter().any(|cycle| {
                    cycle.modules.contains(&from) && cycle.modules.contains(&to.join("::"))
                }),
                "{folder}: {file} with `{line}`: {found:?}"
            );
        }
    }
}

#[test]
fn a_cycle_of_two_is_found() {
    let cycle = the_cycle(&[
        ("lib.rs", "mod a;\nmod b;"),
        ("a.rs", "use crate::{\n    b::{self, B},\n};\npub struct A;"),
        ("b.rs", "pub struct B;\nfn a() { crate::a::A; }"),
    ]);
    assert_eq!(cycle.modules, ["a", "b"]);
    assert_eq!(
        cycle.edges,
        ["a -> b: crate::b, crate::b::B", "b -> a: crate::a::A"]
    );
}

#[test]
fn a_cycle_of_three_through_reexports_is_found() {
    let cycle = the_cycle(&[
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
    assert_eq!(cycle.modules, ["http::error", "http::query", "room"]);
    assert_eq!(
        cycle.edges,
        [
            "http::error -> http::query: super::Query",
            "http::query -> room: crate::Room",
            "room -> http::error: super::http::ApiError",
        ]
    );
}

#[test]
fn a_path_through_an_imported_module_counts() {
    let cycle = the_cycle(&[
        ("main.rs", "mod a;\nmod b;"),
        ("a.rs", "mod inner;\npub use inner::run;"),
        ("a/inner.rs", "pub fn run() {}\nuse super::super::b::B;"),
        (
            "b.rs",
            "use crate::a;\npub struct B;\nfn b() { vec![a::run()]; }",
        ),
    ]);
    assert_eq!(cycle.modules, ["a::inner", "b"]);
    assert_eq!(
        cycle.edges,
        ["a::inner -> b: super::super::b::B", "b -> a::inner: a::run"]
    );
}

#[test]
fn imports_between_parent_and_descendant_are_no_cycle() {
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
fn tests_comments_and_strings_are_ignored() {
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
fn a_file_in_no_module_is_an_error() {
    let unread = cycles(&tree(&[("lib.rs", "mod a;"), ("a.rs", ""), ("b.rs", "")]));
    assert_eq!(unread.unwrap_err(), "b.rs is in no module that was read");
    let missing = cycles(&tree(&[("lib.rs", "mod a;")]));
    assert_eq!(missing.unwrap_err(), "module a has no file");
}

fn the_cycle(files: &[(&str, &str)]) -> Cycle {
    let mut cycles = cycles(&tree(files)).unwrap();
    assert_eq!(cycles.len(), 1, "{cycles:?}");
    cycles.remove(0)
}

fn none(files: &[(&str, &str)]) {
    let cycles = cycles(&tree(files)).unwrap();
    assert!(cycles.is_empty(), "{cycles:?}");
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
