//! Keys: the root of trust, key material, ciphertexts, and who may use them.
//!
//! Knows rows (`meta`) and policies (`iam`); knows no HTTP. Invariants: key material is committed before
//! anything made with it is returned; plaintext material exists for the length of one operation; every
//! version of a key's material is kept until the key is destroyed.

pub mod alias;
pub mod anchor;
pub mod backup;
mod blob;
pub mod cipher;
pub mod condition;
mod context;
mod der;
pub mod domain_key;
mod error;
#[doc(hidden)]
pub mod fuzzing;
pub mod grant;
pub mod guard;
pub mod import;
pub mod key;
pub mod key_store;
mod locked;
mod mac;
pub mod managed;
mod material;
pub mod multi_region;
mod opened;
mod origin;
pub mod page;
mod pair;
pub mod policy;
mod primitive;
pub mod resolve;
pub mod rewrap;
pub mod rotation;
mod schema;
pub mod seal;
mod service;
pub mod spec;
mod state;
pub mod tag;
pub mod token;
pub mod usage;
pub mod version;

pub use blob::{Blob, BlobKind, CIPHERTEXT_BYTES_MAX, InvalidCiphertext, PLAINTEXT_BYTES_MAX};
pub use context::{CONTEXT_BYTES_MAX, ContextError, EBS_CONTEXT_KEY, EncryptionContext};
pub use error::{Error, Result};
pub use key::{Key, KeyFacts};
pub use locked::unlocked_pages;
pub use material::{MaterialId, NewMaterial};
pub use multi_region::MultiRegionRole;
pub use opened::{
    Opened, check_agreement_algorithm, check_encapsulation_algorithm, check_mac_algorithm,
    check_signing_algorithm,
};
pub use origin::KeyOrigin;
pub use pair::check_message;
pub use primitive::OpenError;
pub use schema::MIGRATIONS;
pub use service::{Config, Directory, Kms, StartError};
pub use state::{Action, KeyState};
