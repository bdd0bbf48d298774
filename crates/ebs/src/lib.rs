//! Volumes, snapshots, attachments and the account settings around them: their rows, their states
//! and the rules that need nothing but the rows.
//!
//! Invariants:
//! - A state changes only by a guarded update that names the state it expects.
//! - A data key is stored wrapped, together with the context it was wrapped in.
//! - Blocks are reached only through roots in these tables; [`roots::live_roots`] lists them all.
//!
//! It does not know who is allowed to do what, nor KMS, nor the wire, nor where blocks are stored.
//! Validation errors carry the sentences and codes clients read, because those are the rule.

mod among;
pub mod arns;
pub mod attachment;
pub mod client_token;
mod column;
pub mod copy_base;
pub mod deletion;
pub mod device;
pub mod encryption;
mod error;
pub mod fast_restore;
pub mod fast_restore_rules;
pub mod fence;
pub mod filter;
pub mod first_touch;
pub mod foreign_base;
pub mod garbage;
pub mod initialization;
pub mod instance;
pub mod key;
pub mod modification;
pub mod page;
pub mod permission;
pub mod roots;
mod schema;
pub mod settings;
pub mod snapshot;
pub mod snapshot_set;
mod state_message;
pub mod tag;
pub mod tier_rules;
pub mod tiering;
pub mod twin;
pub mod upload;
pub mod usage;
pub mod visibility;
pub mod volume;
pub mod volume_type;

pub use attachment::{Attachment, AttachmentKey, AttachmentState};
pub use error::{Error, Result};
pub use fast_restore::{FastRestore, FastRestoreState};
pub use foreign_base::ForeignBase;
pub use initialization::Initialization;
pub use instance::Instance;
pub use key::WrappedKey;
pub use modification::{Modification, ModificationState, Provision};
pub use roots::StoreKind;
pub use schema::MIGRATIONS;
pub use settings::Settings;
pub use snapshot::{Snapshot, SnapshotState};
pub use state_message::StateMessage;
pub use tiering::{StorageTier, Tiering, TieringOperation, TieringStatus};
pub use twin::Twin;
pub use volume::{Volume, VolumeState};
pub use volume_type::VolumeType;
