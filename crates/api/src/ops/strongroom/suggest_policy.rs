//! `strongroom:SuggestPolicy`: the smallest policies with which another account can copy, restore or
//! launch from an encrypted snapshot.

use crate::decided::{Decisions, Mode};
use crate::error::{INTERNAL, invalid_parameter_of};
use crate::storage::find::FoundSnapshot;
use crate::suggest::{AutoScaling, Use, Wanted, suggest};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::{Shape, string_enum};
use base::{AccountId, Arn, Region, SnapshotId};

pub(crate) struct SuggestPolicy;

string_enum! {
    /// What the other account wants to do.
    pub(crate) enum Purpose {
        /// Copy it under its own key.
        Copy = "copy",
        /// Make volumes of it.
        Restore = "restore",
        /// Launch instances of it.
        Launch = "launch",
    }
}

string_enum! {
    /// Which permissions count as needed.
    pub(crate) enum Permissions {
        /// Those that are enforced.
        Native = "native",
        /// Those that the guides list.
        Documented = "documented",
    }
}

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    auto_scaling: Option<bool>,
    mode: Option<Permissions>,
    purpose: Purpose,
    /// An account id, or the ARN of a user or role.
    recipient: String,
    snapshot_id: SnapshotId,
    /// The recipient's key; any of its keys when absent.
    target_key_id: Option<String>,
    target_region: Option<String>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    /// A JSON document, described in `docs/explain.md`.
    suggestion: String,
    /// The same for people.
    text: String,
}

impl Operation for SuggestPolicy {
    const SPEC: Spec = Spec::reads(Service::Strongroom, "SuggestPolicy");
    type Input = Input;
    type Plan = (FoundSnapshot, Wanted);
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Self::Plan, Error> {
        let bad = |message: String| Error::new(invalid_parameter_of(Service::Strongroom), message);
        let found = FoundSnapshot::find(call, &input.snapshot_id).await?;
        let Some(source_key) = found.snapshot.kms_key_arn.clone() else {
            let message = "The snapshot is not encrypted: sharing it is all that is needed.";
            return Err(bad(message.to_owned()));
        };
        let recipient = input.recipient;
        let recipient_account = account_of(&recipient).ok_or_else(|| {
            bad(format!("'{recipient}' is neither an account id nor the ARN of a user or role."))
        })?;
        if recipient_account == found.snapshot.account {
            return Err(bad("The recipient owns the snapshot.".to_owned()));
        }
        let key_region = match &input.target_key_id {
            None => None,
            Some(arn) => Some(region_of_key(arn).ok_or_else(|| {
                bad(format!("The target key '{arn}' is not named by the ARN of a key."))
            })?),
        };
        let target_region = match &input.target_region {
            None => key_region.clone().unwrap_or_else(|| call.region.clone()),
            Some(name) => {
                Region::parse(name).map_err(|_| bad(format!("'{name}' is no region.")))?
            }
        };
        if let Some(key) = key_region.filter(|key| *key != target_region) {
            let message = format!(
                "The target key is in {key} and the target region is {target_region}: a copy is encrypted \
                 under a key of its own region."
            );
            return Err(bad(message));
        }
        let home = &found.snapshot.region;
        if input.purpose != Purpose::Copy && target_region != *home {
            let message = format!(
                "Volumes are made in the region of their snapshot, {home}. To have them in \
                 {target_region}, the snapshot is copied there first."
            );
            return Err(bad(message));
        }
        let wanted = Wanted {
            purpose: match input.purpose {
                Purpose::Copy => Use::Copy,
                Purpose::Restore => Use::Restore,
                Purpose::Launch => Use::Launch,
            },
            mode: match input.mode {
                Some(Permissions::Native) => Mode::Native,
                Some(Permissions::Documented) => Mode::Documented,
                None => Decisions::of(call).mode,
            },
            snapshot: input.snapshot_id,
            snapshot_region: found.snapshot.region.clone(),
            owner: found.snapshot.account.clone(),
            source_key,
            recipient,
            recipient_account,
            target_key: input.target_key_id,
            target_region,
            auto_scaling: match input.auto_scaling {
                Some(true) => AutoScaling::Yes,
                Some(false) | None => AutoScaling::No,
            },
        };
        Ok((found, wanted))
    }

    fn asks(plan: &Self::Plan) -> Vec<Ask> {
        vec![plan.0.ask("strongroom:SuggestPolicy")]
    }

    async fn act(_call: &Call, plan: Granted<Self::Plan>) -> Result<Output, Error> {
        let (_, wanted) = plan.into_inner();
        let found = suggest(&wanted);
        let text = found.to_string();
        let suggestion = serde_json::to_string(&found)
            .map_err(|error| Error::from(INTERNAL.error("").with_cause(error)))?;
        Ok(Output { suggestion, text })
    }
}

/// The account of a recipient, that is an account id or the ARN of a user, a role or an account.
fn account_of(recipient: &str) -> Option<AccountId> {
    let Some(arn) = Arn::parse(recipient) else { return AccountId::parse(recipient).ok() };
    let kinds = ["user/", "role/"];
    let named = arn.resource == "root" || kinds.iter().any(|kind| arn.resource.starts_with(kind));
    let account = AccountId::parse(&arn.account).ok()?;
    (arn.service == "iam" && named).then_some(account)
}

/// The region of a key, by its ARN.
fn region_of_key(arn: &str) -> Option<Region> {
    let arn = Arn::parse(arn)?;
    let is_key = arn.service == "kms" && arn.resource.starts_with("key/");
    Region::parse(&arn.region).ok().filter(|_| is_key)
}
