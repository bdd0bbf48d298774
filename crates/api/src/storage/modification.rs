//! A modification of a volume on the wire.

use awsproto::Shape;
use base::{Timestamp, VolumeId};
use ebs::Modification;

/// A modification: what was asked for, of what, and how far it is.
#[derive(Clone, Shape)]
#[shape(output, omitted(Operator))]
pub(crate) struct ModificationShape {
    volume_id: VolumeId,
    modification_state: String,
    status_message: Option<String>,
    target_size: u32,
    target_iops: Option<u32>,
    target_volume_type: String,
    target_throughput: Option<u32>,
    target_multi_attach_enabled: bool,
    original_size: u32,
    original_iops: Option<u32>,
    original_volume_type: String,
    original_throughput: Option<u32>,
    original_multi_attach_enabled: bool,
    progress: i64,
    start_time: Timestamp,
    end_time: Option<Timestamp>,
}

impl ModificationShape {
    pub(crate) fn of(modification: &Modification) -> Self {
        let Modification { original, target, .. } = modification;
        Self {
            volume_id: modification.volume.clone(),
            modification_state: modification.state.as_str().to_owned(),
            status_message: modification.status_message.clone(),
            target_size: target.size_gib,
            target_iops: target.iops,
            target_volume_type: target.volume_type.to_string(),
            target_throughput: target.throughput_mib,
            // No volume here is shared between instances.
            target_multi_attach_enabled: false,
            original_size: original.size_gib,
            original_iops: original.iops,
            original_volume_type: original.volume_type.to_string(),
            original_throughput: original.throughput_mib,
            original_multi_attach_enabled: false,
            progress: i64::from(modification.progress),
            start_time: modification.started,
            end_time: modification.ended,
        }
    }
}
