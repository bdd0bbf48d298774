//! `kms:GetParametersForImport`: a public key to wrap key material with, and the token that belongs to it.

use super::shared::{self, Named, Target};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::{Blob, Shape, string_enum};
use base::Timestamp;
use kms::condition::Facts;
use kms::import::wrapping;
use kms::{Action, import};

pub(crate) struct GetParametersForImport;

string_enum! {
    /// `WrappingAlgorithm`; the first and the last are refused by name.
    pub(crate) enum WrappingAlgorithm {
        /// RSAES-PKCS1-v1_5, which AWS has ended.
        RsaesPkcs1V15 = "RSAES_PKCS1_V1_5",
        /// RSAES-OAEP with SHA-1.
        RsaesOaepSha1 = "RSAES_OAEP_SHA_1",
        /// RSAES-OAEP with SHA-256.
        RsaesOaepSha256 = "RSAES_OAEP_SHA_256",
        /// An AES key under RSAES-OAEP with SHA-1, the material under it.
        RsaAesKeyWrapSha1 = "RSA_AES_KEY_WRAP_SHA_1",
        /// The same with SHA-256.
        RsaAesKeyWrapSha256 = "RSA_AES_KEY_WRAP_SHA_256",
        /// SM2.
        Sm2pke = "SM2PKE",
    }
}

string_enum! {
    /// `WrappingKeySpec`; the last is refused by name.
    pub(crate) enum WrappingKeySpec {
        /// RSA, 2,048 bits.
        Rsa2048 = "RSA_2048",
        /// RSA, 3,072 bits.
        Rsa3072 = "RSA_3072",
        /// RSA, 4,096 bits.
        Rsa4096 = "RSA_4096",
        /// SM2.
        Sm2 = "SM2",
    }
}

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    key_id: String,
    wrapping_algorithm: WrappingAlgorithm,
    wrapping_key_spec: WrappingKeySpec,
}

pub(crate) struct Plan {
    target: Target,
    algorithm: wrapping::WrappingAlgorithm,
    key_spec: wrapping::WrappingKeySpec,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    key_id: String,
    #[shape(sensitive)]
    pub(crate) import_token: Blob,
    #[shape(sensitive)]
    pub(crate) public_key: Blob,
    parameters_valid_to: Timestamp,
}

impl Operation for GetParametersForImport {
    const SPEC: Spec = Spec::reads(Service::Kms, "GetParametersForImport");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let algorithm = wrapping::WrappingAlgorithm::parse(input.wrapping_algorithm.as_str())?;
        let key_spec = wrapping::WrappingKeySpec::parse(input.wrapping_key_spec.as_str())?;
        let facts = Facts::GetParameters { algorithm, key_spec };
        let named = Named { action: Action::GetParametersForImport, key_id: &input.key_id, facts };
        Ok(Plan { target: shared::target(call, named).await?, algorithm, key_spec })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.target.ask.clone()]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { target, algorithm, key_spec } = plan.into_inner();
        let action = Action::GetParametersForImport;
        let planned = target.key;
        let key = shared::read(call, move |_, tx, _| {
            let key = shared::usable(tx, action, &planned)?;
            import::check_importable(&key)?;
            wrapping::check_fits(key.kind, algorithm, key_spec)?;
            Ok(key)
        })
        .await?;
        let wrapping = call.world.forge.wrapping_key(key_spec).await?;
        let parameters = call.world.kms.import_parameters(&key, algorithm, wrapping)?;
        Ok(Output {
            key_id: key.arn().to_string(),
            import_token: Blob::from(parameters.token),
            public_key: Blob::from(parameters.public_key),
            parameters_valid_to: parameters.valid_to,
        })
    }
}
