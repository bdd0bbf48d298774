//! Development automation: `cargo xtask --help`.

fn main() {}
