//! Tags given at creation: which resource they are for, and the permission to set them.

use super::code::invalid_value;
use super::condition;
use super::shape::TagSpecification;
use crate::error::Error;
use crate::pipeline::Ask;
use base::{AccountId, Arn};
use ebs::tag::{Tag, check_tags};
use iam::Context;

/// The tags of a request for the one resource it creates, checked.
///
/// # Errors
/// For a resource of another type, two lists for one type, and tags that break a rule.
pub(crate) fn of_new(
    specifications: Vec<TagSpecification>,
    resource_type: &str,
) -> Result<Vec<Tag>, Error> {
    let mut tags = Vec::new();
    for (index, specification) in specifications.into_iter().enumerate() {
        match specification.resource_type.as_deref() {
            None => return Err(invalid_value("Tag specification resource type must have a value")),
            Some(text) if text != resource_type => {
                return Err(invalid_value(format!(
                    "'{text}' is not a valid taggable resource type for this operation."
                )));
            }
            Some(_) if index > 0 => {
                return Err(invalid_value(format!(
                    "Duplicate tag specification resource type '{resource_type}'."
                )));
            }
            Some(_) => {}
        }
        tags.extend(specification.tags.into_iter().map(|tag| (tag.key, tag.value)));
    }
    check_tags(&tags)?;
    Ok(tags)
}

/// The dependent permission: `ec2:CreateTags` under `ec2:CreateAction` (spec 20, C.4). None without
/// tags.
pub(crate) fn ask_for_new(
    tags: &[Tag],
    arn: &Arn,
    account: &AccountId,
    create_action: &str,
    mut context: Context,
) -> Option<Ask> {
    if tags.is_empty() {
        return None;
    }
    context.set("ec2:CreateAction", create_action);
    condition::set_request_tags(&mut context, tags);
    Some(Ask::on("ec2:CreateTags", arn, account).with(context))
}
