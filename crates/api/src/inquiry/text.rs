//! Both answers for people.

use super::what_if::WhatIf;
use super::who_can::WhoCan;
use std::fmt::{self, Display, Formatter};

/// Changed decisions that are told; the document has all.
const CHANGED_TOLD: usize = 20;

impl Display for WhoCan {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} of account {}", self.resource, self.owner)?;
        match (&self.key, &self.key_state) {
            (Some(key), Some(state)) => writeln!(f, "  key     {key} ({state})")?,
            (Some(key), None) => writeln!(f, "  key     {key}")?,
            (None, _) => writeln!(f, "  key     none: no KMS permission is asked")?,
        }
        if !self.shares.is_empty() {
            writeln!(f, "  shared  with {}", self.shares.join(", "))?;
        }
        for machine in &self.attached_to {
            writeln!(f, "  attached to {machine}")?;
        }
        for end in &self.dead_ends {
            writeln!(f, "  DEAD END {end}")?;
        }
        for reader in &self.readers {
            writeln!(f, "  {}", reader.who)?;
            for way in &reader.ways {
                match &way.once_restored {
                    None => writeln!(f, "    {:<8} {}", way.how, way.can)?,
                    Some(then) => writeln!(f, "    {:<8} no; once restored: {then}", way.how)?,
                }
                for link in &way.chain {
                    let verdict = if link.allowed { "allowed" } else { "denied" };
                    writeln!(f, "      {} {verdict} ({}): {}", link.action, link.layer, link.why)?;
                }
            }
        }
        for grant in &self.grants {
            let operations: Vec<&str> = grant.operations.iter().map(|o| o.as_str()).collect();
            let (id, grantee) = (&grant.grant_id, &grant.grantee);
            writeln!(f, "  grant {id} to {grantee}: {}", operations.join(", "))?;
        }
        if self.truncated {
            writeln!(f, "  There are more users or roles than were asked for.")?;
        }
        Ok(())
    }
}

impl Display for WhatIf {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let of = self.key.iter().chain(&self.principal).chain(&self.policy).next();
        let of = of.map_or("", String::as_str);
        writeln!(f, "If {} ({of}):", self.change)?;
        for affected in &self.affected {
            writeln!(f, "  {}: {}", affected.resource, affected.next)?;
        }
        let changed = self.changed.len();
        writeln!(
            f,
            "  {changed} of {} decisions recorded since {} would come out otherwise",
            self.replayed, self.since
        )?;
        for change in self.changed.iter().take(CHANGED_TOLD) {
            let verdict = if change.would_be_allowed { "allowed" } else { "denied" };
            let resource =
                change.resource.as_ref().map(|id| format!(" for {id}")).unwrap_or_default();
            let (who, action) = (&change.who, &change.action);
            writeln!(f, "    {} {who} {action}{resource}: {verdict}", change.time)?;
        }
        if changed > CHANGED_TOLD {
            writeln!(f, "    and {} more, in --output json", changed - CHANGED_TOLD)?;
        }
        Ok(())
    }
}
