//! The bounds that the service models of IAM, KMS and STS put on what requests hold: characters of a text, bytes of a
//! blob, items of a list, the value of a number. They are checked before anything is looked up, as the services do, and
//! for every operation from one table, which `cargo xtask wire models` writes. Patterns are not in it: the crates
//! below know what a name may be made of.

use crate::error::{self, Error};
use crate::pipeline::Spec;
use crate::service::Service;
use awsproto::{Kind, Schema, Value};
use std::collections::HashMap;
use std::sync::OnceLock;

/// `SERVICE OPERATION PATH MIN MAX`, a line each; `-` where there is no maximum.
const TABLE: &str = include_str!("bounds.txt");

struct Bound {
    /// Members from the outside in; `[]` behind a name means each item of the list.
    path: Vec<&'static str>,
    min: u64,
    max: u64,
}

/// What is bounded in a value.
enum Measure {
    /// How many characters, bytes or items.
    Length(u64),
    Value(i64),
}

/// Whether a request is within the bounds of its operation.
///
/// # Errors
/// The service's error for a value that violates its model.
pub(crate) fn check(spec: &Spec, schema: &Schema, input: &Value) -> Result<(), Error> {
    match spec.service {
        Service::Iam | Service::Kms | Service::Sts => {}
        Service::CloudTrail | Service::Ebs | Service::Ec2 | Service::Strongroom => return Ok(()),
    }
    let Some(bounds) = table().get(&(spec.service.info().name, spec.name)) else { return Ok(()) };
    for bound in bounds {
        let mut at = At { service: spec.service, bound, name: String::new(), shown: true };
        at.step(&bound.path, Some(schema), input)?;
    }
    Ok(())
}

fn table() -> &'static HashMap<(&'static str, &'static str), Vec<Bound>> {
    static PARSED: OnceLock<HashMap<(&str, &str), Vec<Bound>>> = OnceLock::new();
    PARSED.get_or_init(|| {
        let mut table: HashMap<_, Vec<Bound>> = HashMap::new();
        for line in TABLE.lines() {
            let [service, operation, path, min, max] =
                <[&str; 5]>::try_from(line.split(' ').collect::<Vec<_>>())
                    .expect("five words a line");
            let number = |text: &str| text.parse().expect("a number");
            let max = if max == "-" { u64::MAX } else { number(max) };
            let bound = Bound { path: path.split('.').collect(), min: number(min), max };
            table.entry((service, operation)).or_default().push(bound);
        }
        table
    })
}

/// A place in a request.
struct At<'a> {
    service: Service,
    bound: &'a Bound,
    /// As messages call it: `tags.1.member.key`.
    name: String,
    /// Whether a message may repeat what is there.
    shown: bool,
}

impl At<'_> {
    fn step(
        &mut self,
        path: &[&'static str],
        schema: Option<&Schema>,
        value: &Value,
    ) -> Result<(), Error> {
        let Some((first, rest)) = path.split_first() else { return self.measure(value) };
        let name = first.trim_end_matches("[]");
        let Some(found) = value.as_fields().and_then(|fields| fields.get(name)) else {
            return Ok(());
        };
        let member = schema.and_then(|schema| schema.member(name));
        let before = self.name.len();
        if before > 0 {
            self.name.push('.');
        }
        let mut letters = name.chars();
        self.name.extend(letters.next().map(|letter| letter.to_ascii_lowercase()));
        self.name.push_str(letters.as_str());
        self.shown &= member.is_some_and(|member| !member.sensitive);
        match (first.ends_with("[]"), found) {
            (false, found) => {
                self.step(rest, member.and_then(|member| structure(&member.kind)), found)?;
            }
            (true, Value::List(items)) => {
                let schema = member.and_then(|member| structure(&member.kind));
                let list = self.name.len();
                for (position, item) in items.iter().enumerate() {
                    self.name.push_str(&format!(".{}.member", position + 1));
                    self.step(rest, schema, item)?;
                    self.name.truncate(list);
                }
            }
            (true, _) => {}
        }
        self.name.truncate(before);
        Ok(())
    }

    fn measure(&self, value: &Value) -> Result<(), Error> {
        let measure = match value {
            Value::String(text) => Measure::Length(text.chars().count() as u64),
            Value::Blob(bytes) => Measure::Length(bytes.len() as u64),
            Value::List(items) => Measure::Length(items.len() as u64),
            Value::Int(number) => Measure::Value(*number),
            Value::Bool(_)
            | Value::Float(_)
            | Value::Timestamp(_)
            | Value::Map(_)
            | Value::Struct(_) => return Ok(()),
        };
        let Bound { min, max, .. } = *self.bound;
        let (what, short, long) = match measure {
            Measure::Length(length) => ("length", length < min, length > max),
            Measure::Value(number) => {
                let signed = |bound: u64| i64::try_from(bound).unwrap_or(i64::MAX);
                ("value", number < signed(min), number > signed(max))
            }
        };
        let wanted = match (short, long) {
            (false, false) => return Ok(()),
            (true, _) => format!("greater than or equal to {min}"),
            (false, true) => format!("less than or equal to {max}"),
        };
        let value = match value {
            Value::String(text) if self.shown => {
                let shown: String = text.chars().take(awsproto::limits::ECHO_BYTES_MAX).collect();
                format!("Value '{shown}'")
            }
            Value::Int(number) => format!("Value '{number}'"),
            _ => "Value".to_owned(),
        };
        let message = format!(
            "1 validation error detected: {value} at '{}' failed to satisfy constraint: Member must \
             have {what} {wanted}",
            self.name
        );
        Err(Error::new(error::invalid_parameter_of(self.service), message))
    }
}

