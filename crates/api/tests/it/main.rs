//! What holds for all operations together.

mod model;
