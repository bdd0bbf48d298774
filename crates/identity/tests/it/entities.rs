//! Users, groups, roles: names, lists, what stands in the way of deletion.

use crate::world::{ALLOW_ALL, TRUST_ONE, refused, worlds};
use identity::access_key::{self, Owner};
use identity::tag::Tags;
use identity::{
    Error, Kind, Page, attachment, directory, entity, group, inline, instance_profile, role, tag,
};

const ADMIN: &str = "arn:aws:iam::aws:policy/AdministratorAccess";

#[test]
fn names_are_unique_whatever_their_case() {
    for world in worlds() {
        let bob = world.user("Bob");
        assert_eq!(bob.arn().to_string(), "arn:aws:iam::111111111111:user/Bob");
        assert!(bob.unique_id.starts_with("AIDA") && bob.unique_id.len() == 21);
        let account = world.one.clone();
        let create = |name: &'static str, path: &'static str| {
            let account = account.clone();
            world.write(move |tx, identity| {
                identity.create_user(tx, &account, name, Some(path), None, &Tags::new())
            })
        };
        refused(create("bob", "/"), "User with name bob already exists.");
        refused(create("a b", "/"), "userName");
        refused(create("amy", "dev"), "path");
        let amy = create("amy", "/dev/ops/").unwrap();
        assert_eq!(amy.arn().to_string(), "arn:aws:iam::111111111111:user/dev/ops/amy");
        let one = account.clone();
        let found = world.write(move |tx, _| {
            assert_eq!(entity::find(tx, &one, Kind::User, "amy")?.unique_id, amy.unique_id);
            assert_eq!(entity::find_by_arn(tx, &amy.arn().to_string())?, Some(amy.clone()));
            assert_eq!(entity::find_by_arn(tx, "arn:aws:iam::111111111111:user/amy")?, None);
            assert_eq!(entity::find_by_id(tx, &amy.unique_id)?, Some(amy.clone()));
            entity::find(tx, &one, Kind::User, "bob")
        });
        refused(found, "The user with name bob cannot be found.");
        // A role may have the name of a user.
        world.role("Bob", TRUST_ONE);
    }
}

#[test]
fn lists_are_paged_by_name_and_filtered_by_path() {
    for world in worlds() {
        let account = world.one.clone();
        for (name, path) in [("d", "/x/"), ("B", "/x/y/"), ("a", "/"), ("c", "/xx/")] {
            let account = account.clone();
            world
                .write(move |tx, identity| {
                    identity.create_user(tx, &account, name, Some(path), None, &Tags::new())
                })
                .unwrap();
        }
        let list = |prefix: &'static str, page: Page| {
            let account = account.clone();
            let listed =
                world.write(move |tx, _| entity::list(tx, &account, Kind::User, prefix, &page));
            let listed = listed.unwrap();
            (listed.items.iter().map(|e| e.name.clone()).collect::<Vec<_>>(), listed.next)
        };
        assert_eq!(
            list("/", Page::all()),
            (vec!["a".into(), "B".into(), "c".into(), "d".into()], None)
        );
        assert_eq!(list("/x/", Page::all()).0, ["B", "d"]);
        let (first, next) = list("/", Page { after: None, limit: 2 });
        assert_eq!((first, next.as_deref()), (vec!["a".to_owned(), "B".to_owned()], Some("b")));
        assert_eq!(list("/", Page { after: next, limit: 2 }), (vec!["c".into(), "d".into()], None));
    }
}

