//! `kms:RetireGrant`: ends a grant, by whom the grant itself lets (spec 20, B.6).

use super::shared;
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use kms::condition::Facts;
use kms::grant::{self, Grant};
use kms::resolve::{self, Resolved};
use kms::{Action, Error as KmsError};

pub(crate) struct RetireGrant;

#[derive(Shape)]
#[shape(input, dry_run)]
pub(crate) struct Input {
    #[shape(sensitive)]
    grant_token: Option<String>,
    key_id: Option<String>,
    grant_id: Option<String>,
}

/// How the request names its grant.
enum Name {
    Token(String),
    KeyAndId(String, String),
}

pub(crate) struct Plan {
    grant: Grant,
    ask: Ask,
}

impl Operation for RetireGrant {
    const SPEC: Spec = Spec::mutates(Service::Kms, "RetireGrant");
    type Input = Input;
    type Plan = Plan;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let name = match (input.grant_token, input.key_id, input.grant_id) {
            (Some(token), None, None) => Name::Token(token),
            (None, Some(key_id), Some(grant_id)) => Name::KeyAndId(key_id, grant_id),
            _ => {
                return Err(KmsError::Validation {
                    message: "Specify either a grant token, or a grant ID and a key ID.".to_owned(),
                }
                .into());
            }
        };
        let action = Action::RetireGrant;
        shared::read(call, move |kms, tx, from| {
            let grant = match &name {
                Name::Token(token) => {
                    let grant_id = kms.grant_of_token(token)?;
                    grant::by_id(tx, &from.region, &grant_id)?
                }
                Name::KeyAndId(key_id, grant_id) => {
                    let key = resolve::resolve(tx, action, &from.caller, &from.region, key_id)?.key;
                    grant::of_key(tx, &key, grant_id)?
                }
            };
            let key = kms::key::get(tx, &grant.key_account, &grant.key_region, &grant.key_id)?;
            let resolved = Resolved { key, request_alias: None };
            let facts = Facts::RetireGrant(grant.constraints.clone());
            let question = from.question(action, &resolved, &facts);
            let ask = shared::guarded(kms.retire_guard(tx, &question, &grant)?);
            Ok(Plan { grant, ask })
        })
        .await
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.ask.clone()]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<(), Error> {
        let grant = plan.into_inner().grant;
        call.notes.add("grantId", grant.id.as_str());
        // A key's state keeps no grant (spec 20, B.3).
        shared::write(call, move |kms, tx, _| kms.delete_grant(tx, &grant)).await
    }
}
