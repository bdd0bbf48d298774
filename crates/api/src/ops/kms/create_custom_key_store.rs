//! `kms:CreateCustomKeyStore`: makes a key store of a token that the operator offers.

use super::shared;
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use base::Secret;
use kms::key_store::NewKeyStore;
use std::sync::Arc;

pub(crate) struct CreateCustomKeyStore;

#[derive(Shape)]
#[shape(
    input,
    unsupported(
        XksProxyUriEndpoint,
        XksProxyUriPath,
        XksProxyVpcEndpointServiceName,
        XksProxyVpcEndpointServiceOwner,
        XksProxyAuthenticationCredential,
        XksProxyConnectivity
    )
)]
pub(crate) struct Input {
    custom_key_store_name: String,
    cloud_hsm_cluster_id: Option<String>,
    trust_anchor_certificate: Option<String>,
    #[shape(sensitive)]
    key_store_password: Option<String>,
    custom_key_store_type: Option<String>,
}

pub(crate) struct Plan {
    name: String,
    cluster: String,
    trust_anchor: String,
    password: Arc<Secret<String>>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    custom_key_store_id: String,
}

impl Operation for CreateCustomKeyStore {
    const SPEC: Spec = Spec::mutates(Service::Kms, "CreateCustomKeyStore");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(_call: &Call, input: Input) -> Result<Plan, Error> {
        if let Some(kind) = input.custom_key_store_type.as_deref()
            && kind != "AWS_CLOUDHSM"
        {
            return Err(kms::Error::Validation {
                message: format!(
                    "CustomKeyStoreType {kind}: external key stores are not supported by this \
                     server; AWS_CLOUDHSM is."
                ),
            }
            .into());
        }
        let needed = |name: &str, value: Option<String>| {
            value.ok_or_else(|| {
                Error::from(kms::Error::Validation {
                    message: format!("{name} is required for a key store of type AWS_CLOUDHSM."),
                })
            })
        };
        Ok(Plan {
            name: input.custom_key_store_name,
            cluster: needed("CloudHsmClusterId", input.cloud_hsm_cluster_id)?,
            trust_anchor: needed("TrustAnchorCertificate", input.trust_anchor_certificate)?,
            password: Arc::new(Secret::new(needed("KeyStorePassword", input.key_store_password)?)),
        })
    }

