//! Scalars as text: form parameters, XML content, path labels, query strings and headers.

use crate::error::{ParameterError, Problem};
use crate::schema::{Kind, TimestampFormat};
use crate::value::{Blob, Value};
use base::Timestamp;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Instants later than the year 9999 have no ISO 8601 text.
const MILLIS_MAX: f64 = 253_402_300_799_999.0;

/// Reads a scalar of a kind. Lists, maps and structures have no text.
pub(crate) fn parse(
    kind: Kind,
    format: TimestampFormat,
    text: &str,
) -> Result<Value, ParameterError> {
    let wrong = |expected| Err(ParameterError::new(Problem::WrongType { expected }));
    match kind {
        Kind::Bool => match text {
            "true" | "True" | "TRUE" => Ok(Value::Bool(true)),
            "false" | "False" | "FALSE" => Ok(Value::Bool(false)),
            _ => Err(ParameterError::invalid(text, "Expected true or false.")),
        },
        Kind::Integer => integer(text, i32::MIN.into(), i32::MAX.into()),
        Kind::Long => integer(text, i64::MIN, i64::MAX),
        Kind::Double => match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Value::Float(number)),
            _ => Err(ParameterError::invalid(text, "Expected a number.")),
        },
        Kind::String | Kind::Enum(_) => Ok(Value::String(text.to_owned())),
        Kind::Blob => match STANDARD.decode(text) {
            Ok(bytes) => Ok(Value::Blob(Blob::from(bytes))),
            Err(_) => Err(ParameterError::new(Problem::WrongType { expected: "base64" })),
        },
        Kind::Timestamp => timestamp(format, text).map(Value::Timestamp),
        Kind::List(_) => wrong("a list"),
        Kind::Map(_) => wrong("a map"),
        Kind::Struct(_) => wrong("a structure"),
    }
}

fn integer(text: &str, min: i64, max: i64) -> Result<Value, ParameterError> {
    match text.parse::<i64>() {
        Ok(number) if (min..=max).contains(&number) => Ok(Value::Int(number)),
        _ => Err(ParameterError::invalid(
            text,
            format!("Expected an integer between {min} and {max}."),
        )),
    }
}

/// Reads an instant in one format.
pub(crate) fn timestamp(format: TimestampFormat, text: &str) -> Result<Timestamp, ParameterError> {
    let read = match format {
        TimestampFormat::Iso8601 => Timestamp::parse_iso(text),
        TimestampFormat::Unix => text.parse().ok().and_then(from_seconds),
    };
    read.ok_or_else(|| ParameterError::invalid(text, "Expected a timestamp."))
}

/// An instant from seconds with a fraction, when the calendar has it.
pub(crate) fn from_seconds(seconds: f64) -> Option<Timestamp> {
    let millis = (seconds * 1000.0).round();
    // The comparison is false for NaN; within the bound the conversion is exact.
    (millis.abs() <= MILLIS_MAX).then_some(Timestamp(millis as i64))
}

/// How much of the second an ISO 8601 text shows.
#[derive(Clone, Copy)]
pub(crate) enum Fraction {
    /// `09:30:00.000Z`: EC2 and the JSON protocols.
    Millis,
    /// `09:30:00Z`: IAM and STS.
    None,
}

/// Writes a scalar; `None` for lists, maps and structures.
pub(crate) fn write(value: &Value, format: TimestampFormat, fraction: Fraction) -> Option<String> {
    Some(match value {
        Value::Bool(truth) => truth.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Blob(blob) => STANDARD.encode(&**blob),
        Value::Timestamp(at) => match (format, fraction) {
            (TimestampFormat::Unix, _) => at.seconds_f64().to_string(),
            (TimestampFormat::Iso8601, Fraction::Millis) => at.iso_millis(),
            (TimestampFormat::Iso8601, Fraction::None) => at.iso_seconds(),
        },
        Value::List(_) | Value::Map(_) | Value::Struct(_) => return None,
    })
}
