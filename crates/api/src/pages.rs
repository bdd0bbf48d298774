//! Every list of IAM and KMS that comes in pages, page by page through the pipeline.

use crate::testing::idp::Idp;
use crate::testing::{Bench, CLUSTERS, account, bench, run_named};
use crate::{Call, Service};
use serde_json::{Map, Value as Json, json};

async fn saml_provider(root: &Call, tags: &Json) {
    let saml = json!({"Name": "one", "Tags": tags, "SAMLMetadataDocument": Idp::new().metadata()});
    run_named(root, Service::Iam, "CreateSAMLProvider", saml).await.expect("a provider");
}

/// Makes two of everything that lists list.
async fn filled(bench: &Bench) -> (Call, Json) {
    let root = bench.root(&account(1), "us-east-1");
    let does = |service, name: &'static str, input| {
        let root = &root;
        async move {
            let reply = run_named(root, service, name, input).await;
            reply.unwrap_or_else(|error| panic!("{name}: {error}"))
        }
    };
    let iam = |name, input| does(Service::Iam, name, input);
    let kms = |name, input| does(Service::Kms, name, input);
    let policy = json!({"Version": "2012-10-17",
        "Statement": {"Effect": "Allow", "Action": "ec2:*", "Resource": "*"}})
    .to_string();
    let trust = json!({"Version": "2012-10-17", "Statement": {"Effect": "Allow",
        "Principal": {"AWS": "111111111111"}, "Action": "sts:AssumeRole"}})
    .to_string();
    let tags = json!([{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}]);
    for n in ["one", "two"] {
        iam("CreateUser", json!({"UserName": n, "Tags": tags})).await;
        iam("CreateGroup", json!({"GroupName": n})).await;
        let role = json!({"RoleName": n, "AssumeRolePolicyDocument": trust, "Tags": tags});
        iam("CreateRole", role).await;
        iam("CreateInstanceProfile", json!({"InstanceProfileName": n})).await;
        let profile = json!({"InstanceProfileName": n, "RoleName": "one"});
        iam("AddRoleToInstanceProfile", profile).await;
        iam("AddUserToGroup", json!({"GroupName": n, "UserName": "one"})).await;
        let made = json!({"PolicyName": n, "PolicyDocument": policy, "Tags": tags});
        let arn = iam("CreatePolicy", made).await["Policy"]["Arn"].clone();
        iam("AttachUserPolicy", json!({"UserName": "one", "PolicyArn": arn})).await;
        iam("AttachGroupPolicy", json!({"GroupName": "one", "PolicyArn": arn})).await;
        iam("AttachRolePolicy", json!({"RoleName": "one", "PolicyArn": arn})).await;
        for (name, member) in [
            ("PutUserPolicy", "UserName"),
            ("PutGroupPolicy", "GroupName"),
            ("PutRolePolicy", "RoleName"),
        ] {
            iam(name, json!({member: "one", "PolicyName": n, "PolicyDocument": policy})).await;
        }
        iam("CreateAccessKey", json!({"UserName": "one"})).await;
    }
    iam("AddUserToGroup", json!({"GroupName": "one", "UserName": "two"})).await;
    let arn = "arn:aws:iam::111111111111:policy/one";
    iam("CreatePolicyVersion", json!({"PolicyArn": arn, "PolicyDocument": policy})).await;
    iam("CreateAccountAlias", json!({"AccountAlias": "one"})).await;
    let provider = json!({"Url": "https://issuer.example", "ClientIDList": ["a"], "Tags": tags,
        "ThumbprintList": ["a".repeat(40)]});
    let provider = iam("CreateOpenIDConnectProvider", provider).await;
    saml_provider(&root, &tags).await;

    let tags = json!([{"TagKey": "a", "TagValue": "1"}, {"TagKey": "b", "TagValue": "2"}]);
    kms("CreateKey", json!({})).await;
    let key = kms("CreateKey", json!({"Tags": tags})).await["KeyMetadata"]["KeyId"].clone();
    let user = "arn:aws:iam::111111111111:user/one";
    for n in ["one", "two"] {
        kms("CreateAlias", json!({"AliasName": format!("alias/{n}"), "TargetKeyId": key})).await;
        let grant = json!({"KeyId": key, "GranteePrincipal": user, "RetiringPrincipal": user,
            "Operations": ["Decrypt"], "Name": n});
        kms("CreateGrant", grant).await;
        kms("RotateKeyOnDemand", json!({"KeyId": key})).await;
    }
    for (name, cluster) in ["one", "two"].iter().zip(CLUSTERS) {
        let store = json!({"CustomKeyStoreName": name, "CloudHsmClusterId": cluster,
            "TrustAnchorCertificate":
                "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
            "KeyStorePassword": "password"});
        kms("CreateCustomKeyStore", store).await;
    }
    (root, json!({"key": key, "provider": provider["OpenIDConnectProviderArn"]}))
}