    fn asks(_plan: &Plan) -> Vec<Ask> {
        vec![Ask::any("kms:CreateCustomKeyStore")]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let plan = plan.into_inner();
        let store = shared::write(call, move |kms, tx, from| {
            kms.create_key_store(
                tx,
                &NewKeyStore {
                    account: &from.caller.account,
                    region: &from.region,
                    name: &plan.name,
                    cluster: &plan.cluster,
                    trust_anchor: &plan.trust_anchor,
                    password: &plan.password,
                },
            )
        })
        .await?;
        Ok(Output { custom_key_store_id: store.id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::kms::connect_custom_key_store::ConnectCustomKeyStore;
    use crate::ops::kms::create_key::CreateKey;
    use crate::ops::kms::delete_custom_key_store::DeleteCustomKeyStore;
    use crate::ops::kms::describe_custom_key_stores::DescribeCustomKeyStores;
    use crate::ops::kms::disconnect_custom_key_store::DisconnectCustomKeyStore;
    use crate::ops::kms::update_custom_key_store::UpdateCustomKeyStore;
    use crate::testing::{CLUSTERS, account, bench, run};
    use kms::key_store::{self, ConnectionState};
    use serde_json::{Value, json};

    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";

    fn input(name: &str, cluster: &str) -> Value {
        json!({
            "CustomKeyStoreName": name, "CloudHsmClusterId": cluster,
            "TrustAnchorCertificate": CERTIFICATE, "KeyStorePassword": "password",
        })
    }

    fn with(mut input: Value, member: &str, value: Value) -> Value {
        input[member] = value;
        input
    }

    #[tokio::test]
    async fn a_store_is_disconnected_at_first_and_described_by_id_and_name() {
        let bench = bench().await;
        let call = bench.root(&account(1), "us-east-1");
        let made = run::<CreateCustomKeyStore>(&call, input("one", CLUSTERS[0])).await;
        let id = made.expect("allowed")["CustomKeyStoreId"].clone();
        assert!(id.as_str().expect("an id").starts_with("cks-"));
        for filter in
            [json!({}), json!({"CustomKeyStoreId": id}), json!({"CustomKeyStoreName": "one"})]
        {
            let found = run::<DescribeCustomKeyStores>(&call, filter).await.expect("allowed");
            let store = &found["CustomKeyStores"][0];
            assert_eq!(store["CustomKeyStoreId"], id);
            assert_eq!(store["ConnectionState"], "DISCONNECTED");
            assert_eq!(store["CloudHsmClusterId"], CLUSTERS[0]);
            assert_eq!(store["TrustAnchorCertificate"], CERTIFICATE);
            assert_eq!(store["CustomKeyStoreType"], "AWS_CLOUDHSM");
            assert!(!found.to_string().contains("password"), "{found}");
        }
        let elsewhere = bench.root(&account(1), "eu-west-1");
        let found = run::<DescribeCustomKeyStores>(&elsewhere, json!({})).await.expect("allowed");
        assert_eq!(found["CustomKeyStores"], json!([]));
    }

    #[tokio::test]
    async fn what_cannot_be_made_is_refused_by_name() {
        let bench = bench().await;
        let call = bench.root(&account(1), "us-east-1");
        let good = || input("one", CLUSTERS[0]);
        run::<CreateCustomKeyStore>(&call, good()).await.expect("allowed");
        let other = || input("two", CLUSTERS[1]);
        for (input, code) in [
            (input("two", CLUSTERS[0]), "CloudHsmClusterInUseException"),
            (input("one", CLUSTERS[1]), "CustomKeyStoreNameInUseException"),
            (input("two", "cluster-notconfigured"), "CloudHsmClusterNotFoundException"),
            (with(other(), "TrustAnchorCertificate", json!("x")), "IncorrectTrustAnchorException"),
            (with(other(), "KeyStorePassword", json!("short")), "ValidationException"),
            (
                with(other(), "CustomKeyStoreType", json!("EXTERNAL_KEY_STORE")),
                "ValidationException",
            ),
            (json!({"CustomKeyStoreName": "two"}), "ValidationException"),
        ] {
            let error =
                run::<CreateCustomKeyStore>(&call, input.clone()).await.expect_err("refused");
            assert_eq!(error.code(), code, "{input}");
        }
    }

    #[tokio::test]
    async fn the_states_of_a_store_are_kept_to() {
        let bench = bench().await;
        let call = bench.root(&account(1), "us-east-1");
        let made = run::<CreateCustomKeyStore>(&call, input("one", CLUSTERS[0])).await;
        let id = made.expect("allowed")["CustomKeyStoreId"].clone();
        let by_id = || json!({"CustomKeyStoreId": id});
        let wrong = "CustomKeyStoreInvalidStateException";
        let error = run::<DisconnectCustomKeyStore>(&call, by_id()).await.expect_err("refused");
        assert_eq!(error.code(), wrong);
        let key = json!({"Origin": "AWS_CLOUDHSM", "CustomKeyStoreId": id});
        let error = run::<CreateKey>(&call, key).await.expect_err("refused");
        assert_eq!(error.code(), wrong);
        let renamed = with(by_id(), "NewCustomKeyStoreName", json!("other"));
        run::<UpdateCustomKeyStore>(&call, renamed).await.expect("allowed");

        // There is no such module in this test; the store says so.
        run::<ConnectCustomKeyStore>(&call, by_id()).await.expect("begun");
        let state = async || {
            let found = run::<DescribeCustomKeyStores>(&call, by_id()).await.expect("allowed");
            found["CustomKeyStores"][0].clone()
        };
        let failed = loop {
            let store = state().await;
            match store["ConnectionState"].as_str() {
                Some("CONNECTING") => tokio::task::yield_now().await,
                _ => break store,
            }
        };
        assert_eq!(failed["ConnectionState"], "FAILED");
        assert_eq!(failed["ConnectionErrorCode"], "INTERNAL_ERROR");
        assert_eq!(failed["CustomKeyStoreName"], "other");
        let error = run::<DeleteCustomKeyStore>(&call, by_id()).await.expect_err("refused");
        assert_eq!(error.code(), wrong);
        let error = run::<ConnectCustomKeyStore>(&call, by_id()).await.expect_err("refused");
        assert_eq!(error.code(), wrong);
        run::<DisconnectCustomKeyStore>(&call, by_id()).await.expect("allowed");
        run::<DeleteCustomKeyStore>(&call, by_id()).await.expect("allowed");
        let error = run::<DescribeCustomKeyStores>(&call, by_id()).await.expect_err("gone");
        assert_eq!(error.code(), "CustomKeyStoreNotFoundException");
    }

    /// Connecting what is connected, or about to be, is no error and asks no token. The token of this test is not
    /// there: had it been asked, the store would have failed.
    #[tokio::test]
    async fn a_connected_store_stays_so_when_it_is_connected_again_or_renamed() {
        let bench = bench().await;
        let call = bench.root(&account(1), "us-east-1");
        let made = run::<CreateCustomKeyStore>(&call, input("one", CLUSTERS[0])).await;
        let id = made.expect("allowed")["CustomKeyStoreId"].clone();
        let by_id = || json!({"CustomKeyStoreId": id});
        for (state, word) in
            [(ConnectionState::Connecting, "CONNECTING"), (ConnectionState::Connected, "CONNECTED")]
        {
            let name = id.as_str().expect("an id").to_owned();
            let region = call.region.clone();
            let set = call.world.db.write(move |tx| -> kms::Result<()> {
                let store = key_store::get(tx, &account(1), &region, &name)?;
                key_store::set_state(tx, &store, state)
            });
            set.await.expect("set");
            let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
            run::<ConnectCustomKeyStore>(&call, by_id()).await.expect("no error");
            let after = tokio::runtime::Handle::current().metrics().num_alive_tasks();
            assert_eq!(after, tasks, "nobody is sent to the token of a store that is {word}");
            let found = run::<DescribeCustomKeyStores>(&call, by_id()).await.expect("allowed");
            assert_eq!(found["CustomKeyStores"][0]["ConnectionState"], word);
        }
        // Now it is connected: it may get another name, and nothing else.
        let renamed = with(by_id(), "NewCustomKeyStoreName", json!("other"));
        run::<UpdateCustomKeyStore>(&call, renamed.clone()).await.expect("allowed");
        let found = run::<DescribeCustomKeyStores>(&call, by_id()).await.expect("allowed");
        assert_eq!(found["CustomKeyStores"][0]["CustomKeyStoreName"], "other");
        for refused in [
            with(renamed.clone(), "KeyStorePassword", json!("password2")),
            with(renamed, "CloudHsmClusterId", json!(CLUSTERS[1])),
            by_id(),
        ] {
            let error = run::<UpdateCustomKeyStore>(&call, refused).await.expect_err("refused");
            assert_eq!(error.code(), "CustomKeyStoreInvalidStateException");
        }
    }

    #[tokio::test]
    async fn stores_are_their_accounts() {
        let bench = bench().await;
        let (one, two) =
            (bench.root(&account(1), "us-east-1"), bench.root(&account(2), "us-east-1"));
        let made = run::<CreateCustomKeyStore>(&one, input("one", CLUSTERS[0])).await;
        let id = made.expect("allowed")["CustomKeyStoreId"].clone();
        let input = json!({"CustomKeyStoreId": id});
        let error = run::<ConnectCustomKeyStore>(&two, input.clone()).await.expect_err("not there");
        assert_eq!(error.code(), "CustomKeyStoreNotFoundException");
        let error = run::<DeleteCustomKeyStore>(&two, input).await.expect_err("not there");
        assert_eq!(error.code(), "CustomKeyStoreNotFoundException");
    }
}
