//! Records: creation, states, deletion, aliases, tags, policies, resolution.

use crate::world::{START, World, account, principal, region, world};
use base::Arn;
use iam::{Context, Principal};
use kms::key::{LockoutCheck, PolicyWriter, Switch, check_pending_window};
use kms::page::{List, Page};
use kms::tag::Tag;
use kms::{Action, Error, Key, KeyState, alias, resolve, tag};
use serde_json::json;

fn resolve(world: &World, action: Action, caller: &Principal, text: &str) -> Result<Key, Error> {
    let (caller, text) = (caller.clone(), text.to_owned());
    world.write(move |_, tx| {
        let east = region("us-east-1");
        resolve::resolve(tx, action, &caller, &east, &text).map(|resolved| resolved.key)
    })
}

#[test]
fn a_new_key_is_enabled_and_has_the_default_policy() {
    let world = world();
    let key = world.try_key("1", None, LockoutCheck::Required).unwrap();
    assert_eq!((key.state, key.created, key.deletion), (KeyState::Enabled, START, None));
    assert!(key.policy.contains("\"Enable IAM User Permissions\""));
    assert_eq!(key.arn().to_string(), format!("arn:aws:kms:us-east-1:111111111111:key/{}", key.id));
    assert_eq!(world.reload(&key).unwrap(), key);
}

#[test]
fn names_resolve_in_the_callers_account_and_region() {
    let world = world();
    let key = world.key("1", None);
    let (own, foreign) = (principal("1/bob"), principal("2/eve"));
    let target = key.clone();
    world.write(move |kms, tx| kms.create_alias(tx, "alias/a", &target)).unwrap();
    let arn = key.arn().to_string();
    let alias_arn = "arn:aws:kms:us-east-1:111111111111:alias/a";
    for text in [&key.id, &arn, "alias/a", alias_arn] {
        assert_eq!(resolve(&world, Action::Decrypt, &own, text).unwrap(), key, "{text}");
    }
    for text in [&arn, alias_arn] {
        assert_eq!(resolve(&world, Action::Decrypt, &foreign, text).unwrap(), key, "{text}");
    }
    let message = |action, caller: &Principal, text: &str| {
        resolve(&world, action, caller, text).unwrap_err().to_string()
    };
    assert_eq!(
        message(Action::Decrypt, &foreign, &key.id),
        format!("Key 'arn:aws:kms:us-east-1:222222222222:key/{}' does not exist", key.id)
    );
    assert_eq!(
        message(Action::Decrypt, &foreign, "alias/a"),
        "Alias arn:aws:kms:us-east-1:222222222222:alias/a is not found."
    );
    assert_eq!(message(Action::Decrypt, &own, "nonsense"), "Invalid keyId 'nonsense'");
    assert_eq!(message(Action::EnableKey, &own, "alias/a"), "Invalid keyId 'alias/a'");
    let west = arn.replace("us-east-1", "us-west-2");
    assert_eq!(message(Action::Decrypt, &own, &west), "Invalid arn us-west-2");
    assert!(matches!(
        resolve(&world, Action::EnableKey, &own, alias_arn),
        Err(Error::InvalidArn { .. })
    ));
}

#[test]
fn existence_is_hidden_where_it_is_of_no_use() {
    let world = world();
    let missing = "arn:aws:kms:us-east-1:111111111111:key/00000000-0000-4000-8000-000000000000";
    let foreign = principal("2/eve");
    assert!(matches!(
        resolve(&world, Action::PutKeyPolicy, &foreign, missing),
        Err(Error::AccessDenied { .. })
    ));
    assert!(matches!(
        resolve(&world, Action::Decrypt, &foreign, missing),
        Err(Error::KeyNotFound { .. })
    ));
    assert!(matches!(
        resolve(&world, Action::PutKeyPolicy, &principal("1/bob"), missing),
        Err(Error::KeyNotFound { .. })
    ));
}