#[test]
fn what_hangs_on_an_entity_keeps_it() {
    for world in worlds() {
        let bob = world.user("bob");
        let account = world.one.clone();
        let (one, user) = (account.clone(), bob.clone());
        let key = world
            .write(move |tx, identity| {
                let devs = identity.create_group(tx, &one, "devs", None)?;
                group::add(tx, &devs, &user)?;
                group::add(tx, &devs, &user)?;
                attachment::attach(tx, &user, ADMIN)?;
                inline::put(tx, &user, "p", ALLOW_ALL)?;
                identity.create_access_key(tx, &Owner::User(user.clone()))
            })
            .unwrap()
            .key;
        let delete = |message: &str| {
            let account = account.clone();
            let refused_delete =
                world.write(move |tx, _| entity::delete(tx, &account, Kind::User, "bob"));
            assert!(matches!(refused(refused_delete, message), Error::DeleteConflict { .. }));
        };
        delete("must remove users from group first");
        let one = account.clone();
        refused(
            world.write(move |tx, _| entity::delete(tx, &one, Kind::Group, "devs")),
            "must remove users from group first",
        );
        let (one, user) = (account.clone(), bob.clone());
        world
            .write(move |tx, _| {
                let devs = entity::find(tx, &one, Kind::Group, "devs")?;
                assert_eq!(group::members_of(tx, &devs)?, std::slice::from_ref(&user));
                assert_eq!(group::groups_of(tx, &user)?, std::slice::from_ref(&devs));
                group::remove(tx, &devs, &user)?;
                entity::delete(tx, &one, Kind::Group, "devs")
            })
            .unwrap();
        delete("must delete access keys first");
        let (owner, id) = (Owner::User(bob.clone()), key.id.clone());
        world.write(move |tx, _| access_key::delete(tx, &owner, &id)).unwrap();
        delete("must detach all policies first");
        let user = bob.clone();
        world.write(move |tx, _| attachment::detach(tx, &user, ADMIN)).unwrap();
        delete("must delete policies first");
        let user = bob.clone();
        world.write(move |tx, _| inline::delete(tx, &user, "p")).unwrap();
        let one = account.clone();
        world.write(move |tx, _| entity::delete(tx, &one, Kind::User, "bob")).unwrap();
        assert_ne!(world.user("bob").unique_id, bob.unique_id);
    }
}

#[test]
fn tags() {
    for world in worlds() {
        let bob = world.user("bob");
        let put = |tags: Tags| {
            let bob = bob.clone();
            world.write(move |tx, _| tag::put(tx, &bob.account, &bob.unique_id, &tags))
        };
        let tags = |pairs: &[(&str, &str)]| -> Tags {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
        };
        put(tags(&[("Team", "red"), ("empty", "")])).unwrap();
        put(tags(&[("team", "blue")])).unwrap();
        let user = bob.clone();
        let remove = vec!["EMPTY".to_owned(), "none".to_owned()];
        let kept = world.write(move |tx, _| {
            assert_eq!(tag::of(tx, &user.account, &user.unique_id)?.len(), 2);
            tag::remove(tx, &user.account, &user.unique_id, &remove)?;
            tag::of(tx, &user.account, &user.unique_id)
        });
        assert_eq!(kept.unwrap(), tags(&[("team", "blue")]));
        refused(put(tags(&[("aws:x", "y")])), "reserved");
        refused(put(tags(&[("a", "1"), ("A", "2")])), "Duplicate tag keys");
        refused(put(tags(&[("", "1")])), "not valid");
        refused(put(tags(&[("a", &"x".repeat(257))])), "not valid");
        let many = (0..50).map(|n| (format!("k{n}"), String::new())).collect();
        assert!(matches!(refused(put(many), "TagsPerResource"), Error::LimitExceeded { .. }));
    }
}

#[test]
fn trust_policies_name_whom_they_meant_when_saved() {
    for world in worlds() {
        let bob = world.user("bob");
        let trust = TRUST_ONE.replace("\"111111111111\"", "\"arn:aws:iam::111111111111:user/bob\"");
        let role = world.role("dev", &trust);
        assert_eq!(role.bindings.0.values().collect::<Vec<_>>(), [&bob.unique_id]);
        let shown = |role: &role::Role| {
            let role = role.clone();
            world.write(move |tx, _| role.shown_trust(tx)).unwrap()
        };
        assert_eq!(shown(&role), trust);
        let account = world.one.clone();
        world.write(move |tx, _| entity::delete(tx, &account, Kind::User, "bob")).unwrap();
        assert!(shown(&role).contains(&bob.unique_id));
        world.user("bob");
        assert!(shown(&role).contains(&bob.unique_id));

        let set = |text: String| {
            let role = role.clone();
            world.write(move |tx, _| role::set_trust(tx, &role, &text))
        };
        set(trust.clone()).unwrap();
        refused(
            set(trust.replace("user/bob", "user/eve")),
            "Invalid principal in policy: \"AWS\":\"arn:aws:iam::111111111111:user/eve\"",
        );
        refused(set(TRUST_ONE.replace("111111111111", "333333333333")), "Invalid principal");
        refused(set(TRUST_ONE.replace("sts:AssumeRole", "ec2:*")), "STS AssumeRole actions");
        refused(set("{}".to_owned()), "Missing required field Statement");
        let id = bob.unique_id.clone();
        let gone = world.write(move |tx, _| {
            Ok::<_, Error>((
                directory::arn_of(tx, &id)?,
                directory::unique_id(tx, "arn:aws:iam::111111111111:role/dev/dev")?,
            ))
        });
        assert_eq!(gone.unwrap(), (None, Some(role.entity.unique_id.clone())));
        let update = |seconds| {
            let role = role.clone();
            world.write(move |tx, _| role::update(tx, &role, "d", seconds))
        };
        update(7200).unwrap();
        refused(update(60), "maxSessionDuration");
    }
}

