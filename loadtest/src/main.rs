//! The binary of the load-test harness.
fn main() {}
