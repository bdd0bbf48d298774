//! What holds for all operations together.

mod acceptance;
mod compatibility;
mod model;
mod models;
mod wire;
