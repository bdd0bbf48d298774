//! Temporary credentials.

use crate::access::{credential, decide};
use crate::world::{ALLOW_ALL, START, TRUST_ONE, World, refused, worlds};
use iam::{Principal, PrincipalKind};
use identity::role::Role;
use identity::session::{AssumeRole, Session};
use identity::tag::Tags;
use identity::{CredentialError, Error, attachment, entity, inline, session_key};

fn named(name: &str) -> AssumeRole {
    AssumeRole { session_name: name.to_owned(), ..AssumeRole::default() }
}

fn assume(
    world: &World,
    caller: &Principal,
    role: &Role,
    request: AssumeRole,
) -> Result<Session, Error> {
    let (caller, role) = (caller.clone(), role.clone());
    world.write(move |tx, identity| identity.assume_role(tx, &caller, &role, &request))
}

fn tags(pairs: &[(&str, &str)]) -> Tags {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

#[test]
fn a_session_is_what_its_token_says() {
    for world in worlds() {
        let role = world.role("dev", TRUST_ONE);
        let root = Principal::root(&world.one);
        let request = AssumeRole {
            policy: Some(
                ALLOW_ALL
                    .replace("\"*\"", "\"ec2:*\"")
                    .replace("\"Resource\":\"ec2:*\"", "\"Resource\":\"*\""),
            ),
            policy_arns: vec!["arn:aws:iam::aws:policy/IAMReadOnlyAccess".to_owned()],
            tags: tags(&[("Team", "blue"), ("x", "y")]),
            transitive_tag_keys: vec!["x".to_owned()],
            source_identity: Some("amy".to_owned()),
            ..named("s1")
        };
        let session = assume(&world, &root, &role, request).unwrap();
        assert!(session.access_key_id.starts_with("ASIA") && session.access_key_id.len() == 20);
        assert_eq!(session_key::account_of(&session.access_key_id).as_ref(), Some(&world.one));
        assert_eq!(session.expires_at, START.plus_seconds(3600));
        let found = credential(&world, &session.access_key_id, Some(&session.token)).unwrap();
        assert_eq!(found.secret.expose(), session.secret.expose());
        assert_eq!(found.expires_at, Some(session.expires_at));
        assert_eq!(found.principal, session.principal);
        let p = &found.principal;
        assert_eq!(p.arn, "arn:aws:sts::111111111111:assumed-role/dev/s1");
        assert_eq!(p.principal_arn, "arn:aws:iam::111111111111:role/dev/dev");
        assert_eq!(p.user_id, format!("{}:s1", role.entity.unique_id));
        // The session's tags lie over the role's, whatever the case of their keys.
        assert_eq!(p.tags, tags(&[("Team", "blue"), ("x", "y")]));
        assert_eq!(p.source_identity.as_deref(), Some("amy"));
        assert_eq!(p.token_issue_time, Some(START));

        let entity = role.entity.clone();
        world.write(move |tx, _| inline::put(tx, &entity, "all", ALLOW_ALL)).unwrap();
        let may = |action: &str| decide(&world, p, &found.session_policies, action).allowed;
        assert!(may("ec2:CreateVolume"));
        assert!(may("iam:GetUser"));
        assert!(!may("iam:CreateUser"));
        let entity = role.entity.clone();
        world.write(move |tx, _| inline::delete(tx, &entity, "all")).unwrap();
        assert!(!may("ec2:CreateVolume"));
    }
}

#[test]
fn a_token_opens_only_unaltered_beside_its_key_and_in_time() {
    for world in worlds() {
        let role = world.role("dev", TRUST_ONE);
        let root = Principal::root(&world.one);
        let one = assume(&world, &root, &role, named("s1")).unwrap();
        let two = assume(&world, &root, &role, named("s2")).unwrap();
        let invalid = |id: &str, token: Option<&str>| {
            let found = credential(&world, id, token);
            assert!(matches!(found, Err(CredentialError::InvalidToken)), "{found:?}");
        };
        invalid(&one.access_key_id, Some(&two.token));
        invalid(&one.access_key_id, None);
        invalid(&one.access_key_id, Some(""));
        invalid(&one.access_key_id, Some("no base 64!"));
        invalid(&one.access_key_id, Some(&one.token[..one.token.len() - 4]));
        let middle = one.token.len() / 2;
        let other = if one.token.as_bytes()[middle] == b'A' { "B" } else { "A" };
        let altered = format!("{}{other}{}", &one.token[..middle], &one.token[middle + 1..]);
        invalid(&one.access_key_id, Some(&altered));
        assert!(!one.token.contains("dev") && !one.token.contains("s1"));

        world.clock.advance_seconds(3599);
        credential(&world, &one.access_key_id, Some(&one.token)).unwrap();
        world.clock.advance_seconds(1);
        let late = credential(&world, &one.access_key_id, Some(&one.token));
        assert!(matches!(late, Err(CredentialError::Expired)));
    }
}

#[test]
fn deleting_the_role_ends_its_sessions() {
    for world in worlds() {
        let role = world.role("dev", TRUST_ONE);
        let session = assume(&world, &Principal::root(&world.one), &role, named("s1")).unwrap();
        let entity = role.entity.clone();
        world
            .write(move |tx, _| entity::delete(tx, &entity.account, entity.kind, &entity.name))
            .unwrap();
        world.role("dev", TRUST_ONE);
        let found = credential(&world, &session.access_key_id, Some(&session.token));
        assert!(matches!(found, Err(CredentialError::Unknown)));
    }
}

#[test]
fn requests_are_checked() {
    for world in worlds() {
        let role = world.role("dev", TRUST_ONE);
        let root = Principal::root(&world.one);
        let refused_request = |request: AssumeRole, message: &str| {
            refused(assume(&world, &root, &role, request), message)
        };
        refused_request(named("x"), "roleSessionName");
        refused_request(named("a b"), "roleSessionName");
        let lasting = |seconds| AssumeRole { duration_seconds: Some(seconds), ..named("s1") };
        refused_request(lasting(899), "durationSeconds");
        refused_request(lasting(3601), "MaxSessionDuration set for this role");
        let session = assume(&world, &root, &role, lasting(900)).unwrap();
        assert_eq!(session.expires_at, START.plus_seconds(900));
        refused_request(
            AssumeRole { policy: Some("{}".to_owned()), ..named("s1") },
            "Missing required field",
        );
        let arn = "arn:aws:iam::111111111111:policy/none".to_owned();
        refused_request(
            AssumeRole { policy_arns: vec![arn.clone()], ..named("s1") },
            "does not exist",
        );
        refused_request(AssumeRole { policy_arns: vec![arn; 11], ..named("s1") }, "policyArns");
        let long = ALLOW_ALL
            .replace("\"Action\":\"*\"", &format!("\"Action\":\"ec2:{}\"", "x".repeat(2000)));
        let error = refused_request(
            AssumeRole { policy: Some(long), ..named("s1") },
            "Packed policy consumes",
        );
        assert!(matches!(error, Error::PackedPolicyTooLarge { .. }));
        let many = (0..50).map(|n| (format!("{n}{}", "k".repeat(100)), "v".repeat(256))).collect();
        refused_request(AssumeRole { tags: many, ..named("s1") }, "Packed policy consumes");
        let transitive = AssumeRole { transitive_tag_keys: vec!["x".to_owned()], ..named("s1") };
        refused_request(transitive, "is not a session tag");
        refused_request(
            AssumeRole { source_identity: Some("a b".to_owned()), ..named("s1") },
            "sourceIdentity",
        );
    }
}

#[test]
fn chains_are_short_and_keep_their_marks() {
    for world in worlds() {
        let role = world.role("dev", TRUST_ONE);
        let wide = role.clone();
        world.write(move |tx, _| identity::role::update(tx, &wide, "", 43_200)).unwrap();
        let account = world.one.clone();
        let role = world.write(move |tx, _| identity::role::find(tx, &account, "dev")).unwrap();
        let first = AssumeRole {
            tags: tags(&[("x", "y"), ("z", "")]),
            transitive_tag_keys: vec!["x".to_owned()],
            source_identity: Some("amy".to_owned()),
            duration_seconds: Some(43_200),
            ..named("s1")
        };
        let first = assume(&world, &Principal::root(&world.one), &role, first).unwrap().principal;
        let second = assume(&world, &first, &role, named("s2")).unwrap().principal;
        assert_eq!(second.tags, tags(&[("team", "red"), ("x", "y")]));
        assert_eq!(second.source_identity.as_deref(), Some("amy"));
        let third = assume(&world, &second, &role, named("s3")).unwrap().principal;
        assert_eq!(third.tags.get("x").map(String::as_str), Some("y"));
        let refused_chain = |request: AssumeRole, message: &str| {
            refused(assume(&world, &second, &role, request), message)
        };
        refused_chain(AssumeRole { duration_seconds: Some(3601), ..named("s3") }, "role chaining");
        refused_chain(AssumeRole { tags: tags(&[("X", "other")]), ..named("s3") }, "is inherited");
        refused_chain(
            AssumeRole { source_identity: Some("eve".to_owned()), ..named("s3") },
            "cannot be changed",
        );
    }
}

#[test]
fn users_and_roots_may_have_sessions_of_their_own() {
    for world in worlds() {
        let bob = world.user("bob");
        let user = bob.clone();
        world
            .write(move |tx, _| {
                attachment::attach(tx, &user, "arn:aws:iam::aws:policy/AdministratorAccess")
            })
            .unwrap();
        let principal = Principal::user(&bob.account, &bob.path, &bob.name, &bob.unique_id);
        let session = world.identity.session_for(&principal, None).unwrap();
        assert_eq!(session.expires_at, START.plus_seconds(43_200));
        let found = credential(&world, &session.access_key_id, Some(&session.token)).unwrap();
        assert_eq!(found.principal.arn, principal.arn);
        assert_eq!(found.principal.token_issue_time, Some(START));
        assert!(decide(&world, &found.principal, &found.session_policies, "ec2:X").allowed);
        refused(world.identity.session_for(&principal, Some(60)), "durationSeconds");
        refused(world.identity.session_for(&principal, Some(129_601)), "DurationSeconds");

        let root = world.identity.session_for(&Principal::root(&world.one), Some(7200)).unwrap();
        assert_eq!(root.expires_at, START.plus_seconds(3600));
        let found = credential(&world, &root.access_key_id, Some(&root.token)).unwrap();
        assert_eq!(found.principal.kind, PrincipalKind::Root);

        let role = world.role("dev", TRUST_ONE);
        let in_role = assume(&world, &principal, &role, named("s1")).unwrap().principal;
        refused(world.identity.session_for(&in_role, None), "session credentials");
        let user = bob.clone();
        world
            .write(move |tx, _| {
                attachment::detach(tx, &user, "arn:aws:iam::aws:policy/AdministratorAccess")?;
                entity::delete(tx, &user.account, user.kind, &user.name)
            })
            .unwrap();
        let found = credential(&world, &session.access_key_id, Some(&session.token));
        assert!(matches!(found, Err(CredentialError::Unknown)));
    }
}
