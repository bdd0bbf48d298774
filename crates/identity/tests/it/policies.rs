//! Managed policies, attachments and quotas.

use crate::world::{ALLOW_ALL, World, refused, worlds};
use identity::attachment::{self, Usage};
use identity::managed::{self, InForce, ManagedPolicy, NewPolicy, Owner, Scope};
use identity::tag::Tags;
use identity::{Error, Page, entity, inline};

fn create(world: &World, name: &'static str, document: &str) -> Result<ManagedPolicy, Error> {
    let (account, document) = (world.one.clone(), document.to_owned());
    world.write(move |tx, identity| {
        let new = NewPolicy {
            account: &account,
            name,
            path: None,
            description: "",
            document: &document,
            tags: &Tags::new(),
        };
        identity.create_policy(tx, &new)
    })
}

#[test]
fn versions() {
    for world in worlds() {
        let policy = create(&world, "p", ALLOW_ALL).unwrap();
        assert_eq!(policy.arn(), "arn:aws:iam::111111111111:policy/p");
        refused(create(&world, "P", ALLOW_ALL), "A policy called P already exists.");
        refused(create(&world, "q", "{}"), "Missing required field Statement");
        refused(
            create(
                &world,
                "q",
                &ALLOW_ALL.replacen("\"*\"", &format!("\"ec2:{}\"", "x".repeat(6100)), 1),
            ),
            "PolicySize",
        );

        let (account, arn) = (world.one.clone(), policy.arn());
        let add = |in_force| {
            let (account, arn) = (account.clone(), arn.clone());
            world.write(move |tx, identity| {
                let policy = managed::find(tx, &account, &arn)?;
                identity.create_policy_version(tx, &policy, ALLOW_ALL, in_force)
            })
        };
        assert!(!add(InForce::Later).unwrap().is_default);
        for _ in 3..=5 {
            add(InForce::AtOnce).unwrap();
        }
        refused(add(InForce::Later), "can have up to 5 versions");
        let find = || {
            let (account, arn) = (account.clone(), arn.clone());
            world.write(move |tx, _| managed::find(tx, &account, &arn)).unwrap()
        };
        assert_eq!(find().default_version, 5);
        let with =
            |f: fn(&mut meta::Tx<'_>, &identity::Identity, &ManagedPolicy) -> Result<(), Error>| {
                let policy = find();
                world.write(move |tx, identity| f(tx, identity, &policy))
            };
        refused(with(|tx, _, p| managed::delete_version(tx, p, 5)), "default version");
        refused(with(|tx, _, p| managed::delete_version(tx, p, 6)), "version v6 does not exist");
        with(|tx, identity, p| identity.set_default_version(tx, p, 1)).unwrap();
        assert_eq!(find().default_version, 1);
        refused(with(|tx, _, p| managed::delete(tx, p)), "more than one version");
        for version in 2..=5 {
            let policy = find();
            world.write(move |tx, _| managed::delete_version(tx, &policy, version)).unwrap();
        }
        // Numbers are never used again.
        assert_eq!(add(InForce::Later).unwrap().version, 6);
        with(|tx, _, p| managed::delete_version(tx, p, 6)).unwrap();
        with(|tx, _, p| managed::delete(tx, p)).unwrap();
        let (account, arn) = (account.clone(), arn.clone());
        refused(world.write(move |tx, _| managed::find(tx, &account, &arn)), "was not found");
    }
}

#[test]
fn attachments() {
    for world in worlds() {
        let bob = world.user("bob");
        let policy = create(&world, "p", ALLOW_ALL).unwrap();
        let attach = |arn: String| {
            let bob = bob.clone();
            world.write(move |tx, _| attachment::attach(tx, &bob, &arn))
        };
        attach(policy.arn()).unwrap();
        attach(policy.arn()).unwrap();
        attach("arn:aws:iam::aws:policy/PowerUserAccess".to_owned()).unwrap();
        for missing in ["arn:aws:iam::aws:policy/NoSuch", "arn:aws:iam::222222222222:policy/p", "p"]
        {
            let error = refused(attach(missing.to_owned()), "does not exist or is not attachable");
            assert!(matches!(error, Error::NoSuchEntity { .. }));
        }
        let (user, used) = (bob.clone(), policy.clone());
        world
            .write(move |tx, _| {
                let arns = attachment::of(tx, &user)?;
                assert_eq!(
                    arns,
                    [used.arn(), "arn:aws:iam::aws:policy/PowerUserAccess".to_owned()]
                );
                let entities =
                    attachment::entities(tx, &user.account, &used, Usage::PermissionsPolicy)?;
                assert_eq!(entities, std::slice::from_ref(&user));
                assert_eq!(
                    attachment::count(tx, &user.account, &used, Usage::PermissionsPolicy)?,
                    1
                );
                assert_eq!(
                    attachment::count(tx, &user.account, &used, Usage::PermissionsBoundary)?,
                    0
                );
                Ok::<_, Error>(())
            })
            .unwrap();
        let used = policy.clone();
        refused(world.write(move |tx, _| managed::delete(tx, &used)), "attached to entities");
        let (user, arn) = (bob.clone(), policy.arn());
        world.write(move |tx, _| attachment::detach(tx, &user, &arn)).unwrap();
        let (user, arn) = (bob.clone(), policy.arn());
        refused(world.write(move |tx, _| attachment::detach(tx, &user, &arn)), "was not found");
        let (user, arn) = (bob.clone(), policy.arn());
        world.write(move |tx, _| entity::set_boundary(tx, &user, Some(&arn))).unwrap();
        let used = policy.clone();
        refused(world.write(move |tx, _| managed::delete(tx, &used)), "attached to entities");
        let user = bob.clone();
        refused(
            world.write(move |tx, _| {
                entity::set_boundary(tx, &user, Some("arn:aws:iam::aws:policy/X"))
            }),
            "Scope ARN: arn:aws:iam::aws:policy/X",
        );
        for name in ["a1", "a2", "a3", "a4", "a5", "a6", "a7", "a8", "a9"] {
            attach(create(&world, name, ALLOW_ALL).unwrap().arn()).unwrap();
        }
        refused(attach(policy.arn()), "PoliciesPerUser: 10");
    }
}

