//! What answers "why": explanations, preflights and what is made from them. Each command is one call
//! of a Strongroom operation, in the caller's name.

pub(crate) mod args;
mod aws;
mod client;
mod ini;
mod lint;
mod profile;

use crate::args::{Enforcement, Output};
use crate::exit::{EXIT_INCOMPLETE, EXIT_WOULD_FAIL, Failure};
use args::{
    ExplainOptions, PolicyCommand, PreflightOptions, Purpose, ServerArgs, SuggestOptions,
    WhatIfChange, WhatIfOptions, WhoCanCommand,
};
use client::call;
use serde_json::{Value, json};
use std::io::Write;

pub(crate) fn explain(options: &ExplainOptions) -> Result<(), Failure> {
    let reply = call(&options.server, "Explain", &json!({ "Id": options.id }))?;
    print(&options.server, &reply, "Explanation").map(drop)
}

pub(crate) fn preflight(options: &PreflightOptions) -> Result<(), Failure> {
    let mut server = options.server.clone();
    let request = aws::parse(&options.command, &mut server)?;
    let input = json!({
        "Service": request.service,
        "Operation": request.operation,
        "Parameters": request.parameters.to_string(),
    });
    let reply = call(&server, "Preflight", &input)?;
    let document = print(&server, &reply, "Preflight")?;
    match document["allowed"].as_bool() {
        Some(true) => Ok(()),
        Some(false) => Err(Failure::new(EXIT_WOULD_FAIL, "")),
        None => Err(Failure::new(EXIT_INCOMPLETE, "")),
    }
}

pub(crate) fn policy(command: &PolicyCommand) -> Result<(), Failure> {
    match command {
        PolicyCommand::Suggest(options) => suggest(options),
        PolicyCommand::Lint(options) => lint::run(options),
    }
}

fn suggest(options: &SuggestOptions) -> Result<(), Failure> {
    let purpose = match options.purpose {
        Purpose::Copy => "copy",
        Purpose::Restore => "restore",
        Purpose::Launch => "launch",
    };
    let mode = options.mode.map(|mode| match mode {
        Enforcement::Native => "native",
        Enforcement::Documented => "documented",
    });
    let given = json!({
        "Purpose": purpose,
        "SnapshotId": options.snapshot,
        "Recipient": options.to,
        "TargetKeyId": options.target_key,
        "TargetRegion": options.target_region,
        "Mode": mode,
        "AutoScaling": options.auto_scaling,
    });
    let reply = call(&options.server, "SuggestPolicy", &without_nulls(given))?;
    print(&options.server, &reply, "Suggestion").map(drop)
}

pub(crate) fn who_can(command: &WhoCanCommand) -> Result<(), Failure> {
    let WhoCanCommand::Read(options) = command;
    let input = json!({ "ResourceId": options.resource });
    let reply = call(&options.server, "WhoCanRead", &input)?;
    print(&options.server, &reply, "Answer").map(drop)
}

pub(crate) fn what_if(options: &WhatIfOptions) -> Result<(), Failure> {
    let change = match options.change {
        WhatIfChange::DisableKey => "disable-key",
        WhatIfChange::ScheduleKeyDeletion => "schedule-key-deletion",
        WhatIfChange::PutKeyPolicy => "put-key-policy",
        WhatIfChange::RevokeGrant => "revoke-grant",
        WhatIfChange::PutPolicy => "put-policy",
        WhatIfChange::DeletePolicy => "delete-policy",
        WhatIfChange::AttachPolicy => "attach-policy",
        WhatIfChange::DetachPolicy => "detach-policy",
        WhatIfChange::PutBoundary => "put-boundary",
        WhatIfChange::DeleteBoundary => "delete-boundary",
        WhatIfChange::AddToGroup => "add-to-group",
        WhatIfChange::RemoveFromGroup => "remove-from-group",
        WhatIfChange::CreatePolicyVersion => "create-policy-version",
        WhatIfChange::SetDefaultPolicyVersion => "set-default-policy-version",
    };
    let policy = match &options.policy {
        None => None,
        Some(path) => Some(std::fs::read_to_string(path).map_err(|error| {
            Failure::failed(format!("the policy in {}: {error}", path.display()))
        })?),
    };
    let given = json!({
        "Change": change,
        "KeyId": options.key_id,
        "PrincipalArn": options.principal_arn,
        "Policy": policy,
        "PolicyName": options.policy_name,
        "PolicyArn": options.policy_arn,
        "GrantId": options.grant_id,
        "GroupName": options.group_name,
        "VersionId": options.version_id,
        "Days": options.days,
    });
    let reply = call(&options.server, "WhatIf", &without_nulls(given))?;
    print(&options.server, &reply, "Answer").map(drop)
}

/// A request without the members that were not given.
fn without_nulls(mut input: Value) -> Value {
    if let Value::Object(members) = &mut input {
        members.retain(|_, value| !value.is_null());
    }
    input
}

/// Prints the document of a reply, or its text; answers the document.
fn print(server: &ServerArgs, reply: &Value, document: &str) -> Result<Value, Failure> {
    let text = |name: &str| reply[name].as_str().unwrap_or_default();
    let mut out = std::io::stdout().lock();
    let parsed: Value = serde_json::from_str(text(document)).map_err(Failure::failed)?;
    match server.output {
        Output::Json => writeln!(out, "{parsed}")?,
        Output::Text => out.write_all(text("Text").as_bytes())?,
    }
    Ok(parsed)
}
