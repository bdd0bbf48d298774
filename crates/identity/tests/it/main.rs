//! Identity on every engine of `meta`: what users of IAM and STS see.

mod access;
mod entities;
mod policies;
mod sessions;
mod world;