/// What each list is asked with, and how many entries it has at least.
fn asked(name: &str, ids: &Json) -> Option<(Json, usize)> {
    let policy = "arn:aws:iam::111111111111:policy/one";
    let user = "arn:aws:iam::111111111111:user/one";
    let simulated = json!(["ec2:StopInstances", "ec2:StartInstances"]);
    let input = match name {
        "DescribeCustomKeyStores"
        | "ListAliases"
        | "ListKeys"
        | "ListGroups"
        | "ListUsers"
        | "ListRoles"
        | "ListInstanceProfiles"
        | "GetAccountAuthorizationDetails" => json!({}),
        "ListGrants" | "ListKeyRotations" | "ListResourceTags" => json!({"KeyId": ids["key"]}),
        "ListKeyPolicies" => return Some((json!({"KeyId": ids["key"]}), 1)),
        "ListAccountAliases" => return Some((json!({}), 1)),
        "ListRetirableGrants" => json!({"RetiringPrincipal": user}),
        "GetGroup" | "ListAttachedGroupPolicies" | "ListGroupPolicies" => {
            json!({"GroupName": "one"})
        }
        "ListAccessKeys"
        | "ListAttachedUserPolicies"
        | "ListGroupsForUser"
        | "ListUserPolicies"
        | "ListUserTags" => json!({"UserName": "one"}),
        "ListAttachedRolePolicies"
        | "ListInstanceProfilesForRole"
        | "ListRolePolicies"
        | "ListRoleTags" => json!({"RoleName": "one"}),
        "ListEntitiesForPolicy" | "ListPolicyTags" | "ListPolicyVersions" => {
            json!({"PolicyArn": policy})
        }
        "ListOpenIDConnectProviderTags" => json!({"OpenIDConnectProviderArn": ids["provider"]}),
        "ListSAMLProviderTags" => {
            json!({"SAMLProviderArn": "arn:aws:iam::111111111111:saml-provider/one"})
        }
        "ListPolicies" => json!({"Scope": "Local"}),
        "SimulateCustomPolicy" => {
            let text = json!({"Version": "2012-10-17",
                "Statement": {"Effect": "Allow", "Action": "ec2:*", "Resource": "*"}});
            json!({"PolicyInputList": [text.to_string()], "ActionNames": simulated})
        }
        "SimulatePrincipalPolicy" => json!({"PolicySourceArn": user, "ActionNames": simulated}),
        _ => return None,
    };
    Some((input, 2))
}

/// The entries of a reply, each with the list it is in.
fn entries(reply: &Json) -> Vec<(String, Json)> {
    let lists = reply.as_object().into_iter().flat_map(Map::iter);
    lists
        .flat_map(|(name, list)| {
            list.as_array().into_iter().flatten().map(|entry| (name.clone(), entry.clone()))
        })
        .collect()
}

/// How a service calls what pages are made of.
struct Words {
    limit: &'static str,
    truncated: &'static str,
    next: &'static str,
    bad_limit: &'static str,
    bad_marker: &'static str,
}

const KMS: Words = Words {
    limit: "Limit",
    truncated: "Truncated",
    next: "NextMarker",
    bad_limit: "ValidationException",
    bad_marker: "InvalidMarkerException",
};

const IAM: Words = Words {
    limit: "MaxItems",
    truncated: "IsTruncated",
    next: "Marker",
    bad_limit: "ValidationError",
    bad_marker: "ValidationError",
};

#[tokio::test]
async fn every_list_is_the_same_in_pages_and_as_a_whole() {
    let bench = bench().await;
    let (call, ids) = filled(&bench).await;
    let mut lists = 0;
    for operation in crate::registry::of_aws() {
        let (service, name) = (operation.spec().service, operation.info().name);
        let words = match service {
            Service::Kms => &KMS,
            Service::Iam => &IAM,
            _ => continue,
        };
        if operation.info().input.member("Marker").is_none() {
            continue;
        }
        lists += 1;
        let (input, least) =
            asked(name, &ids).unwrap_or_else(|| panic!("{name} has pages and no row here"));
        let with = |member: &str, value: Json| {
            let mut input = input.clone();
            input[member] = value;
            input
        };
        let run = |input| run_named(&call, service, name, input);
        let whole = run(input.clone()).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(whole[words.truncated], false, "{name}: {whole}");
        assert!(whole.get(words.next).is_none(), "{name}: {whole}");
        let expected = entries(&whole);
        assert!(expected.len() >= least, "{name}: {whole}");

        let (mut found, mut page) = (Vec::new(), with(words.limit, json!(1)));
        loop {
            let reply = run(page.clone()).await.unwrap_or_else(|error| panic!("{name}: {error}"));
            let one = entries(&reply);
            assert_eq!(one.len(), 1, "{name}: a page of one: {reply}");
            found.extend(one);
            let next = reply.get(words.next).cloned();
            assert_eq!(reply[words.truncated], next.is_some(), "{name}: {reply}");
            assert!(found.len() <= expected.len(), "{name}: more in pages than in the whole");
            let Some(next) = next else { break };
            page["Marker"] = next;
        }
        for entry in &expected {
            assert!(found.contains(entry), "{name}: {entry:?} is on no page: {found:?}");
        }
        assert_eq!(found.len(), expected.len(), "{name}");

        let most = run(with(words.limit, json!(1000))).await;
        assert_eq!(most.map(|reply| entries(&reply).len()).ok(), Some(expected.len()), "{name}");
        for limit in [-1, 0, 1001] {
            let refused = run(with(words.limit, json!(limit))).await.expect_err("no such limit");
            assert_eq!(refused.code(), words.bad_limit, "{name} {limit}: {refused}");
        }
        let bad_marker =
            if name == "ListKeyPolicies" { "ValidationException" } else { words.bad_marker };
        for marker in ["?", "bm90aGluZw=="] {
            let refused = run(with("Marker", json!(marker))).await.expect_err("no such marker");
            assert_eq!(refused.code(), bad_marker, "{name} {marker}: {refused}");
        }
    }
    assert_eq!(lists, 34);
}