/// The structure that a member, or each of its items, is.
fn structure(kind: &Kind) -> Option<&'static Schema> {
    match kind {
        Kind::Struct(schema) => Some(schema),
        Kind::List(item) => structure(item),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{account, bench, from_json};
    use serde_json::{Map, Value as Json, json};

    /// A value of a kind and length, or of a number.
    fn sized(kind: &Kind, size: u64) -> Json {
        let length = usize::try_from(size).expect("a length");
        match kind {
            Kind::String | Kind::Enum(_) | Kind::Blob => Json::from("a".repeat(length)),
            Kind::Integer | Kind::Long => Json::from(size),
            Kind::List(item) => Json::from(vec![filler(item); length]),
            other => panic!("{other:?} has no bounds"),
        }
    }

    /// A value within whatever bounds there are, for what stands beside the value under test.
    fn filler(kind: &Kind) -> Json {
        match kind {
            Kind::Bool => Json::from(true),
            Kind::Integer | Kind::Long => Json::from(1000),
            Kind::Double => Json::from(1.0),
            Kind::String | Kind::Enum(_) | Kind::Blob => Json::from("a".repeat(20)),
            Kind::Timestamp => Json::from("2030-01-01T00:00:00Z"),
            Kind::List(_) => json!([]),
            Kind::Map(_) | Kind::Struct(_) => json!({}),
        }
    }

    /// A request that holds one value at a path; `None` where the path leads to what is not served.
    fn request(schema: &Schema, path: &[&str], size: u64) -> Option<Json> {
        let (first, rest) = path.split_first()?;
        let member = schema.member(first.trim_end_matches("[]"))?;
        let inside = |kind: &Kind| match (rest.is_empty(), structure(kind)) {
            (true, _) => Some(sized(kind, size)),
            (false, Some(schema)) => request(schema, rest, size),
            (false, None) => None,
        };
        let value = match (first.ends_with("[]"), member.kind) {
            (true, Kind::List(item)) => json!([inside(item)?]),
            (_, kind) => inside(&kind)?,
        };
        Some(Json::Object(Map::from_iter([(member.name.to_owned(), value)])))
    }

    /// Every bound of the table: at the bound no objection, one beyond it an objection, made by the pipeline before
    /// anything else.
    #[tokio::test]
    async fn every_bound_is_kept() {
        let bench = bench().await;
        let call = bench.root(&account(1), "us-east-1");
        let mut tried = 0;
        for operation in crate::registry::of_aws() {
            let (spec, schema) = (operation.spec(), operation.info().input);
            for bound in table().get(&(operation.info().service, spec.name)).into_iter().flatten() {
                let with = |size| Some(from_json(schema, &request(schema, &bound.path, size)?));
                let good = [Some(bound.min), (bound.max < u64::MAX).then_some(bound.max)];
                let bad = [bound.min.checked_sub(1), bound.max.checked_add(1)];
                for value in good.into_iter().flatten().filter_map(with) {
                    let checked = check(spec, schema, &value);
                    assert!(checked.is_ok(), "{} {:?}: {checked:?}", spec.name, bound.path);
                }
                for value in bad.into_iter().flatten().filter_map(with) {
                    let refused = operation.run(&call, value).await.expect_err("out of bounds");
                    let code = error::invalid_parameter_of(spec.service).code;
                    let message = &refused.0.message;
                    assert_eq!(refused.code(), code, "{} {:?}: {message}", spec.name, bound.path);
                    assert!(
                        message.contains("constraint: Member must"),
                        "{}: {message}",
                        spec.name
                    );
                    tried += 1;
                }
            }
        }
        assert!(tried > 500, "{tried}");
    }

    #[test]
    fn messages_name_the_place_and_no_secret() {
        let refused = |service, operation, input: Json| {
            let operation = crate::registry::find(service, operation).expect("served");
            let schema = operation.info().input;
            let refused = check(operation.spec(), schema, &from_json(schema, &input));
            refused.expect_err("out of bounds").0.message
        };
        let long = "k".repeat(129);
        let input = json!({ "Tags": [{ "Key": "a", "Value": "" }, { "Key": long, "Value": "" }] });
        assert_eq!(
            refused(Service::Iam, "CreateUser", input),
            format!(
                "1 validation error detected: Value '{long}' at 'tags.2.member.key' failed to satisfy \
                 constraint: Member must have length less than or equal to 128"
            )
        );
        let input = json!({ "Password": "secret".repeat(22) });
        assert!(!refused(Service::Iam, "CreateLoginProfile", input).contains("secret"));
        let input = json!({ "NumberOfBytes": 1025 });
        assert!(
            refused(Service::Kms, "GenerateRandom", input).contains("'1025' at 'numberOfBytes'")
        );
    }
}
