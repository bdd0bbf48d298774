//! Access keys, and what their owners may: from rows to a decision.

use crate::world::{ALLOW_ALL, World, refused, worlds};
use iam::{Context, Decision, Principal, PrincipalKind, Request};
use identity::access_key::{self, NewAccessKey, Owner};
use identity::{CredentialError, Entity, Error, attachment, entity, group, inline};

const ADMIN: &str = "arn:aws:iam::aws:policy/AdministratorAccess";
const POWER: &str = "arn:aws:iam::aws:policy/PowerUserAccess";

fn new_key(world: &World, owner: &Owner) -> Result<NewAccessKey, Error> {
    let owner = owner.clone();
    world.write(move |tx, identity| identity.create_access_key(tx, &owner))
}

pub(crate) fn credential(
    world: &World,
    id: &str,
    token: Option<&str>,
) -> Result<identity::Credential, CredentialError> {
    let (id, token) = (id.to_owned(), token.map(str::to_owned));
    world.write(move |tx, identity| identity.credential(tx, &id, token.as_deref()))
}

pub(crate) fn decide(
    world: &World,
    principal: &Principal,
    session_policies: &[String],
    action: &str,
) -> Decision {
    let (who, policies) = (principal.clone(), session_policies.to_vec());
    let layers =
        world.write(move |tx, identity| identity.layers(tx, &who, &policies)).expect("readable");
    let context = Context::new();
    let request =
        Request { principal, action, resource: "*", resource_account: None, context: &context };
    iam::evaluate(&request, &layers)
}

fn may(world: &World, user: &Entity, action: &str) -> bool {
    let principal = Principal::user(&user.account, &user.path, &user.name, &user.unique_id);
    decide(world, &principal, &[], action).allowed
}

#[test]
fn keys_open_whose_they_are() {
    for world in worlds() {
        let bob = world.user("bob");
        let owner = Owner::User(bob.clone());
        let key = new_key(&world, &owner).unwrap();
        let found = credential(&world, &key.key.id, None).unwrap();
        assert_eq!(found.secret.expose(), key.secret.expose());
        assert_eq!(found.principal.arn, "arn:aws:iam::111111111111:user/bob");
        assert_eq!(found.principal.user_id, bob.unique_id);
        assert_eq!(found.expires_at, None);
        assert!(matches!(credential(&world, "AKIANOSUCHKEY", None), Err(CredentialError::Unknown)));
        assert!(matches!(
            credential(&world, &key.key.id, Some("token")),
            Err(CredentialError::InvalidToken)
        ));

        let (whose, id) = (owner.clone(), key.key.id.clone());
        world.write(move |tx, _| access_key::set_active(tx, &whose, &id, false)).unwrap();
        assert!(matches!(credential(&world, &key.key.id, None), Err(CredentialError::Unknown)));
        new_key(&world, &owner).unwrap();
        refused(new_key(&world, &owner), "AccessKeysPerUser: 2");

        // Another user cannot touch it.
        let (eve, id) = (Owner::User(world.user("eve")), key.key.id.clone());
        refused(world.write(move |tx, _| access_key::delete(tx, &eve, &id)), "cannot be found");
        let (whose, id) = (owner.clone(), key.key.id.clone());
        world.write(move |tx, _| access_key::delete(tx, &whose, &id)).unwrap();
        let whose = owner.clone();
        assert_eq!(world.write(move |tx, _| access_key::list(tx, &whose)).unwrap().len(), 1);
    }
}

#[test]
fn a_new_accounts_root_has_a_key() {
    for world in worlds() {
        let (account, key) =
            world.write(|tx, identity| identity.create_account(tx, None, "third")).unwrap();
        let found = credential(&world, &key.key.id, None).unwrap();
        assert_eq!(found.principal.kind, PrincipalKind::Root);
        assert_eq!(found.principal.arn, format!("arn:aws:iam::{}:root", account.id));
        assert_eq!(found.secret.expose(), key.secret.expose());
    }
}

