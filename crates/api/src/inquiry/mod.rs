//! Questions about what is in force: who can read something, and what a change would break. Both ask
//! the evaluator and change nothing.

#[cfg(test)]
mod tests;
mod text;
pub(crate) mod what_if;
pub(crate) mod who_can;
