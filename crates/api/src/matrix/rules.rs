//! What holds whatever the golden file says: spec 20, A.2 to A.4 and B.6, and the guides of IAM and STS.

use super::{Row, Verdict, door};
use crate::Service;
use iam::Layer;

/// Need no permission, and no policy takes them away (STS API, "Permissions").
const OPEN: [&str; 2] = ["sts:GetCallerIdentity", "sts:GetSessionToken"];
/// Their token is their credential: they come without a signature, and whoever signs is nobody to them.
const OF_TOKENS: [&str; 2] = ["sts:AssumeRoleWithSAML", "sts:AssumeRoleWithWebIdentity"];
/// Only the machine that an attachment names sees the attachment.
const OF_MACHINES: [&str; 3] =
    ["strongroom:CompleteAttachment", "strongroom:OpenAttachment", "strongroom:ResumeAttachment"];
/// Long-term credentials alone are taken (STS API).
const LONG_TERM: [&str; 2] = ["sts:GetFederationToken", "sts:GetSessionToken"];
/// Whose right it is says the grant.
const RETIRE: &str = "kms:RetireGrant";
/// A password is a user's own.
const OF_USERS: &str = "iam:ChangePassword";
/// Keys of other accounts can be used for these, and managed for none other (spec 20, A.3).
const ACROSS_ACCOUNTS: [&str; 22] = [
    "kms:CreateGrant",
    "kms:Decapsulate",
    "kms:Decrypt",
    "kms:DeriveSharedSecret",
    "kms:DescribeKey",
    "kms:Encapsulate",
    "kms:Encrypt",
    "kms:GenerateDataKey",
    "kms:GenerateDataKeyPair",
    "kms:GenerateDataKeyPairWithoutPlaintext",
    "kms:GenerateDataKeyWithoutPlaintext",
    "kms:GenerateMac",
    "kms:GetKeyRotationStatus",
    "kms:GetPublicKey",
    "kms:ListGrants",
    "kms:ReEncryptFrom",
    "kms:ReEncryptTo",
    "kms:RetireGrant",
    "kms:RevokeGrant",
    "kms:Sign",
    "kms:Verify",
    "kms:VerifyMac",
];
/// What the grants of `holder` and `grantee` are for.
const GRANTED: [&str; 19] = [
    "kms:CreateGrant",
    "kms:Decapsulate",
    "kms:Decrypt",
    "kms:DeriveSharedSecret",
    "kms:DescribeKey",
    "kms:Encapsulate",
    "kms:Encrypt",
    "kms:GenerateDataKey",
    "kms:GenerateDataKeyPair",
    "kms:GenerateDataKeyPairWithoutPlaintext",
    "kms:GenerateDataKeyWithoutPlaintext",
    "kms:GenerateMac",
    "kms:GetPublicKey",
    "kms:ReEncryptFrom",
    "kms:ReEncryptTo",
    "kms:RetireGrant",
    "kms:Sign",
    "kms:Verify",
    "kms:VerifyMac",
];
/// What sharing a snapshot gives another account (EBS guide, "Share a snapshot").
const SHARED: [&str; 7] = [
    "ebs:GetSnapshotBlock",
    "ebs:ListChangedBlocks",
    "ebs:ListSnapshotBlocks",
    "ec2:CopySnapshot",
    "ec2:DisableFastSnapshotRestores",
    "ec2:EnableFastSnapshotRestores",
    // Tells both sides what each has to write.
    "strongroom:SuggestPolicy",
];

/// What is wrong with one operation's verdicts.
pub(super) fn broken(row: &Row) -> Vec<String> {
    let mut judge = Judge { row, name: row.name(), found: Vec::new() };
    judge.strangers();
    if !judge.is_one_of(&OF_TOKENS) && !judge.is_one_of(&OF_MACHINES) {
        judge.of_the_account();
        judge.sessions();
    } else {
        judge.nobody_signed();
    }
    judge.other_accounts();
    judge.found
}

struct Judge<'a> {
    row: &'a Row,
    name: String,
    found: Vec<String>,
}

