//! Keys: the root of trust, key material, ciphertexts, and who may use them.
//!
//! Knows rows (`meta`) and policies (`iam`); knows no HTTP. What is durable: key material is committed
//! before anything made with it is returned.

mod blob;
mod context;
mod der;
mod locked;
mod material;
mod primitive;
pub mod seal;

pub use blob::{Blob, BlobKind, CIPHERTEXT_BYTES_MAX, InvalidCiphertext, PLAINTEXT_BYTES_MAX};
pub use context::{CONTEXT_BYTES_MAX, ContextError, EBS_CONTEXT_KEY, EncryptionContext};
pub use material::MaterialId;
pub use primitive::OpenError;