#[test]
fn lists_show_the_accounts_own_before_those_of_aws() {
    for world in worlds() {
        create(&world, "zz", ALLOW_ALL).unwrap();
        create(&world, "Aa", ALLOW_ALL).unwrap();
        let list = |account: &base::AccountId, scope, page: Page| {
            let account = account.clone();
            let listed = world.write(move |tx, _| managed::list(tx, &account, scope, "/", &page));
            let listed = listed.unwrap();
            (listed.items.into_iter().map(|p| p.name).collect::<Vec<_>>(), listed.next)
        };
        assert_eq!(list(&world.one, Scope::Local, Page::all()).0, ["Aa", "zz"]);
        assert_eq!(list(&world.two, Scope::Local, Page::all()).0, Vec::<String>::new());
        let aws = list(&world.one, Scope::Aws, Page::all()).0;
        assert!(aws.contains(&"AdministratorAccess".to_owned()) && aws.is_sorted());
        let mut paged = Vec::new();
        let mut after = None;
        loop {
            let (names, next) = list(&world.one, Scope::All, Page { after, limit: 1 });
            paged.extend(names);
            after = next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(paged, [vec!["Aa".to_owned(), "zz".to_owned()], aws].concat());
    }
}

#[test]
fn policies_of_aws_are_policies_and_cannot_be_changed() {
    for world in worlds() {
        let account = world.one.clone();
        world
            .write(move |tx, identity| {
                for policy in managed::list(tx, &account, Scope::Aws, "/", &Page::all())?.items {
                    assert_eq!(policy.owner, Owner::Aws);
                    let versions = managed::versions(tx, &policy)?;
                    assert_eq!(versions.len(), 1);
                    iam::Policy::parse(&versions[0].document, iam::PolicyKind::Identity)
                        .expect("a policy");
                    refused(managed::delete(tx, &policy), "managed by AWS");
                    refused(identity.set_default_version(tx, &policy, 1), "managed by AWS");
                }
                Ok::<_, Error>(())
            })
            .unwrap();
    }
}

#[test]
fn inline_policies() {
    for world in worlds() {
        let bob = world.user("bob");
        let put = |name: &'static str, document: String| {
            let bob = bob.clone();
            world.write(move |tx, _| inline::put(tx, &bob, name, &document))
        };
        put("b", ALLOW_ALL.to_owned()).unwrap();
        put("a", ALLOW_ALL.to_owned()).unwrap();
        put("a", ALLOW_ALL.replace("Allow", "Deny")).unwrap();
        refused(put("a/b", ALLOW_ALL.to_owned()), "policyName");
        refused(put("c", ALLOW_ALL.replace("Allow", "Permit")), "neither Allow nor Deny");
        refused(put("c", ALLOW_ALL.replace("*\"", "ec2:X\u{2014}\"")), "characters outside");
        let long = ALLOW_ALL
            .replace("\"Action\":\"*\"", &format!("\"Action\":\"ec2:{}\"", "x".repeat(2000)));
        refused(put("c", long), "Maximum policy size of 2048 bytes exceeded for user bob");
        // White space does not count.
        put("b", format!("{ALLOW_ALL}{}", " ".repeat(3000))).unwrap();
        let user = bob.clone();
        let names = world.write(move |tx, _| {
            refused(inline::find(tx, &user, "c"), "The user policy with name c cannot be found.");
            assert!(inline::find(tx, &user, "a")?.document.contains("Deny"));
            inline::delete(tx, &user, "a")?;
            inline::list(tx, &user)
        });
        assert_eq!(names.unwrap().iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["b"]);
    }
}
