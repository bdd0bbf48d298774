//! `aws/ebs`: the key EBS uses when nobody chose one. One per account and region, made on first need, with a
//! policy nobody can change (spec 20, B.5).

use crate::alias;
use crate::error::Result;
use crate::key::{self, Key, KeyFacts, KeyManager};
use crate::material::{MaterialId, NewMaterial};
use crate::origin::KeyOrigin;
use crate::rotation::{PERIOD_DAYS_DEFAULT, Schedule};
use crate::service::Kms;
use crate::spec::Kind;
use crate::state::KeyState;
use base::{AccountId, Region};
use iam::Bindings;
use meta::Tx;

/// The alias of the key.
pub const EBS_ALIAS: &str = "alias/aws/ebs";

/// What AWS says about it.
const EBS_DESCRIPTION: &str =
    "Default key that protects my EBS volumes when no other key is defined";

impl Kms {
    /// The account's `aws/ebs` key in a region, made if this is its first use.
    ///
    /// # Errors
    /// As the database answers.
    pub fn ebs_managed_key(
        &self,
        tx: &mut Tx<'_>,
        account: &AccountId,
        region: &Region,
    ) -> Result<Key> {
        if let Some(alias) = alias::find(tx, account, region, EBS_ALIAS)?
            && let Some(id) = alias.key_id
        {
            return key::get(tx, account, region, &id);
        }
        let key = Key::from(KeyFacts {
            account: account.clone(),
            region: region.clone(),
            id: base::id::uuid(self.rng()),
            kind: Kind::SYMMETRIC,
            state: KeyState::Enabled,
            manager: KeyManager::Aws,
            description: EBS_DESCRIPTION.to_owned(),
            created: self.now(),
            deletion: None,
            policy: ebs_policy(account, region),
            bindings: Bindings::default(),
            material_id: MaterialId::generate(self.rng()),
            origin: KeyOrigin::AwsKms,
            multi_region: None,
            pending_window_days: None,
            rotation: Some(Schedule::from(PERIOD_DAYS_DEFAULT, self.now())),
            next_state: None,
        });
        let material = NewMaterial::generate(Kind::SYMMETRIC, self.rng())?;
        self.insert(tx, &key, &material)?;
        self.insert_alias(tx, EBS_ALIAS, &key)?;
        Ok(key)
    }
}

/// Whether a `KeyId` means the caller's own `aws/ebs`, so that it has to exist before it is resolved.
pub fn names_ebs_managed_key(text: &str, account: &AccountId, region: &Region) -> bool {
    text == EBS_ALIAS || text == alias::arn(account, region, EBS_ALIAS).to_string()
}

/// Direct allow for everyone in the account, but only through EBS; the account itself may look at the key and revoke
/// grants. Nothing else is allowed to anyone, so the key can be neither changed nor shared.
fn ebs_policy(account: &AccountId, region: &Region) -> String {
    format!(
        r#"{{
  "Version": "2012-10-17",
  "Id": "auto-ebs-2",
  "Statement": [
    {{
      "Sid": "Allow access through EBS for all principals in the account",
      "Effect": "Allow",
      "Principal": {{ "AWS": "*" }},
      "Action": [
        "kms:Encrypt",
        "kms:Decrypt",
        "kms:ReEncrypt*",
        "kms:GenerateDataKey*",
        "kms:CreateGrant",
        "kms:DescribeKey"
      ],
      "Resource": "*",
      "Condition": {{
        "StringEquals": {{
          "kms:CallerAccount": "{account}",
          "kms:ViaService": "ec2.{region}.amazonaws.com"
        }}
      }}
    }},
    {{
      "Sid": "Allow direct access to key metadata to the account",
      "Effect": "Allow",
      "Principal": {{ "AWS": "arn:aws:iam::{account}:root" }},
      "Action": ["kms:Describe*", "kms:Get*", "kms:List*", "kms:RevokeGrant"],
      "Resource": "*"
    }}
  ]
}}"#
    )
}