#[test]
fn instance_profiles_hold_one_role_and_keep_it_from_deletion() {
    for world in worlds() {
        let role = world.role("web", TRUST_ONE).entity;
        let (one, entity) = (world.one.clone(), role.clone());
        let made = world.write(move |tx, identity| {
            let tags = Tags::new();
            let made = identity.create_instance_profile(tx, &one, "Web", Some("/dev/"), &tags)?;
            instance_profile::add_role(tx, &made, &entity)?;
            Ok::<_, Error>(made)
        });
        let made = made.unwrap();
        let arn = made.arn().to_string();
        assert_eq!(arn, "arn:aws:iam::111111111111:instance-profile/dev/Web");
        assert!(made.profile_id.starts_with("AIPA"));

        let one = world.one.clone();
        let again = world.write(move |tx, identity| {
            identity.create_instance_profile(tx, &one, "web", None, &Tags::new())
        });
        refused(again, "Instance Profile web already exists.");
        let other = world.role("other", TRUST_ONE).entity;
        let (one, absent) = (world.one.clone(), other.clone());
        let found = world.write(move |tx, _| instance_profile::find(tx, &one, "Web")).unwrap();
        assert_eq!(found.role_id.as_ref(), Some(&role.unique_id));
        let profile = found.clone();
        let full = world.write(move |tx, _| instance_profile::add_role(tx, &profile, &other));
        refused(full, "InstanceSessionsPerInstanceProfile");
        let profile = found.clone();
        let not_in = world.write(move |tx, _| instance_profile::remove_role(tx, &profile, &absent));
        refused(not_in, "The role other is not in the instance profile Web.");

        let one = world.one.clone();
        let held = world.write(move |tx, _| entity::delete(tx, &one, Kind::Role, "web"));
        refused(held, "must remove roles from instance profile first");
        let profile = found.clone();
        let full = world.write(move |tx, _| instance_profile::delete(tx, &profile));
        refused(full, "must remove roles from instance profile first");

        let one = world.one.clone();
        let left = world.write(move |tx, _| {
            let of_role = |tx: &mut _| instance_profile::of_role(tx, &role, &Page::all());
            assert_eq!(of_role(tx)?.items, std::slice::from_ref(&found));
            instance_profile::remove_role(tx, &found, &role)?;
            assert_eq!(of_role(tx)?.items, []);
            entity::delete(tx, &one, Kind::Role, "web")?;
            let empty = instance_profile::find(tx, &one, "Web")?;
            assert_eq!(empty.role(tx)?, None);
            instance_profile::delete(tx, &empty)?;
            Ok::<_, Error>(instance_profile::list(tx, &one, "/", &Page::all())?.items.len())
        });
        assert_eq!(left.unwrap(), 0);
    }
}

#[test]
fn a_renamed_user_stays_who_it_is() {
    for world in worlds() {
        let (bob, _) = (world.user("bob"), world.user("amy"));
        let user = bob.clone();
        let taken = world.write(move |tx, _| entity::rename(tx, &user, Some("AMY"), None));
        refused(taken, "User with name AMY already exists.");
        let user = bob.clone();
        let bad = world.write(move |tx, _| entity::rename(tx, &user, None, Some("dev")));
        refused(bad, "path");
        let (one, user) = (world.one.clone(), bob.clone());
        let renamed = world.write(move |tx, _| {
            inline::put(tx, &user, "p", ALLOW_ALL)?;
            entity::rename(tx, &user, Some("Robert"), Some("/dev/"))?;
            let renamed = entity::find(tx, &one, Kind::User, "Robert")?;
            assert_eq!(inline::list(tx, &renamed)?.len(), 1);
            entity::rename(tx, &renamed, Some("robert"), None)?;
            entity::find(tx, &one, Kind::User, "robert")
        });
        let renamed = renamed.unwrap();
        assert_eq!(renamed.arn().to_string(), "arn:aws:iam::111111111111:user/dev/robert");
        assert_eq!(renamed.unique_id, bob.unique_id);
        let one = world.one.clone();
        refused(world.write(move |tx, _| entity::find(tx, &one, Kind::User, "bob")), "bob");
    }
}
