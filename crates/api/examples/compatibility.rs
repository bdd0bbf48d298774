//! Prints `docs/compatibility.md`: `cargo xtask wire table` runs this.

#[path = "../tests/it/models.rs"]
mod models;

fn main() {
    print!("{}", api::compatibility::render(&models::load_all()));
}
