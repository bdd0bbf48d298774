//! `strongroom:Preflight`: every decision a request of the caller would lead to, without making it.

use crate::error::{INTERNAL, invalid_parameter_of};
use crate::preflight::{Wanted, preflight};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;

pub(crate) struct Preflight;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    /// `CopySnapshot`.
    operation: String,
    /// The request as a JSON object by the model's member names.
    #[shape(sensitive)]
    parameters: String,
    /// `ec2`, `ebs`, `kms`, …
    service: String,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    /// A JSON document, described in `docs/explain.md`.
    preflight: String,
    /// The same for people.
    text: String,
}

impl Operation for Preflight {
    const SPEC: Spec = Spec::reads(Service::Strongroom, "Preflight");
    type Input = Input;
    type Plan = Wanted;
    type Output = Output;

    async fn plan(_call: &Call, input: Input) -> Result<Wanted, Error> {
        let parameters = serde_json::from_str(&input.parameters).map_err(|error| {
            let message = format!("Parameters is no JSON object: {error}");
            Error::new(invalid_parameter_of(Service::Strongroom), message)
        })?;
        Ok(Wanted { service: input.service, operation: input.operation, parameters })
    }

    fn asks(_plan: &Wanted) -> Vec<Ask> {
        vec![Ask::any("strongroom:Preflight")]
    }

    async fn act(call: &Call, plan: Granted<Wanted>) -> Result<Output, Error> {
        let found = preflight(call, plan.into_inner()).await?;
        let text = found.to_string();
        let preflight = serde_json::to_string(&found)
            .map_err(|error| Error::from(INTERNAL.error("").with_cause(error)))?;
        Ok(Output { preflight, text })
    }
}