impl Judge<'_> {
    fn want(&mut self, persona: &'static str, wanted: &str, holds: impl Fn(&Verdict) -> bool) {
        let verdict = self.row.of(persona);
        if !holds(verdict) {
            self.found.push(format!("{} by {persona}: {verdict}, and not {wanted}", self.name));
        }
    }

    fn is(&mut self, persona: &'static str, wanted: &Verdict) {
        self.want(persona, &wanted.to_string(), |verdict| verdict == wanted);
    }

    fn is_one_of(&self, names: &[&str]) -> bool {
        names.contains(&self.name.as_str())
    }

    fn asks_only(&self, actions: &[&str]) -> bool {
        let mut asks = self.row.asks.iter();
        !self.row.asks.is_empty() && asks.all(|ask| actions.contains(&ask.action.as_str()))
    }

    fn service(&self) -> Service {
        self.row.operation.spec().service
    }

    /// Nothing is done for whoever has no good credentials.
    fn strangers(&mut self) {
        const CODES: [&str; 12] = [
            "AuthFailure",
            "RequestExpired",
            "MissingAuthenticationToken",
            "MissingAuthenticationTokenException",
            "InvalidClientTokenId",
            "UnrecognizedClientException",
            "SignatureDoesNotMatch",
            "InvalidSignatureException",
            "ExpiredToken",
            "ExpiredTokenException",
            "IncompleteSignature",
            "IncompleteSignatureException",
        ];
        let of_token = self.is_one_of(&OF_TOKENS);
        for persona in door::NAMES {
            self.want(persona, "a refusal of its credentials", |verdict| match verdict {
                Verdict::Refused(code) if of_token => code == "InvalidIdentityToken",
                Verdict::Refused(code) => CODES.contains(&code.as_str()),
                _ => false,
            });
        }
    }

    /// Callers of the account whose things the request is about.
    fn of_the_account(&mut self) {
        let open = self.is_one_of(&OPEN);
        let or = |verdict: Verdict| if open { Verdict::Allow } else { verdict };
        let no_role_of_root = self.name == "sts:AssumeRole" || self.name == OF_USERS;
        if !no_role_of_root {
            self.is("root", &Verdict::Allow);
        }
        self.is("admin", &Verdict::Allow);
        // Its password is on itself, and its policy on whom the admin asked for: the admin.
        match self.name == OF_USERS {
            true => self.is("exact", &Verdict::Implicit(Layer::Identity)),
            false => self.is("exact", &Verdict::Allow),
        }
        self.is("bare", &or(Verdict::Implicit(Layer::Identity)));
        self.is("denied", &or(Verdict::Explicit(Layer::Identity)));
        self.is("bounded", &or(Verdict::Implicit(Layer::Boundary)));
        self.is("elsewhere", &or(Verdict::Implicit(Layer::Identity)));
        // The grant that is retired is the grantee's.
        match self.asks_only(&GRANTED) && self.name != RETIRE {
            true => self.is("holder", &Verdict::Allow),
            false => self.is("holder", &or(Verdict::Implicit(Layer::Identity))),
        }
        self.want("service", "a denial", |verdict| {
            !matches!(verdict, Verdict::Allow | Verdict::Own)
        });
    }

    /// Callers with temporary credentials (IAM guide, "Compare AWS STS credentials").
    fn sessions(&mut self) {
        let code = match self.service() {
            Service::Iam => "InvalidClientTokenId",
            _ => "AccessDenied",
        };
        let closed = |verdict: &Verdict| matches!(verdict, Verdict::Ended(found) if found == code);
        let long_term = self.is_one_of(&LONG_TERM);
        let of_users = self.name == OF_USERS;
        let open = self.is_one_of(&OPEN);
        for persona in ["role", "session"] {
            if long_term || of_users {
                self.want(persona, "closed to sessions", |verdict| {
                    matches!(verdict, Verdict::Ended(_))
                });
            } else if persona == "role" || open {
                self.is(persona, &Verdict::Allow);
            } else {
                self.is(persona, &Verdict::Implicit(Layer::Session));
            }
        }
        let identity = matches!(self.service(), Service::Iam | Service::Sts);
        let who = self.name == "sts:GetCallerIdentity";
        match identity && !who {
            true => self.want("federated", "closed to federated users", closed),
            false => self.is("federated", &Verdict::Allow),
        }
        match identity && !who && self.name != "sts:AssumeRole" {
            true => self.want("token", "closed to session tokens", closed),
            false => self.is("token", &Verdict::Allow),
        }
    }

    /// Operations that no signature opens.
    fn nobody_signed(&mut self) {
        for persona in super::personas::NAMES {
            self.want(persona, "hidden", |verdict| matches!(verdict, Verdict::Ended(_)));
        }
    }

    /// Nothing of an account is another's unless both agree, and of keys only their use.
    fn other_accounts(&mut self) {
        self.want("foreign", "kept out", |verdict| *verdict != Verdict::Allow);
        // No policy of the key says who retires a grant (spec 20, B.6).
        let usable = self.asks_only(&ACROSS_ACCOUNTS) && self.name != RETIRE;
        let granted = self.asks_only(&GRANTED);
        let lent = usable || self.is_one_of(&SHARED) || self.name == "sts:AssumeRole";
        if !lent {
            self.want("guest", "kept out", |verdict| *verdict != Verdict::Allow);
        }
        if usable {
            self.is("guest", &Verdict::Allow);
        }
        match granted {
            true => self.is("grantee", &Verdict::Allow),
            false => self.want("grantee", "kept out", |verdict| *verdict != Verdict::Allow),
        }
    }
}
