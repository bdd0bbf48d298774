//! Seeded lives of volumes, and proof that the oracle can fail.

mod power;
