//! What the workflows need from above: keys, blocks and hosts. `api` and `cli` implement these.

pub mod blocks;
pub mod host;
pub mod kms;

use std::future::Future;
use std::pin::Pin;

/// A boxed future, as object-safe traits need it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
