//! Rebuilds the server when a web file is added or removed. The compiler only tracks the files that it has embedded.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // A debug build reads the files when they are requested.
    if std::env::var("PROFILE").as_deref() == Ok("release") {
        println!("cargo::rerun-if-changed=../../web");
    }
}
