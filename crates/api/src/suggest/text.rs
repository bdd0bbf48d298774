//! The suggestion for people: what each account has to do, in order.

use super::Suggestion;
use serde_json::Value as Json;
use std::fmt::{self, Display, Formatter};

impl Display for Suggestion {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { owner, recipient, key, .. } = self;
        writeln!(f, "1. Account {owner} adds to the policy of {key}:\n")?;
        for statement in &self.key_policy_statements {
            indented(f, statement)?;
        }
        writeln!(f, "2. Account {owner} shares the snapshot (ModifySnapshotAttribute):\n")?;
        indented(f, &self.snapshot_attribute)?;
        writeln!(f, "3. {recipient} allows who acts there:\n")?;
        indented(f, &self.identity_policy)?;
        if let Some(grant) = &self.service_linked_role_grant {
            writeln!(f, "4. {recipient} grants to the role of Auto Scaling (CreateGrant):\n")?;
            indented(f, grant)?;
        }
        writeln!(
            f,
            "Before acting, `strongroom preflight aws ec2 …` as who acts says whether it is enough."
        )
    }
}

fn indented(f: &mut Formatter<'_>, json: &Json) -> fmt::Result {
    let text = serde_json::to_string_pretty(json).map_err(|_| fmt::Error)?;
    for line in text.lines() {
        writeln!(f, "   {line}")?;
    }
    writeln!(f)
}