#[test]
fn secrets_are_not_in_the_rows() {
    for world in worlds() {
        let key = new_key(&world, &Owner::User(world.user("bob"))).unwrap();
        let rows =
            world.write(|tx, _| tx.query("SELECT sealed FROM iam_access_keys", &[])).unwrap();
        let secret = key.secret.expose().as_bytes();
        for row in rows {
            let sealed: Vec<u8> = row.get(0).unwrap();
            assert!(!sealed.windows(secret.len()).any(|w| w == secret));
        }
        // Sealed under the key's own id: exchanging rows is noticed.
        let id = key.key.id.clone();
        world
            .write(move |tx, _| {
                tx.execute(
                    "UPDATE iam_access_keys SET sealed = (SELECT sealed FROM iam_access_keys \
                     WHERE owner_id = '111111111111') WHERE access_key_id = $1",
                    meta::params![&id],
                )
            })
            .unwrap();
        let error = credential(&world, &key.key.id, None).expect_err("damaged");
        assert!(matches!(error, CredentialError::Unreadable(Error::RowDamaged { .. })), "{error}");
    }
}

#[test]
fn policies_of_every_source_count_and_cease_at_once() {
    for world in worlds() {
        let bob = world.user("bob");
        assert!(!may(&world, &bob, "ec2:CreateVolume"));
        let user = bob.clone();
        world.write(move |tx, _| inline::put(tx, &user, "p", ALLOW_ALL)).unwrap();
        assert!(may(&world, &bob, "ec2:CreateVolume"));
        let user = bob.clone();
        world.write(move |tx, _| inline::delete(tx, &user, "p")).unwrap();
        assert!(!may(&world, &bob, "ec2:CreateVolume"));

        let user = bob.clone();
        world.write(move |tx, _| attachment::attach(tx, &user, POWER)).unwrap();
        assert!(may(&world, &bob, "ec2:CreateVolume"));
        assert!(!may(&world, &bob, "iam:CreateUser"));
        assert!(may(&world, &bob, "iam:ListRoles"));

        let (user, account) = (bob.clone(), world.one.clone());
        let admins = world
            .write(move |tx, identity| {
                let admins = identity.create_group(tx, &account, "admins", None)?;
                attachment::attach(tx, &admins, ADMIN)?;
                group::add(tx, &admins, &user)?;
                Ok::<_, Error>(admins)
            })
            .unwrap();
        assert!(may(&world, &bob, "iam:CreateUser"));

        let user = bob.clone();
        world.write(move |tx, _| entity::set_boundary(tx, &user, Some(POWER))).unwrap();
        assert!(!may(&world, &bob, "iam:CreateUser"));
        assert!(may(&world, &bob, "ec2:CreateVolume"));
        let user = bob.clone();
        world.write(move |tx, _| entity::set_boundary(tx, &user, None)).unwrap();
        let user = bob.clone();
        world.write(move |tx, _| group::remove(tx, &admins, &user)).unwrap();
        assert!(!may(&world, &bob, "iam:CreateUser"));
    }
}

#[test]
fn a_recreated_user_has_nothing_of_the_old_one() {
    for world in worlds() {
        let old = world.user("bob");
        let user = old.clone();
        world.write(move |tx, _| attachment::attach(tx, &user, ADMIN)).unwrap();
        let user = old.clone();
        world
            .write(move |tx, _| {
                attachment::detach(tx, &user, ADMIN)?;
                entity::delete(tx, &user.account, user.kind, &user.name)
            })
            .unwrap();
        let new = world.user("bob");
        let user = new.clone();
        world.write(move |tx, _| attachment::attach(tx, &user, ADMIN)).unwrap();
        assert!(may(&world, &new, "ec2:X"));
        assert!(!may(&world, &old, "ec2:X"));
    }
}
