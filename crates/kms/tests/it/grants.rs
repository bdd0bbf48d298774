//! Grants as records: idempotency, tokens, lists, principals.

use crate::world::{World, account, principal, region, world};
use kms::grant::{self, Constraints, Grant, GrantOperation, NewGrant, Trust};
use kms::{Error, Key};

fn bob(world: &World) -> String {
    let arn = "arn:aws:iam::222222222222:user/bob";
    world.people.add(arn, "AIDA000000000BOB");
    arn.to_owned()
}

fn create(
    world: &World,
    key: &Key,
    grantee: &str,
    name: &str,
    operation: GrantOperation,
) -> Result<(Grant, String), Error> {
    let (key, grantee, name) = (key.clone(), grantee.to_owned(), name.to_owned());
    world.write(move |kms, tx| {
        let new = NewGrant {
            grantee: kms.grant_party(tx, &grantee, Trust::Caller)?,
            retiring: None,
            operations: vec![operation],
            constraints: Constraints::default(),
            name: name.clone(),
            issuing_account: key.account.clone(),
        };
        kms.create_grant(tx, &key, &new)
    })
}

#[test]
fn a_named_request_repeats_harmlessly() {
    let world = world();
    let (key, bob) = (world.key("1", None), bob(&world));
    let (first, token) = create(&world, &key, &bob, "n", GrantOperation::Decrypt).unwrap();
    let (again, other_token) = create(&world, &key, &bob, "n", GrantOperation::Decrypt).unwrap();
    assert_eq!(first, again);
    assert_ne!(token, other_token);
    assert_eq!(first.id.len(), 64);
    let (changed, _) = create(&world, &key, &bob, "n", GrantOperation::Encrypt).unwrap();
    assert_ne!(first.id, changed.id);
    let (one, _) = create(&world, &key, &bob, "", GrantOperation::Decrypt).unwrap();
    let (two, _) = create(&world, &key, &bob, "", GrantOperation::Decrypt).unwrap();
    assert_ne!(one.id, two.id);
}

#[test]
fn tokens_are_checked() {
    let world = world();
    let (key, bob) = (world.key("1", None), bob(&world));
    let (grant, token) = create(&world, &key, &bob, "", GrantOperation::Decrypt).unwrap();
    assert_eq!(world.kms.grant_of_token(&token).unwrap(), grant.id);
    assert!(world.kms.check_grant_tokens(std::slice::from_ref(&token)).is_ok());
    let mut forged = token.clone().into_bytes();
    forged[10] = if forged[10] == b'A' { b'B' } else { b'A' };
    let forged = String::from_utf8(forged).unwrap();
    for bad in [forged.as_str(), "", "garbage", &token[1..]] {
        let checked = world.kms.check_grant_tokens(&[bad.to_owned()]);
        assert!(matches!(checked, Err(Error::InvalidGrantToken)), "{bad}");
    }
    let eleven = vec![token; 11];
    assert!(matches!(world.kms.check_grant_tokens(&eleven), Err(Error::Validation { .. })));
}

#[test]
fn lists_filter_page_and_forget() {
    let world = world();
    let (key, bob) = (world.key("1", None), bob(&world));
    let root = "arn:aws:iam::333333333333:root";
    for grantee in [bob.as_str(), root, &bob] {
        create(&world, &key, grantee, "", GrantOperation::Decrypt).unwrap();
    }
    let list = |grantee: Option<&str>, limit| {
        let (key, grantee) = (key.clone(), grantee.map(str::to_owned));
        world
            .write(move |kms, tx| {
                let party = grantee
                    .as_ref()
                    .map(|text| kms.grant_party(tx, text, Trust::Caller))
                    .transpose()?;
                grant::list(tx, &key, party.as_ref(), "", limit)
            })
            .unwrap()
    };
    let all = list(None, 10);
    assert_eq!(all.len(), 3);
    assert!(all.is_sorted_by(|a, b| a.id < b.id));
    assert_eq!(list(None, 2), all[..2]);
    assert_eq!(list(Some(&bob), 10).len(), 2);
    assert_eq!(list(Some("333333333333"), 10)[0].grantee.shown, root);
    let gone = all[0].clone();
    world.write(move |kms, tx| kms.delete_grant(tx, &gone)).unwrap();
    assert_eq!(list(None, 10), all[1..]);
    let (east, id) = (region("us-east-1"), all[0].id.clone());
    let missing = world.write(move |_, tx| grant::by_id(tx, &east, &id));
    assert!(matches!(missing, Err(Error::GrantNotFound { .. })));
    let bad = world.write(|_, tx| grant::by_id(tx, &region("us-east-1"), "xyz"));
    assert!(matches!(bad, Err(Error::InvalidGrantId { .. })));
}

