//! `admin attachments`: where volumes are attached, and which of them have no device. AWS's API has no word
//! for that.

use super::handlers::{sentence, served};
use super::read;
use crate::exit::Failure;
use api::World;
use base::Timestamp;
use ebs::attachment::{self, Attachment};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::io::Write;
use std::sync::Arc;

/// A line of `attachments --json`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AttachmentLine {
    account_id: String,
    volume_id: String,
    instance_id: String,
    device: String,
    /// `attaching`, `attached` or `detaching`.
    state: String,
    attached_ms: i64,
    /// Why there is no device although the attachment stands.
    impaired: Option<String>,
}

/// Answers the request.
pub(super) async fn list(world: &Arc<World>, region: &str) -> Result<Value, String> {
    let region = served(world, region)?;
    let all = world.db.read(attachment::list_all).await.map_err(sentence)?;
    let here = all.into_iter().filter(|attachment| attachment.region == region);
    serde_json::to_value(here.map(line).collect::<Vec<_>>()).map_err(sentence)
}

fn line(attachment: Attachment) -> AttachmentLine {
    AttachmentLine {
        account_id: attachment.account.to_string(),
        volume_id: attachment.volume.to_string(),
        instance_id: attachment.instance.to_string(),
        device: attachment.device,
        state: attachment.state.as_str().to_owned(),
        attached_ms: attachment.attached.0,
        impaired: attachment.impaired,
    }
}

/// Prints an answer, a line for each attachment.
pub(super) fn print(out: &mut dyn Write, value: Value) -> Result<(), Failure> {
    let lines: Vec<AttachmentLine> = read(value)?;
    for line in &lines {
        let AttachmentLine { account_id, volume_id, instance_id, device, state, .. } = line;
        let since = Timestamp(line.attached_ms).iso_millis();
        write!(out, "{since}  {account_id}  {volume_id:21}  {instance_id}  {device}  {state}")?;
        if let Some(cause) = &line.impaired {
            write!(out, "  impaired, without a device: {cause}")?;
        }
        writeln!(out)?;
    }
    Ok(())
}
