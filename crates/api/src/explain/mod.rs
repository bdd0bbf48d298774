//! From the records of a call to the answer to "why", for somebody who may read only a part of it.
//!
//! Disclosure is decided here and nowhere else. A viewer sees the caller's own policies when it is of
//! the caller's account, and the policy and grants of a resource when it is of the owner's account
//! and may read that policy. Of the rest it learns the verdict alone: "the key owner's policy does
//! not allow".

#[cfg(test)]
mod refusal_tests;
pub(crate) mod story;
#[cfg(test)]
mod tests;
pub(crate) mod text;
pub(crate) mod view;

pub(crate) use story::Explanation;
pub(crate) use view::View;
