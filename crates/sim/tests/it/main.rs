//! Seeded lives of volumes, and proof that the oracle can fail.

mod houses;
mod power;
mod traces;
