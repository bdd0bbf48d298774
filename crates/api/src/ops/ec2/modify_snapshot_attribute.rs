//! `ec2:ModifySnapshotAttribute`: shares a snapshot with accounts or everybody, or stops sharing it.

use crate::refusal::{Layer, Refusal};
use crate::storage::code::{
    AUTH_FAILURE, OPERATION_NOT_PERMITTED, invalid_value, snapshot_archived,
};
use crate::storage::find::{FoundSnapshot, parsed};
use crate::storage::key::{describe_key, may};
use crate::{Ask, Call, Error, Granted, Operation, Rehearsal, Service, Spec};
use awsproto::code::{INVALID_PARAMETER_COMBINATION, MISSING_PARAMETER, UNAUTHORIZED_OPERATION};
use awsproto::{ErrorSpec, Shape, string_enum};
use base::{AccountId, SnapshotId};
use ebs::permission::{self, GROUP_ALL};
use ebs::visibility::{PublicAccessBlock, Visibility};
use ebs::{Snapshot, arns, settings};
use events::event::Envelope;
use events::notification::{self, ArnForm, Span};
use lifecycle::port::kms::{KmsFailure, Probe, Wrapped};
use lifecycle::workflow::fast_restore;
use std::sync::Arc;

pub(crate) struct ModifySnapshotAttribute;

const INVALID_ATTRIBUTE_ITEM: ErrorSpec = ErrorSpec::sender("InvalidAMIAttributeItemValue", 400);
/// Accounts and groups in one request.
const ENTRIES_MAX: usize = 500;

string_enum! {
    /// What can be changed.
    pub(crate) enum Attribute {
        /// Not offered.
        ProductCodes = "productCodes",
        /// Who may make volumes of it.
        CreateVolumePermission = "createVolumePermission",
    }
}

string_enum! {
    /// In which direction.
    pub(crate) enum OperationType {
        /// Share.
        Add = "add",
        /// Stop sharing.
        Remove = "remove",
    }
}

#[derive(Shape)]
#[shape(input)]
pub(crate) struct PermissionItem {
    user_id: Option<String>,
    group: Option<String>,
}

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Modifications {
    add: Vec<PermissionItem>,
    remove: Vec<PermissionItem>,
}

#[derive(Shape)]
#[shape(input, dry_run)]
pub(crate) struct Input {
    attribute: Option<Attribute>,
    create_volume_permission: Option<Modifications>,
    #[shape(query = "UserGroup")]
    group_names: Vec<String>,
    operation_type: Option<OperationType>,
    snapshot_id: SnapshotId,
    #[shape(query = "UserId")]
    user_ids: Vec<String>,
}

pub(crate) struct Plan {
    found: FoundSnapshot,
    direction: OperationType,
    users: Vec<AccountId>,
    public: bool,
}

impl Operation for ModifySnapshotAttribute {
    const SPEC: Spec = Spec::mutates(Service::Ec2, "ModifySnapshotAttribute");
    type Input = Input;
    type Plan = Plan;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        if input.attribute == Some(Attribute::ProductCodes) {
            return Err(invalid_value("The attribute productCodes cannot be modified."));
        }
        let (direction, items) = changes(&input)?;
        if items.len() > ENTRIES_MAX {
            let message = format!("Modification size must not be greater than {ENTRIES_MAX}.");
            return Err(invalid_value(message).because(Refusal::new(
                Layer::Quota,
                format!("at most {ENTRIES_MAX} accounts and groups in one request"),
                format!("{} are named", items.len()),
                "share in several requests",
            )));
        }
        let (mut users, mut public) = (Vec::new(), false);
        for item in items {
            match item {
                Item::User(text) => users.push(account(&text)?),
                Item::Group(text) if text == GROUP_ALL => public = true,
                Item::Group(text) => return Err(bad_item("user group", &text)),
            }
        }
        let found = FoundSnapshot::find(call, &input.snapshot_id).await?;
        Ok(Plan { found, direction, users, public })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        let snapshot = &plan.found.snapshot;
        let verb = match plan.direction {
            OperationType::Add => "Add",
            OperationType::Remove => "Remove",
        };
        let mut context = plan.found.context();
        context.set("ec2:Attribute", "createVolumePermission");
        if !plan.users.is_empty() {
            let users = plan.users.iter().map(ToString::to_string);
            context.set_multi(format!("ec2:{verb}/userId"), users);
        }
        if plan.public {
            context.set_multi(format!("ec2:{verb}/group"), [GROUP_ALL.to_owned()]);
        }
        let arn = parsed(&arns::snapshot_arn(&snapshot.region, &snapshot.id));
        let action = "ec2:ModifySnapshotAttribute";
        vec![Ask::on(action, &arn, &snapshot.account).with(context)]
    }

    async fn rehearse(_call: &Call, plan: &Plan) -> Result<(), Error> {
        check_owner(&plan.found)
    }

    async fn implied(call: &Call, plan: &Plan, rehearsal: &Rehearsal) -> Result<(), Error> {
        let mut outcome = check_owner(&plan.found);
        if outcome.is_ok() && plan.direction == OperationType::Add {
            outcome = check_shareable(call, plan).await;
        }
        rehearsal.noted(outcome)
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<(), Error> {
        let plan = plan.into_inner();
        check_owner(&plan.found)?;
        if plan.direction == OperationType::Add {
            check_shareable(call, &plan).await?;
        }
        let events = invitations(call, &plan);
        let Plan { found, direction, users, public } = plan;
        let services = Arc::clone(&call.world.services);
        call.world
            .db
            .write(move |tx| {
                let snapshot = &found.snapshot;
                for (user, event) in users.iter().zip(&events) {
                    match direction {
                        OperationType::Add => {
                            if permission::add(tx, snapshot, user.as_str())? {
                                events::put_event(tx, event)?;
                            }
                        }
                        OperationType::Remove => {
                            permission::remove(tx, snapshot, user.as_str())?;
                        }
                    }
                }
                match (public, direction) {
                    (false, _) => {}
                    (true, OperationType::Add) => {
                        permission::add(tx, snapshot, GROUP_ALL)?;
                    }
                    (true, OperationType::Remove) => permission::remove(tx, snapshot, GROUP_ALL)?,
                }
                if direction == OperationType::Remove {
                    let Snapshot { region, id, .. } = snapshot;
                    let ended = fast_restore::end_unusable(&services, tx, region, id);
                    ended.map_err(Error::internal)?;
                }
                Ok::<_, Error>(())
            })
            .await?;
        call.world.wake_jobs();
        Ok(())
    }
}