#[test]
fn deletion_waits_can_be_cancelled_and_destroys() {
    let world = world();
    let key = world.key("1", None);
    let target = key.clone();
    world
        .write(move |kms, tx| {
            kms.create_alias(tx, "alias/gone", &target)?;
            tag::set(tx, &target, &[Tag { key: "a".to_owned(), value: String::new() }])
        })
        .unwrap();
    let target = key.clone();
    let schedule = move |days| {
        let key = target.clone();
        move |kms: &kms::Kms, tx: &mut meta::Tx<'_>| kms.schedule_deletion(tx, &key, days)
    };
    for days in [0, 6, 31] {
        assert!(matches!(check_pending_window(days), Err(Error::Validation { .. })), "{days}");
    }
    assert_eq!(world.write(schedule(7)).unwrap(), Some(START.plus_seconds(7 * 86_400)));
    assert_eq!(world.reload(&key).unwrap().state, KeyState::PendingDeletion);

    let cancelled = key.clone();
    world.write(move |kms, tx| kms.cancel_deletion(tx, &cancelled)).unwrap();
    let now = world.reload(&key).unwrap();
    assert_eq!((now.state, now.deletion), (KeyState::Disabled, None));

    world.write(schedule(7)).unwrap();
    world.clock.advance_seconds(7 * 86_400 - 1);
    assert_eq!(world.write(|kms, tx| kms.destroy_expired(tx, 10)).unwrap().keys, []);
    world.clock.advance_seconds(1);
    let destroyed = world.write(|kms, tx| kms.destroy_expired(tx, 10)).unwrap().keys;
    assert_eq!(destroyed.iter().map(|k| &k.id).collect::<Vec<_>>(), [&key.id]);
    assert!(matches!(world.reload(&key), Err(Error::KeyNotFound { .. })));
    let left = world
        .write(|_, tx| {
            let mut left = 0;
            for table in ["kms_keys", "kms_materials", "kms_aliases", "kms_tags", "kms_grants"] {
                left += tx.query(&format!("SELECT region FROM {table}"), &[])?.len();
            }
            Ok(left)
        })
        .unwrap();
    assert_eq!(left, 0);
}

#[test]
fn enabling_and_disabling() {
    let world = world();
    let key = world.key("1", None);
    for (switch, state) in [(Switch::Off, KeyState::Disabled), (Switch::On, KeyState::Enabled)] {
        let target = key.clone();
        world.write(move |kms, tx| kms.set_enabled(tx, &target, switch)).unwrap();
        assert_eq!(world.reload(&key).unwrap().state, state);
    }
}

#[test]
fn aliases_are_unique_and_limited() {
    let world = world();
    let (one, two) = (world.key("1", None), world.key("1", None));
    let create = |name: &str, key: &Key| {
        let (name, key) = (name.to_owned(), key.clone());
        world.write(move |kms, tx| kms.create_alias(tx, &name, &key))
    };
    create("alias/x", &one).unwrap();
    let error = create("alias/x", &two).unwrap_err();
    assert_eq!(
        error.to_string(),
        "An alias with the name arn:aws:kms:us-east-1:111111111111:alias/x already exists"
    );
    for n in 1..alias::ALIASES_PER_KEY_MAX {
        create(&format!("alias/{n}"), &one).unwrap();
    }
    assert!(matches!(create("alias/one-more", &one), Err(Error::LimitExceeded { .. })));

    let (from, to) = (one.clone(), two.clone());
    world
        .write(move |kms, tx| {
            let found = alias::get(tx, &from.account, &from.region, "alias/x")?;
            kms.update_alias(tx, &found, &to)
        })
        .unwrap();
    assert_eq!(resolve(&world, Action::Encrypt, &principal("1/bob"), "alias/x").unwrap(), two);
    create("alias/one-more", &one).unwrap();
}

