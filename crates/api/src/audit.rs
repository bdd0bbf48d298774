//! The trail record of a call, built by the code that decides and acts.

use crate::call::Call;
use crate::error::Error;
use crate::pipeline::{Ask, Spec};
use awsproto::{Schema, Value};
use std::sync::Mutex;

/// What an operation adds to its record: `additionalEventData` and the resources it found.
#[derive(Default)]
pub struct Notes(Mutex<serde_json::Map<String, serde_json::Value>>);

impl Notes {
    /// Adds a member of `additionalEventData`, for example `keyMaterialId`.
    pub fn add(&self, name: &str, value: impl Into<serde_json::Value>) {
        let mut notes = self.0.lock().expect("no code panics while it holds the notes");
        notes.insert(name.to_owned(), value.into());
    }
}

/// The record while the call runs.
pub struct Entry {
    resources: Vec<String>,
    denied: bool,
}

impl Entry {
    pub(crate) fn new(_call: &Call, _spec: &Spec, _input: &Value, _schema: &Schema) -> Self {
        Self { resources: Vec::new(), denied: false }
    }

    pub(crate) fn resources(&mut self, asks: &[Ask]) {
        self.resources = asks.iter().map(|ask| ask.resource.clone()).collect();
    }

    pub(crate) fn denied(&mut self) {
        self.denied = true;
    }
}

pub(crate) async fn begin(_call: &Call, _entry: &mut Entry) -> Result<(), Error> {
    Ok(())
}

pub(crate) async fn finish(
    _call: &Call,
    _entry: Entry,
    _reply: Result<Value, &Error>,
    _schema: &Schema,
) -> Result<(), Error> {
    Ok(())
}