/// One entry of a request, in either of its two forms.
enum Item {
    User(String),
    Group(String),
}

fn changes(input: &Input) -> Result<(OperationType, Vec<Item>), Error> {
    let flat: Vec<Item> = (input.user_ids.iter().cloned().map(Item::User))
        .chain(input.group_names.iter().cloned().map(Item::Group))
        .collect();
    let nested = |items: &[PermissionItem]| -> Vec<Item> {
        let each = |item: &PermissionItem| {
            let user = item.user_id.clone().map(Item::User);
            user.into_iter().chain(item.group.clone().map(Item::Group)).collect::<Vec<_>>()
        };
        items.iter().flat_map(each).collect()
    };
    let (add, remove) = match &input.create_volume_permission {
        Some(modifications) => (nested(&modifications.add), nested(&modifications.remove)),
        None => (Vec::new(), Vec::new()),
    };
    match (flat.is_empty(), add.is_empty(), remove.is_empty(), input.operation_type) {
        (true, false, true, _) => Ok((OperationType::Add, add)),
        (true, true, false, _) => Ok((OperationType::Remove, remove)),
        (false, true, true, Some(direction)) => Ok((direction, flat)),
        (false, true, true, None) => {
            let message = "The request must contain the parameter operationType";
            Err(Error::new(MISSING_PARAMETER, message))
        }
        (true, true, true, _) => {
            let message = "The request must contain the parameter createVolumePermission";
            Err(Error::new(MISSING_PARAMETER, message))
        }
        (..) => Err(Error::new(
            INVALID_PARAMETER_COMBINATION,
            "One and only one operation type may be specified for createVolumePermissions",
        )
        .because(Refusal::new(
            Layer::Request,
            "either accounts to add or accounts to remove",
            "both in one request",
            "add in one request and remove in another",
        ))),
    }
}

fn account(text: &str) -> Result<AccountId, Error> {
    AccountId::parse(text).map_err(|_| bad_item("user ID", text))
}

fn bad_item(what: &str, text: &str) -> Error {
    let message = format!("Invalid attribute item value \"{text}\" for {what} item type.");
    Error::new(INVALID_ATTRIBUTE_ITEM, message).because(Refusal::new(
        Layer::Request,
        format!("an account's 12 digits as user ID, or {GROUP_ALL} as user group"),
        format!("the {what} {text}"),
        "name accounts by their id alone: neither by alias nor by ARN",
    ))
}

/// Only the owner may look at or change the attribute (spec 02, "Sharing").
pub(crate) fn check_owner(found: &FoundSnapshot) -> Result<(), Error> {
    if found.seen == Visibility::Owner {
        return Ok(());
    }
    let message = "You are not authorized to perform this operation.";
    Err(Error::new(UNAUTHORIZED_OPERATION, message).because(Refusal::new(
        Layer::Sharing,
        format!("the owner of {}", found.snapshot.id),
        "the caller's account may use the snapshot and does not own it",
        "its owner must do it, or copy it: a copy is the copier's own",
    )))
}

