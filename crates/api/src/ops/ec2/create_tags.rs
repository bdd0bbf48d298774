//! `ec2:CreateTags`: sets tags on volumes, snapshots and instances.

use crate::storage::condition;
use crate::storage::shape::Tag as TagShape;
use crate::storage::taggable::Taggable;
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use ebs::tag::{self, Tag, check_tags};

pub(crate) struct CreateTags;

#[derive(Shape)]
#[shape(input, dry_run)]
pub(crate) struct Input {
    #[shape(query = "ResourceId", required)]
    resources: Vec<String>,
    #[shape(query = "Tag", required)]
    tags: Vec<TagShape>,
}

pub(crate) struct Plan {
    resources: Vec<Taggable>,
    tags: Vec<Tag>,
}

impl Operation for CreateTags {
    const SPEC: Spec = Spec::mutates(Service::Ec2, "CreateTags");
    type Input = Input;
    type Plan = Plan;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let Input { resources, tags } = input;
        let tags: Vec<Tag> = tags.into_iter().map(|tag| (tag.key, tag.value)).collect();
        check_tags(&tags)?;
        Ok(Plan { resources: Taggable::find_all(call, &resources).await?, tags })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        let ask = |resource: &Taggable| {
            let mut ask = resource.ask("ec2:CreateTags");
            condition::set_request_tags(&mut ask.context, &plan.tags);
            ask
        };
        plan.resources.iter().map(ask).collect()
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<(), Error> {
        let (account, region) = (call.account().clone(), call.region.clone());
        call.world
            .db
            .write(move |tx| {
                for resource in &plan.resources {
                    tag::set(tx, &account, &region, resource.id(), &plan.tags)??;
                }
                Ok::<_, Error>(())
            })
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::ec2::delete_tags::DeleteTags;
    use crate::ops::ec2::describe_tags::DescribeTags;
    use crate::testing::{Bench, START, account, bench, region, run};
    use base::InstanceId;
    use ebs::instance::{self, Instance};
    use serde_json::{Value, json};

    const MACHINE: &str = "i-00000000000000001";

    async fn with_machine() -> Bench {
        let bench = bench().await;
        let machine = Instance {
            id: InstanceId::parse(MACHINE).unwrap(),
            account: account(1),
            region: region("us-east-1"),
            zone: "us-east-1a".to_owned(),
            name: None,
            created: START,
        };
        bench.world.db.write(move |tx| instance::insert(tx, &machine)).await.unwrap();
        bench
    }

    fn tags(pairs: &[(&str, &str)]) -> Value {
        let tags: Vec<_> =
            pairs.iter().map(|(key, value)| json!({ "Key": key, "Value": value })).collect();
        json!({ "Resources": [MACHINE], "Tags": tags })
    }

    async fn listed(call: &Call, input: Value) -> Vec<(String, String)> {
        let reply = run::<DescribeTags>(call, input).await.unwrap();
        let text = |tag: &Value, name: &str| tag[name].as_str().unwrap().to_owned();
        let tags = reply["Tags"].as_array().unwrap().iter();
        tags.inspect(|tag| assert_eq!(tag["ResourceType"], "instance"))
            .map(|tag| (text(tag, "Key"), text(tag, "Value")))
            .collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[tokio::test]
    async fn tags_are_set_listed_and_deleted() {
        let bench = with_machine().await;
        let call = bench.root(&account(1), "us-east-1");
        run::<CreateTags>(&call, tags(&[("a", "1"), ("b", "2"), ("c", "")])).await.unwrap();
        run::<CreateTags>(&call, tags(&[("a", "3")])).await.unwrap();
        let all = pairs(&[("a", "3"), ("b", "2"), ("c", "")]);
        assert_eq!(listed(&call, json!({})).await, all);
        for (name, value, expected) in [
            ("key", "b", pairs(&[("b", "2")])),
            ("value", "3", pairs(&[("a", "3")])),
            ("tag:a", "3", pairs(&[("a", "3")])),
            ("tag:a", "1", pairs(&[])),
            ("resource-id", MACHINE, all.clone()),
            ("resource-type", "volume", pairs(&[])),
        ] {
            let input = json!({ "Filters": [{ "Name": name, "Values": [value] }] });
            assert_eq!(listed(&call, input).await, expected, "{name}={value}");
        }

        // A value restricts the deletion to a tag that has it.
        run::<DeleteTags>(&call, tags(&[("a", "1"), ("b", "2")])).await.unwrap();
        assert_eq!(listed(&call, json!({})).await, pairs(&[("a", "3"), ("c", "")]));
        let input = json!({ "Resources": [MACHINE], "Tags": [{ "Key": "a" }] });
        run::<DeleteTags>(&call, input).await.unwrap();
        assert_eq!(listed(&call, json!({})).await, pairs(&[("c", "")]));
        run::<DeleteTags>(&call, json!({ "Resources": [MACHINE] })).await.unwrap();
        assert_eq!(listed(&call, json!({})).await, pairs(&[]));
    }

    #[tokio::test]
    async fn pages_add_up() {
        let bench = with_machine().await;
        let call = bench.root(&account(1), "us-east-1");
        let keys: Vec<String> = (0..12).map(|n| format!("k{n:02}")).collect();
        let many: Vec<_> = keys.iter().map(|key| (key.as_str(), "")).collect();
        run::<CreateTags>(&call, tags(&many)).await.unwrap();
        let (mut seen, mut token) = (Vec::new(), Value::Null);
        loop {
            let mut input = json!({ "MaxResults": 5 });
            if token.is_string() {
                input["NextToken"] = token;
            }
            let reply = run::<DescribeTags>(&call, input).await.unwrap();
            let page = reply["Tags"].as_array().unwrap();
            assert!(page.len() <= 5);
            seen.extend(page.iter().map(|tag| tag["Key"].as_str().unwrap().to_owned()));
            token = reply["NextToken"].clone();
            if token.is_null() {
                break;
            }
        }
        assert_eq!(seen, keys);
        let error = run::<DescribeTags>(&call, json!({ "MaxResults": 4 })).await.unwrap_err();
        assert_eq!(error.code(), "InvalidParameterValue");
    }

    #[tokio::test]
    async fn bad_tags_and_strange_resources_are_refused() {
        let bench = with_machine().await;
        let call = bench.root(&account(1), "us-east-1");
        let many: Vec<String> = (0..51).map(|n| format!("k{n}")).collect();
        let many: Vec<_> = many.iter().map(|key| (key.as_str(), "")).collect();
        let resource = |id: &str| json!({ "Resources": [id], "Tags": [{ "Key": "a" }] });
        for (input, expected) in [
            (tags(&[("aws:x", "")]), "InvalidParameterValue"),
            (tags(&[("", "")]), "InvalidParameterValue"),
            (tags(&[("a", "1"), ("a", "2")]), "InvalidParameterValue"),
            (tags(&many), "TagLimitExceeded"),
            (json!({ "Resources": [MACHINE] }), "MissingParameter"),
            (resource("ami-00000000000000001"), "InvalidID"),
            (resource("vol-x"), "InvalidID"),
            (resource("vol-00000000000000001"), "InvalidVolume.NotFound"),
            (resource("snap-00000000000000001"), "InvalidSnapshot.NotFound"),
            (resource("i-00000000000000002"), "InvalidInstanceID.NotFound"),
        ] {
            let error = run::<CreateTags>(&call, input.clone()).await.unwrap_err();
            assert_eq!(error.code(), expected, "{input}");
        }
        let other = bench.root(&account(2), "us-east-1");
        let error = run::<CreateTags>(&other, tags(&[("a", "")])).await.unwrap_err();
        assert_eq!(error.code(), "InvalidInstanceID.NotFound");
        assert_eq!(listed(&call, json!({})).await, pairs(&[]));
    }

    /// A call of account 1 that may do only what the statement says.
    fn limited(bench: &Bench, action: &str, condition: &Value) -> Call {
        let mut call = bench.root(&account(1), "us-east-1");
        let policy = json!({ "Version": "2012-10-17", "Statement": {
            "Effect": "Allow", "Action": action, "Resource": "*", "Condition": condition,
        } });
        call.caller.session_policies = vec![policy.to_string()];
        call
    }

    #[tokio::test]
    async fn policies_see_the_tags_of_request_and_resource() {
        let bench = with_machine().await;
        let check = async |condition: Value, input: Value| {
            let mut input = input;
            input["DryRun"] = json!(true);
            let call = limited(&bench, "ec2:CreateTags", &condition);
            let error = run::<CreateTags>(&call, input).await.unwrap_err();
            match error.code() {
                "DryRunOperation" => true,
                "UnauthorizedOperation" => false,
                other => panic!("{other}"),
            }
        };
        let owner = json!({ "StringEquals": { "aws:RequestTag/Owner": "ann" } });
        assert!(check(owner.clone(), tags(&[("Owner", "ann")])).await);
        assert!(!check(owner, tags(&[("Owner", "bob")])).await);
        let keys = json!({ "ForAllValues:StringEquals": { "aws:TagKeys": ["Owner"] } });
        assert!(check(keys.clone(), tags(&[("Owner", "ann")])).await);
        assert!(!check(keys, tags(&[("Owner", "ann"), ("Name", "x")])).await);
        let team = json!({ "StringEquals": { "aws:ResourceTag/Team": "db" } });
        assert!(!check(team.clone(), tags(&[("Owner", "ann")])).await);
        let root = bench.root(&account(1), "us-east-1");
        run::<CreateTags>(&root, tags(&[("Team", "db")])).await.unwrap();
        assert!(check(team, tags(&[("Owner", "ann")])).await);
        // Tags given at creation are another permission.
        let create = json!({ "StringEquals": { "ec2:CreateAction": "CreateVolume" } });
        assert!(!check(create, tags(&[("Owner", "ann")])).await);
    }

    #[tokio::test]
    async fn deleting_shows_policies_the_keys() {
        let bench = with_machine().await;
        let root = bench.root(&account(1), "us-east-1");
        run::<CreateTags>(&root, tags(&[("a", "1"), ("b", "1")])).await.unwrap();
        let keys = json!({ "ForAllValues:StringEquals": { "aws:TagKeys": ["a"] } });
        let call = limited(&bench, "ec2:DeleteTags", &keys);
        let error = run::<DeleteTags>(&call, tags(&[("b", "1")])).await.unwrap_err();
        assert_eq!(error.code(), "UnauthorizedOperation");
        run::<DeleteTags>(&call, tags(&[("a", "1")])).await.unwrap();
        assert_eq!(listed(&root, json!({})).await, pairs(&[("b", "1")]));
    }
}