#[test]
fn retirable_grants_are_listed_across_keys() {
    let world = world();
    let bob = bob(&world);
    for owner in ["1", "2"] {
        let (key, bob) = (world.key(owner, None), bob.clone());
        world
            .write(move |kms, tx| {
                let party = kms.grant_party(tx, &bob, Trust::Caller)?;
                let new = NewGrant {
                    grantee: party.clone(),
                    retiring: Some(party),
                    operations: vec![GrantOperation::Decrypt],
                    constraints: Constraints::default(),
                    name: String::new(),
                    issuing_account: key.account.clone(),
                };
                kms.create_grant(tx, &key, &new)
            })
            .unwrap();
    }
    let found = world
        .write(move |kms, tx| {
            let party = kms.grant_party(tx, &bob, Trust::Caller)?;
            grant::list_retirable(tx, &region("us-east-1"), &party, "", 10)
        })
        .unwrap();
    let mut owners: Vec<_> = found.iter().map(|grant| grant.key_account.clone()).collect();
    owners.sort();
    assert_eq!(owners, [account("1"), account("2")]);
}

#[test]
fn principals_must_exist_and_services_need_trust() {
    let world = world();
    let bob = bob(&world);
    let host = principal("1/infra:i-0123456789abcdef0").arn;
    let party = |text: &str, trust| {
        let text = text.to_owned();
        world.write(move |kms, tx| kms.grant_party(tx, &text, trust))
    };
    for text in [&bob, "AIDA000000000BOB", "222222222222", "arn:aws:iam::111111111111:root"] {
        assert!(party(text, Trust::Caller).is_ok(), "{text}");
    }
    for text in ["ec2.us-east-1.amazonaws.com", &host] {
        assert!(party(text, Trust::Service).is_ok(), "{text}");
        assert!(matches!(party(text, Trust::Caller), Err(Error::InvalidArn { .. })), "{text}");
    }
    for text in [
        "arn:aws:iam::111111111111:user/nobody",
        "arn:aws:iam::999999999999:root",
        "arn:aws:sts::111111111111:assumed-role/R",
        "arn:aws:kms:us-east-1:111111111111:key/x",
        "nobody",
    ] {
        assert!(matches!(party(text, Trust::Service), Err(Error::InvalidArn { .. })), "{text}");
    }
    let shown = |world: &World| {
        let bob = bob.clone();
        world
            .write(move |kms, tx| {
                let party = kms.grant_party(tx, "AIDA000000000BOB", Trust::Caller)?;
                assert_eq!(party.shown, bob);
                kms.shown_party(tx, &party)
            })
            .unwrap()
    };
    assert_eq!(shown(&world), "arn:aws:iam::222222222222:user/bob");
}

#[test]
fn a_deleted_grantee_is_shown_by_its_id_and_not_replaced() {
    let world = world();
    let (key, arn) = (world.key("1", None), bob(&world));
    let (grant, _) = create(&world, &key, &arn, "", GrantOperation::Decrypt).unwrap();
    world.people.remove(&arn);
    world.people.add(&arn, "AIDA00000NEWBOB1");
    let party = grant.grantee.clone();
    let shown = world.write(move |kms, tx| kms.shown_party(tx, &party)).unwrap();
    assert_eq!(shown, "AIDA000000000BOB");
}