async fn check_shareable(call: &Call, plan: &Plan) -> Result<(), Error> {
    let refuse = |message: &str, refusal: Refusal| {
        Err(Error::new(OPERATION_NOT_PERMITTED, message).because(refusal))
    };
    let snapshot = &plan.found.snapshot;
    // Its shares are suspended; adding to them would promise what nobody gets (spec 02, "Sharing").
    if snapshot.is_archived() {
        return Err(snapshot_archived(snapshot.id.as_str()));
    }
    if let Some(key_arn) = &snapshot.kms_key_arn {
        if is_managed_key(call, key_arn).await? {
            let rule = Refusal::new(
                Layer::Sharing,
                "a key whose policy can let other accounts in",
                format!(
                    "{} is encrypted under aws/ebs, {key_arn}, whose policy is fixed",
                    snapshot.id
                ),
                "copy it under a key of your own, ec2:CopySnapshot with KmsKeyId, let the other \
                 account into that key's policy, and share the copy",
            );
            return refuse("Encrypted snapshots with EBS default key cannot be shared", rule);
        }
        if plan.public {
            let rule = Refusal::new(
                Layer::Sharing,
                "a snapshot that is not encrypted, to be shared with everybody",
                format!("{} is encrypted under {key_arn}", snapshot.id),
                "share it with accounts by their ids",
            );
            return refuse("Encrypted snapshots cannot be shared publicly.", rule);
        }
        check_key_use(call, snapshot, key_arn).await?;
    }
    let block = public_access_block(call, snapshot).await?;
    if plan.public && block != PublicAccessBlock::Unblocked {
        let Snapshot { account, region, .. } = snapshot;
        let rule = Refusal::new(
            Layer::PublicAccess,
            format!("public access to snapshots of account {account} in {region}: unblocked"),
            format!("it is {}", block.as_str()),
            "share it with accounts by their ids",
        );
        return refuse("Public sharing of snapshots is blocked for this account.", rule);
    }
    Ok(())
}

/// Who shares an encrypted snapshot must be allowed to use its key: DescribeKey and ReEncrypt
/// (story 0; spec 02, "Sharing"; seen on AWS).
async fn check_key_use(call: &Call, snapshot: &Snapshot, key_arn: &str) -> Result<(), Error> {
    let Some(data_key) = &snapshot.data_key else { return Ok(()) };
    let probes = [
        Probe::DescribeKey { key_arn },
        Probe::ReEncrypt {
            source: Wrapped::from(data_key),
            target_key_arn: key_arn,
            target_context_id: &data_key.context_id,
        },
    ];
    for probe in probes {
        match may(call, probe).await {
            Ok(()) => {}
            Err(KmsFailure::Unavailable { message }) => {
                return Err(Error::internal(KmsFailure::Unavailable { message }));
            }
            Err(failure) => {
                let message = format!("Not authorized to use key {key_arn}");
                let refusal = Refusal::of_key(key_arn, &failure);
                return Err(Error::new(AUTH_FAILURE, message).because(refusal));
            }
        }
    }
    Ok(())
}

/// Asks KMS for `aws/ebs` in the caller's name, as EC2 does on AWS; a caller who may not look at
/// that key is not refused for it (spec/tables/fas_map_ec2.json, `encrypted-add`), so the rows say
/// which key it is.
async fn is_managed_key(call: &Call, key_arn: &str) -> Result<bool, Error> {
    let managed = kms::managed::EBS_ALIAS;
    if let Ok(facts) = describe_key(call, managed).await {
        return Ok(facts.arn == key_arn);
    }
    let (account, region) = (call.account().clone(), call.region.clone());
    let alias = call.world.db.read(move |tx| kms::alias::get(tx, &account, &region, managed)).await;
    let alias = match alias {
        Ok(alias) => alias,
        // No such key, so not this one. Asking makes it, a rehearsal does not.
        Err(kms::Error::AliasNotFound { .. }) => return Ok(false),
        Err(error) => return Err(Error::internal(error)),
    };
    Ok(alias.key_id.is_some_and(|id| key_arn.ends_with(&format!("key/{id}"))))
}

async fn public_access_block(call: &Call, snapshot: &Snapshot) -> Result<PublicAccessBlock, Error> {
    let (account, region) = (snapshot.account.clone(), snapshot.region.clone());
    let read = move |tx: &mut meta::Tx<'_>| settings::get(tx, &account, &region);
    Ok(call.world.db.read(read).await?.public_access_block)
}

/// What each account is told: in its own account, and only private shares (spec 02, "Sharing").
fn invitations(call: &Call, plan: &Plan) -> Vec<events::ServiceEvent> {
    let snapshot = &plan.found.snapshot;
    let span = Span { start: call.now, end: call.now };
    let invite = |receiver: &AccountId| {
        let envelope = Envelope {
            event_id: base::id::uuid(&*call.world.rng),
            account: receiver.clone(),
            region: snapshot.region.clone(),
            time: call.now,
        };
        let (form, owner) = (ArnForm::Regular, &snapshot.account);
        notification::share_snapshot(envelope, form, &snapshot.id, owner, span)
    };
    plan.users.iter().map(invite).collect()
}
