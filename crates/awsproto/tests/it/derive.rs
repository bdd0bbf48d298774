//! Structures to and from values.

use crate::shapes::*;
use awsproto::{Fields, FromWire, Problem, Shape, ToWire, Value};
use base::Timestamp;
use std::collections::BTreeMap;

fn everything() -> Everything {
    Everything {
        address: [127, 0, 0, 1].into(),
        maybe_address: None,
        addresses: Some(vec![]),
        address_map: None,
        password: None,
        r#type: Some("t".into()),
        at: None,
        until: Timestamp(5),
        flag: None,
        small: None,
        large: Some(u64::MAX),
        ratio: None,
        bytes: None,
        things: vec![],
        flat: vec![],
        nested: None,
        map: BTreeMap::new(),
    }
}

#[test]
fn absent_and_empty_differ() {
    let value = everything().to_wire().unwrap();
    let fields = value.as_fields().unwrap();
    assert_eq!(fields.get("Addresses"), Some(&Value::List(vec![])));
    assert_eq!(fields.get("Things"), Some(&Value::List(vec![])));
    assert!(fields.get("AddressMap").is_none() && fields.get("Password").is_none());
    let back = Everything::from_wire(value).unwrap();
    assert_eq!(back.addresses, Some(vec![]));
    assert_eq!(back.address_map, None);
    assert_eq!(back.address, everything().address);
}

#[test]
fn names_and_requirements_are_in_the_schema() {
    let names: Vec<_> = Everything::SCHEMA.members.iter().map(|m| m.name).collect();
    assert_eq!(names[4..8], ["Password", "KMSKey", "At", "Until"]);
    let required: Vec<_> =
        Everything::SCHEMA.members.iter().filter(|m| m.required).map(|m| m.name).collect();
    assert_eq!(required, ["Address", "Until"]);
    assert_eq!(CreateVolumeInput::SCHEMA.members.last().unwrap().name, "DryRun");
}

/// What is wrong with a structure of one field, and where.
fn refusal<T: FromWire>(name: &'static str, value: Option<Value>) -> (String, Problem) {
    let mut fields = Fields::default();
    if let Some(value) = value {
        fields.push(name, value);
    }
    let error = T::from_wire(Value::Struct(fields)).err().expect("refused");
    (error.path.join("."), error.problem)
}

#[test]
fn refusals_name_member_and_value() {
    let text = |text: &str| Some(Value::String(text.into()));
    let (path, problem) = refusal::<DeleteVolumeInput>("VolumeId", None);
    assert_eq!((path.as_str(), problem), ("VolumeId", Problem::Missing));
    let mut fields = Fields::default();
    fields.push("VolumeId", Value::String("vol-12345678".into()));
    let input = DeleteVolumeInput::from_wire(Value::Struct(fields)).unwrap();
    assert_eq!(input.volume_id.as_str(), "vol-12345678");
    let (path, problem) = refusal::<DeleteVolumeInput>("VolumeId", text("vol-xyz"));
    assert_eq!(path, "VolumeId");
    assert!(matches!(problem, Problem::Invalid { value, .. } if value == "vol-xyz"));
    let (path, problem) = refusal::<CreateVolumeInput>("VolumeType", text("gp9"));
    assert_eq!(path, "VolumeType");
    assert!(
        matches!(problem, Problem::NotListed { accepted, .. } if accepted == VolumeType::TEXTS)
    );
    let (path, _) = refusal::<Everything>("Address", text("1.2.3"));
    assert_eq!(path, "Address");
    let list = Value::List(vec![Value::String("vol-12345678".into()), Value::String("x".into())]);
    let (path, _) = refusal::<DescribeVolumesInput>("VolumeIds", Some(list));
    assert_eq!(path, "VolumeIds.2");
}

#[derive(Shape)]
struct Confidential {
    #[shape(sensitive, text)]
    home: std::net::Ipv4Addr,
    #[shape(sensitive)]
    kind: VolumeType,
}

#[test]
fn refusals_of_sensitive_members_do_not_repeat_them() {
    let home = Value::String("hunter2".into());
    let (path, problem) = refusal::<Confidential>("Home", Some(home.clone()));
    assert_eq!(path, "Home");
    assert!(!format!("{problem:?}").contains("hunter2"), "{problem:?}");
    let mut fields = Fields::default();
    fields.push("Home", Value::String("1.2.3.4".into()));
    fields.push("Kind", home);
    let problem = Confidential::from_wire(Value::Struct(fields)).err().unwrap().problem;
    assert!(!format!("{problem:?}").contains("hunter2"), "{problem:?}");
}
