//! Every error of KMS, IAM and STS that a test of this crate provokes is one that the service model lists for the
//! operation, under its code and status, or one that every operation may answer with. Clients map codes to
//! exceptions by that list; a code that is not in it reaches nobody's `except`.

use crate::pipeline::Spec;
use crate::{Error, Service};
use serde_json::Value as Json;
use std::sync::OnceLock;

/// What every operation of KMS may answer with (KMS API, "Common errors").
const COMMON_JSON: &[(&str, u16)] = &[
    ("AccessDeniedException", 400),
    ("KMSInternalException", 500),
    ("SerializationException", 400),
    ("ValidationException", 400),
];

/// What every operation of IAM and STS may answer with (IAM API and STS API, "Common errors").
const COMMON_QUERY: &[(&str, u16)] = &[
    ("AccessDenied", 403),
    ("InvalidClientTokenId", 403),
    ("MalformedInput", 400),
    ("ServiceFailure", 500),
    ("ValidationError", 400),
];

/// Codes that the model lists for no error of the operation, though the service answers with them: a key that is
/// not there has no last use, and `NoSuchEntity` is what every other operation on access keys says then.
const BEYOND: [(&str, &str, u16); 1] = [("GetAccessKeyLastUsed", "NoSuchEntity", 404)];

/// Hands an outcome on, once its error is known to be the operation's.
pub(crate) fn checked<T>(spec: &Spec, outcome: Result<T, Error>) -> Result<T, Error> {
    if let Some(complaint) = outcome.as_ref().err().and_then(|error| complaint(spec, error)) {
        panic!("{complaint}");
    }
    outcome
}

/// What is wrong with an error of an operation.
fn complaint(spec: &Spec, error: &Error) -> Option<String> {
    let (code, status) = (error.0.spec.code, error.0.spec.status);
    let wrong = || format!("{} does not list {code} with {status}: {error}", spec.name);
    (!listed(spec, code, status)).then(wrong)
}

fn listed(spec: &Spec, code: &str, status: u16) -> bool {
    let (model, common) = match spec.service {
        Service::Kms => (kms(), COMMON_JSON),
        Service::Iam => (iam(), COMMON_QUERY),
        Service::Sts => (sts(), COMMON_QUERY),
        Service::CloudTrail | Service::Ebs | Service::Ec2 | Service::Strongroom => return true,
    };
    let of_operation = model["operations"][spec.name]["errors"].as_array().into_iter().flatten();
    let mut of_operation = of_operation.filter_map(Json::as_str).map(|name| &model["errors"][name]);
    common.contains(&(code, status))
        || BEYOND.contains(&(spec.name, code, status))
        || of_operation.any(|error| error["code"] == code && error["status"] == status)
}

macro_rules! model {
    ($name:ident, $file:literal) => {
        fn $name() -> &'static Json {
            static MODEL: OnceLock<Json> = OnceLock::new();
            MODEL.get_or_init(|| {
                serde_json::from_str(include_str!(concat!("../../../tests/models/", $file)))
                    .expect("an extract of a service model is JSON")
            })
        }
    };
}

model!(kms, "kms.json");
model!(iam, "iam.json");
model!(sts, "sts.json");

#[test]
fn errors_are_told_apart() {
    let spec = Spec::reads(Service::Kms, "Decrypt");
    assert!(listed(&spec, "IncorrectKeyException", 400), "its own");
    assert!(listed(&spec, "ValidationException", 400), "a common one");
    assert!(!listed(&spec, "IncorrectKeyException", 500), "another status");
    assert!(!listed(&spec, "InvalidMarkerException", 400), "another operation's");
    let spec = Spec::reads(Service::Iam, "GetUser");
    assert!(listed(&spec, "NoSuchEntity", 404) && !listed(&spec, "NoSuchEntityException", 404));
}

/// Provokes what no other test does: every operation with names of every sort.
mod sweep {
    use crate::Service;
    use crate::testing::{Bench, account, bench, from_json, run_named};
    use awsproto::{Kind, Schema};
    use serde_json::{Map, Value as Json, json};
    use std::collections::BTreeSet;

    /// Names of keys, real and not, in every state and of every sort that decides about an error.
    async fn keys(bench: &Bench) -> Vec<String> {
        let root = bench.root(&account(1), "us-east-1");
        let run = |name, input| run_named(&root, Service::Kms, name, input);
        let make = async |input: Json| {
            let made = run("CreateKey", input).await.expect("a key");
            made["KeyMetadata"]["KeyId"].as_str().expect("an id").to_owned()
        };
        let mut keys = vec![make(json!({})).await];
        for (spec, usage) in [
            ("HMAC_256", "GENERATE_VERIFY_MAC"),
            ("ECC_NIST_P256", "SIGN_VERIFY"),
            ("ECC_NIST_P384", "KEY_AGREEMENT"),
        ] {
            keys.push(make(json!({"KeySpec": spec, "KeyUsage": usage})).await);
        }
        keys.push(make(json!({"Origin": "EXTERNAL"})).await);
        keys.push(make(json!({"MultiRegion": true})).await);
        let disabled = make(json!({})).await;
        run("DisableKey", json!({"KeyId": disabled})).await.expect("disabled");
        let dying = make(json!({})).await;
        run("ScheduleKeyDeletion", json!({"KeyId": dying})).await.expect("scheduled");
        let alias = json!({"AliasName": "alias/a", "TargetKeyId": disabled});
        run("CreateAlias", alias).await.expect("an alias");
        keys.extend([disabled, dying]);
        let first = &keys[0];
        let there = [
            "alias/a",
            "alias/none",
            "no key",
            "00000000-0000-0000-0000-000000000000",
            "arn:aws:kms:us-east-1:111111111111:alias/a",
            "arn:aws:kms:us-east-1:111111111111:alias/none",
            "arn:aws:kms:eu-west-1:111111111111:alias/a",
            "arn:aws:kms:us-east-1:111111111111:key/none",
            "arn:aws:kms:us-east-1:111111111111:grant/none",
            "arn:aws:iam::111111111111:user/none",
            "arn:aws:kms:us-east-1",
            "arn:",
        ];
        let elsewhere = [("eu-west-1", '1'), ("us-east-1", '2')].map(|(region, digit)| {
            let account = digit.to_string().repeat(12);
            format!("arn:aws:kms:{region}:{account}:key/{first}")
        });
        keys.extend(there.map(str::to_owned).into_iter().chain(elsewhere));
        keys
    }

