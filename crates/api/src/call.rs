//! Who calls, from where, and what the server knows while it answers.

use crate::audit::Notes;
use crate::rehearsal::{Rehearsal, Rehearsing};
use crate::world::{ExplainIds, World};
use base::{AccountId, Region, Timestamp};
use identity::{oidc, saml, web_identity};
use lifecycle::port::kms::KmsPort;
use std::sync::Arc;

/// One call of one operation: the caller, the circumstances, and the server's state.
pub struct Call {
    /// Everything shared between calls.
    pub world: Arc<World>,
    /// On whose authority.
    pub caller: Caller,
    /// The region addressed.
    pub region: Region,
    /// Unique to the request; forwarded calls have their own.
    pub request_id: String,
    /// When the request was accepted.
    pub now: Timestamp,
    /// What the token or response of a request without a signature has been found to say.
    pub(crate) vouched: Option<Vouched>,
    /// What the operation wants to say in the trail beyond its parameters.
    pub notes: Notes,
    /// Whether the caller wants to be told why.
    pub explain: Explain,
    /// Set when the call only rehearses: it decides as it would and does nothing.
    pub(crate) rehearsal: Option<Arc<Rehearsal>>,
}

/// Claims in the place of a signature: checked, with the provider that vouches for them.
#[derive(Clone, Debug)]
pub(crate) enum Vouched {
    /// Of a SAML response.
    Saml(identity::vouched::Vouched<saml::Provider, saml::Claims>),
    /// Of a web identity token.
    WebIdentity(identity::vouched::Vouched<oidc::Provider, web_identity::Claims>),
}

impl Vouched {
    /// Who they say the caller is: somebody the provider vouches for, before a role's account.
    pub(crate) fn principal(&self) -> iam::Principal {
        match self {
            Self::Saml(vouched) => {
                let (provider, claims) = (vouched.provider(), vouched.claims());
                let (arn, qualifier) = (provider.arn().to_string(), provider.name_qualifier());
                iam::Principal::saml(&provider.account, &arn, &claims.subject, &qualifier)
            }
            Self::WebIdentity(vouched) => {
                let (provider, claims) = (vouched.provider(), vouched.claims());
                let arn = provider.arn().to_string();
                iam::Principal::web_identity(&provider.account, &arn, &claims.subject)
            }
        }
    }
}

/// How much a reply tells beyond AWS's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Explain {
    /// Nothing.
    #[default]
    Off,
    /// Where to ask why something failed, and with a dry run every decision that acting would take.
    /// The header `x-strongroom-explain: full`.
    Full,
}

impl Call {
    /// The account that is answered and charged.
    pub fn account(&self) -> &AccountId {
        &self.caller.principal.account
    }

    /// Whether the caller sees ids of explanations in replies of AWS's shape.
    pub(crate) fn shows_explain_ids(&self) -> bool {
        self.explain == Explain::Full || self.world.explain_ids == ExplainIds::InStateMessages
    }

    /// KMS as this call reaches it for its user: the front door, or a rehearsal of it.
    pub(crate) fn kms(&self) -> Arc<dyn KmsPort> {
        match &self.rehearsal {
            None => Arc::clone(&self.world.services.kms),
            Some(rehearsal) => Arc::new(Rehearsing::new(&self.world, rehearsal)),
        }
    }

    /// A call that this one makes: same region, its own request id, another caller.
    pub fn fork(&self, caller: Caller) -> Self {
        Self {
            world: Arc::clone(&self.world),
            caller,
            region: self.region.clone(),
            request_id: base::id::uuid(&*self.world.rng),
            now: self.world.clock.now(),
            vouched: None,
            notes: Notes::default(),
            explain: Explain::Off,
            rehearsal: None,
        }
    }
}

/// On whose authority a call runs, and how it arrived.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The user, role session, account root or service.
    pub principal: iam::Principal,
    /// The access key that signed the request; absent for calls a service makes by itself.
    pub access_key_id: Option<String>,
    /// Policies that limit this session only, as JSON texts.
    pub session_policies: Vec<String>,
    /// The client's address. Kept in forwarded calls (spec 20, A.7, `aws:SourceIp`).
    pub source_ip: Option<String>,
    /// Whether the request came over TLS (`aws:SecureTransport`). What a service calls in here, for a
    /// caller or by itself, never is on a network, and counts as if.
    pub secure_transport: bool,
    /// The client's own description.
    pub user_agent: String,
    /// Set when a service makes the call: for the user, or by itself.
    pub forwarded: Option<Forwarded>,
}

impl Caller {
    /// The service that speaks for the caller (`aws:ViaAWSService`, `kms:ViaService`).
    pub(crate) fn via_service(&self) -> Option<&str> {
        self.forwarded.as_ref()?.via_service.as_deref()
    }

    /// The resource on whose behalf a service acts by itself (`aws:SourceArn`).
    pub(crate) fn source_arn(&self) -> Option<&str> {
        self.forwarded.as_ref()?.source_arn.as_deref()
    }
}

/// How a service came to make a call (forward access session, spec 20, A.8).
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Forwarded {
    /// `ec2.us-east-1.amazonaws.com` when the service speaks for the caller; absent when it acts
    /// by itself on a grant.
    pub via_service: Option<String>,
    /// The resource on whose behalf a service acts by itself (`aws:SourceArn`).
    #[serde(default)]
    pub source_arn: Option<String>,
    /// `ec2-frontend-api.amazonaws.com`, `ebs.amazonaws.com`, `AWS Internal`: the trail's word.
    pub invoked_by: String,
    /// The request this call belongs to, where the trail shows both under one id.
    pub shared_request_id: Option<String>,
    /// The request the service makes the call for, now or later; for explanations only.
    #[serde(default)]
    pub cause: Option<String>,
}