#[test]
fn the_ebs_alias_is_listed_before_its_key_exists() {
    let world = world();
    let key = world.key("1", None);
    for name in ["alias/z", "alias/a"] {
        let key = key.clone();
        world.write(move |kms, tx| kms.create_alias(tx, name, &key)).unwrap();
    }
    let list = || {
        world
            .write(|_, tx| alias::list(tx, &account("1"), &region("us-east-1"), "", 10))
            .unwrap()
            .into_iter()
            .map(|alias| (alias.name, alias.key_id))
            .collect::<Vec<_>>()
    };
    let names = |list: &[(String, Option<String>)]| {
        list.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>()
    };
    let before = list();
    assert_eq!(names(&before), ["alias/a", "alias/aws/ebs", "alias/z"]);
    assert_eq!(before[1].1, None);

    let made = world
        .write(|kms, tx| kms.ebs_managed_key(tx, &account("1"), &region("us-east-1")))
        .unwrap();
    let again = world
        .write(|kms, tx| kms.ebs_managed_key(tx, &account("1"), &region("us-east-1")))
        .unwrap();
    assert_eq!(made, again);
    let elsewhere = world
        .write(|kms, tx| kms.ebs_managed_key(tx, &account("1"), &region("eu-west-1")))
        .unwrap();
    assert_ne!(made.id, elsewhere.id);
    let after = list();
    assert_eq!(names(&after), names(&before));
    assert_eq!(after[1].1, Some(made.id.clone()));
}

#[test]
fn pages_of_aliases_show_each_once() {
    let world = world();
    let key = world.key("1", None);
    for name in ["alias/a", "alias/b", "alias/c"] {
        let key = key.clone();
        world.write(move |kms, tx| kms.create_alias(tx, name, &key)).unwrap();
    }
    let mut seen = Vec::new();
    let mut marker: Option<String> = None;
    loop {
        let after = List::Aliases.after(marker.as_deref()).unwrap();
        let rows = world
            .write(move |_, tx| alias::list(tx, &account("1"), &region("us-east-1"), &after, 3))
            .unwrap();
        let page = Page::cut(rows, 2, List::Aliases, |alias| &alias.name);
        seen.extend(page.items.into_iter().map(|alias| alias.name));
        marker = page.next;
        if marker.is_none() {
            break;
        }
    }
    assert_eq!(seen, ["alias/a", "alias/aws/ebs", "alias/b", "alias/c"]);
}

#[test]
fn tags_are_replaced_removed_and_limited() {
    let world = world();
    let key = world.key("1", None);
    let tag = |key: &str, value: &str| Tag { key: key.to_owned(), value: value.to_owned() };
    let set = |tags: Vec<Tag>| {
        let key = key.clone();
        world.write(move |_, tx| tag::set(tx, &key, &tags))
    };
    set(vec![tag("a", "1"), tag("b", "2")]).unwrap();
    set(vec![tag("a", "3")]).unwrap();
    let target = key.clone();
    world.write(move |_, tx| tag::remove(tx, &target, &["b".to_owned(), "c".to_owned()])).unwrap();
    let target = key.clone();
    let all = world.write(move |_, tx| tag::all(tx, &target)).unwrap();
    assert_eq!(all.into_iter().collect::<Vec<_>>(), [("a".to_owned(), "3".to_owned())]);
    set((1..50).map(|n| tag(&n.to_string(), "")).collect()).unwrap();
    assert!(matches!(set(vec![tag("z", "")]), Err(Error::LimitExceeded { .. })));
    set(vec![tag("a", "again")]).unwrap();
}

fn policy(principal: &serde_json::Value, action: &str) -> String {
    json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": principal, "Action": action, "Resource": "*",
    }] })
    .to_string()
}

#[test]
fn a_policy_must_not_lock_its_writer_out() {
    let world = world();
    let bob = "arn:aws:iam::111111111111:user/bob";
    world.people.add(bob, "AIDABOB000000000");
    let only_bob = policy(&json!({ "AWS": bob }), "kms:*");
    let error = world.try_key("1", Some(&only_bob), LockoutCheck::Required).unwrap_err();
    assert_eq!(
        error.to_string(),
        "The new key policy will not allow you to update the key policy in the future."
    );
    world.try_key("1", Some(&only_bob), LockoutCheck::Bypassed).unwrap();
    let account = json!({ "AWS": "111111111111" });
    world.try_key("1", Some(&policy(&account, "kms:*")), LockoutCheck::Required).unwrap();
    let no_put = policy(&account, "kms:Decrypt");
    assert!(matches!(
        world.try_key("1", Some(&no_put), LockoutCheck::Required),
        Err(Error::MalformedPolicy { .. })
    ));
}

