//! What holds for all operations together.

mod compatibility;
mod model;
mod models;
mod wire;