    /// A request with all that is required: what the row says, and for the rest a value of its type.
    fn request(schema: &Schema, given: &[(&str, Json)]) -> Json {
        let members = schema.members.iter().filter_map(|member| {
            let said = given.iter().find(|(name, _)| *name == member.name);
            let value = said.map(|(_, value)| value.clone());
            let value =
                value.or_else(|| member.required.then(|| filler(member.name, &member.kind)));
            Some((member.name.to_owned(), value?))
        });
        Json::Object(Map::from_iter(members))
    }

    fn filler(name: &str, kind: &Kind) -> Json {
        match kind {
            Kind::Bool => json!(true),
            Kind::Integer | Kind::Long => json!(3600),
            Kind::Double => json!(1.0),
            Kind::String if name.ends_with("Region") => json!("eu-west-1"),
            Kind::String if name.ends_with("Arn") => json!("arn:aws:iam::111111111111:role/none"),
            Kind::String if name == "AliasName" => json!("alias/b"),
            Kind::String => json!("abcdefghijklmnopqrst"),
            Kind::Enum(texts) => json!(texts[0]),
            Kind::Blob => json!("abcd"),
            Kind::Timestamp => json!("2030-01-01T00:00:00Z"),
            Kind::List(item) => json!([filler(name, item)]),
            Kind::Map(_) => json!({}),
            Kind::Struct(schema) => request(schema, &[]),
        }
    }

    /// Every operation of a service with these values in turn for these members.
    async fn sweep(bench: &Bench, service: Service, members: &[&str], values: &[String]) {
        let mut found = BTreeSet::new();
        let callers = [bench.root(&account(1), "us-east-1"), bench.root(&account(2), "us-east-1")];
        for operation in crate::registry::of_aws().filter(|op| op.spec().service == service) {
            let schema = operation.info().input;
            for (value, call) in values.iter().flat_map(|v| callers.iter().map(move |c| (v, c))) {
                let given: Vec<_> = members.iter().map(|member| (*member, json!(value))).collect();
                let input = request(schema, &given);
                // Whether it succeeds is other tests' business.
                let outcome = operation.run(call, from_json(schema, &input)).await;
                found.extend(outcome.err().and_then(|e| super::complaint(operation.spec(), &e)));
            }
        }
        assert!(found.is_empty(), "{found:#?}");
    }

    #[tokio::test]
    async fn operations_on_keys() {
        let bench = bench().await;
        let keys = keys(&bench).await;
        let members = ["KeyId", "TargetKeyId", "SourceKeyId", "DestinationKeyId"];
        sweep(&bench, Service::Kms, &members, &keys).await;
    }

    #[tokio::test]
    async fn operations_on_principals() {
        let bench = bench().await;
        let root = bench.root(&account(1), "us-east-1");
        for (name, input) in [
            ("CreateUser", json!({"UserName": "one"})),
            ("CreateGroup", json!({"GroupName": "one"})),
            ("AddUserToGroup", json!({"UserName": "one", "GroupName": "one"})),
            ("CreateServiceLinkedRole", json!({"AWSServiceName": "autoscaling.amazonaws.com"})),
        ] {
            run_named(&root, Service::Iam, name, input).await.expect(name);
        }
        let names = ["one", "none", "a b", "AWSServiceRoleForAutoScaling"].map(str::to_owned);
        let members = ["UserName", "GroupName", "RoleName", "InstanceProfileName", "PolicyName"];
        sweep(&bench, Service::Iam, &members, &names).await;
        let arns = [
            "arn:aws:iam::aws:policy/AdministratorAccess",
            "arn:aws:iam::111111111111:policy/none",
            "arn:aws:iam::222222222222:policy/none",
            "arn:aws:kms:us-east-1:111111111111:key/none",
            "arn:aws:iam::111111111111:role/aws-service-role/autoscaling.amazonaws.com/AWSServiceRoleForAutoScaling",
            "no arn and twenty letters",
        ]
        .map(str::to_owned);
        let members = [
            "PolicyArn",
            "PolicySourceArn",
            "OpenIDConnectProviderArn",
            "SAMLProviderArn",
            "PrincipalArn",
            "PermissionsBoundary",
            "RoleArn",
        ];
        sweep(&bench, Service::Iam, &members, &arns).await;
        sweep(&bench, Service::Sts, &members, &arns).await;
    }
}