#[test]
fn policies_that_cannot_be_saved() {
    let world = world();
    let message = |text: &str| {
        world.try_key("1", Some(text), LockoutCheck::Bypassed).unwrap_err().to_string()
    };
    let invalid = "Policy contains a statement with one or more invalid principals.";
    for principal in [
        json!({ "AWS": "arn:aws:iam::111111111111:user/nobody" }),
        json!({ "AWS": "999999999999" }),
        json!({ "AWS": "AIDANOBODY000000" }),
        json!({ "AWS": "arn:aws:sts::999999999999:assumed-role/r/s" }),
    ] {
        assert_eq!(message(&policy(&principal, "kms:*")), invalid, "{principal}");
    }
    let long = policy(&json!("*"), &format!("kms:{}", "x".repeat(8000)));
    let long = format!("{long}{}", " ".repeat(kms::policy::POLICY_BYTES_MAX));
    assert_eq!(message(&long), "A key policy may have at most 32768 bytes.");
    assert!(message("{}").contains("Statement"), "{}", message("{}"));
    assert!(message("\u{1}").contains("pattern"));
    let set_operator = json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": "*", "Action": "kms:*", "Resource": "*",
        "Condition": { "ForAllValues:StringEquals": { "kms:EncryptionContext:a": "b" } },
    }] });
    assert!(message(&set_operator.to_string()).starts_with("OverlyPermissiveCondition"));
}

#[test]
fn a_recreated_user_does_not_inherit() {
    let world = world();
    let bob = "arn:aws:iam::111111111111:user/bob";
    world.people.add(bob, "AIDAOLD000000000");
    let root = "arn:aws:iam::111111111111:root";
    let text = policy(&json!({ "AWS": [bob, root] }), "kms:*");
    let key = world.try_key("1", Some(&text), LockoutCheck::Required).unwrap();
    let shown = || {
        let key = key.clone();
        world.write(move |kms, tx| kms.shown_policy(tx, &key)).unwrap()
    };
    assert_eq!(shown(), text);
    world.people.remove(bob);
    world.people.add(bob, "AIDANEW000000000");
    assert!(shown().contains("AIDAOLD000000000") && !shown().contains("user/bob"), "{}", shown());
}

#[test]
fn policy_names() {
    assert!(kms::policy::check_name(None).is_ok());
    assert!(kms::policy::check_name(Some("default")).is_ok());
    let message = |name| kms::policy::check_name(Some(name)).unwrap_err().to_string();
    assert_eq!(message("AWS_RAM"), "The AWS_RAM policy can only be managed by the RAM service.");
    assert_eq!(message("other"), "No such policy exists");
}

#[test]
fn put_policy_replaces() {
    let world = world();
    let key = world.key("1", None);
    let text = policy(&json!({ "AWS": "111111111111" }), "kms:*");
    let (target, saved) = (key.clone(), text.clone());
    world
        .write(move |kms, tx| {
            let root = Principal::root(&target.account);
            let context = Context::new();
            let writer = PolicyWriter {
                principal: &root,
                context: &context,
                lockout: LockoutCheck::Required,
            };
            kms.put_policy(tx, &target, &saved, &writer)
        })
        .unwrap();
    assert_eq!(world.reload(&key).unwrap().policy, text);
}

#[test]
fn arns_of_keys_and_aliases_parse() {
    let arn = alias::arn(&account("1"), &region("us-east-1"), "alias/a");
    assert_eq!(Arn::parse(&arn.to_string()), Some(arn));
}
