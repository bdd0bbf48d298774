//! Encryption by default and the default key: what six small operations share (spec 04).

use super::shape::SseType;
use crate::call::Call;
use crate::error::Error;
use awsproto::Shape;
use ebs::{Settings, settings};
use kms::managed::EBS_ALIAS;

/// The reply of Enable and Disable.
#[derive(Shape)]
#[shape(output)]
pub(crate) struct Switched {
    ebs_encryption_by_default: bool,
}

/// The reply of Get.
#[derive(Shape)]
#[shape(output)]
pub(crate) struct Switch {
    ebs_encryption_by_default: bool,
    sse_type: SseType,
}

impl Switch {
    /// What the settings say.
    pub(crate) fn of(settings: &Settings) -> Self {
        let on = settings.encryption_by_default;
        Self { ebs_encryption_by_default: on, sse_type: SseType::of(on) }
    }
}

/// The reply of the three operations on the default key.
#[derive(Shape)]
#[shape(output)]
pub(crate) struct DefaultKey {
    kms_key_id: String,
}

impl DefaultKey {
    /// The key's ARN, or the managed key's alias when none was chosen (spec 20, C.1).
    pub(crate) fn shown(arn: Option<String>) -> Self {
        Self { kms_key_id: arn.unwrap_or_else(|| EBS_ALIAS.to_owned()) }
    }
}

/// The settings of the caller's account in the region.
pub(crate) async fn read(call: &Call) -> Result<Settings, Error> {
    let (account, region) = (call.account().clone(), call.region.clone());
    Ok(call.world.db.read(move |tx| settings::get(tx, &account, &region)).await?)
}

async fn change(
    call: &Call,
    change: impl Fn(Settings) -> Settings + Send + 'static,
) -> Result<(), Error> {
    let (account, region) = (call.account().clone(), call.region.clone());
    call.world
        .db
        .write(move |tx| {
            let settings = change(settings::get(tx, &account, &region)?);
            settings::put(tx, &account, &region, &settings)
        })
        .await?;
    Ok(())
}

/// Switches encryption by default on or off.
pub(crate) async fn switch(call: &Call, on: bool) -> Result<Switched, Error> {
    change(call, move |settings| Settings { encryption_by_default: on, ..settings }).await?;
    Ok(Switched { ebs_encryption_by_default: on })
}

/// Sets the default key, or none for `aws/ebs`.
pub(crate) async fn set_default_key(call: &Call, arn: Option<String>) -> Result<(), Error> {
    change(call, move |settings| Settings { default_key_arn: arn.clone(), ..settings }).await
}
