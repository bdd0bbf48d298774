//! The shape of an audit record: a CloudTrail event, its members in CloudTrail's order (spec 20, D.1).

use crate::decisions::Decisions;
use crate::identity::UserIdentity;
use crate::scrub::{self, is_to_be_scrubbed, scrub};
use base::{AccountId, Region, Rng, Timestamp, id};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// The version of the shape.
pub const EVENT_VERSION: &str = "1.11";
/// Request parameters and response elements longer than this are left out, as CloudTrail does.
pub const ELEMENT_BYTES_MAX: usize = 100 * 1024;
/// Room for the text of an ordinary record, which then does not move while it grows.
const TEXT_BYTES: usize = 4096;
/// Where the id of the recorded decision stands, under `additionalEventData`: our extension.
pub const EXPLAIN_ID: &str = "explainId";

/// Whether an event belongs to the control plane or to the data plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Category {
    /// What LookupEvents lists.
    Management,
    /// Reads and writes of blocks; kept, not listed by LookupEvents.
    Data,
}

/// A resource that a call was about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resource {
    /// The owner.
    pub account_id: AccountId,
    /// `AWS::KMS::Key`, `AWS::EC2::Snapshot`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The resource's ARN.
    #[serde(rename = "ARN")]
    pub arn: String,
}

/// What is known of a call before it acts.
#[derive(Clone, Debug)]
pub struct Call {
    /// A new UUID.
    pub event_id: String,
    /// When the call arrived.
    pub time: Timestamp,
    /// The region that was called.
    pub region: Region,
    /// The account whose trail the record belongs to.
    pub recipient: AccountId,
    /// Who called.
    pub identity: UserIdentity,
    /// `kms.amazonaws.com`.
    pub event_source: String,
    /// The operation.
    pub event_name: String,
    /// The peer's address, or the service that called.
    pub source_ip: String,
    /// The client's `User-Agent`, or the service that called.
    pub user_agent: String,
    /// The id the caller got with the answer.
    pub request_id: String,
    /// Whether the operation changes nothing.
    pub read_only: bool,
    /// Control plane or data plane.
    pub category: Category,
}

/// An audit record.
///
/// Key material and credentials cannot get in: [`Record::to_json`] drops such members and, in debug
/// builds, panics, because handing them over is a defect of the caller.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    event_version: String,
    user_identity: UserIdentity,
    #[serde(with = "iso_seconds")]
    event_time: Timestamp,
    event_source: String,
    event_name: String,
    aws_region: Region,
    #[serde(rename = "sourceIPAddress")]
    source_ip_address: String,
    user_agent: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_message: Option<String>,
    request_parameters: Value,
    response_elements: Value,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    additional_event_data: Map<String, Value>,
    #[serde(rename = "requestID", skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    #[serde(rename = "eventID")]
    event_id: String,
    read_only: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    resources: Vec<Resource>,
    event_type: String,
    management_event: bool,
    recipient_account_id: AccountId,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_event_details: Option<Value>,
    #[serde(rename = "sharedEventID", skip_serializing_if = "Option::is_none")]
    shared_event_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vpc_endpoint_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vpc_endpoint_account_id: Option<String>,
    event_category: Category,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_details: Option<Value>,
    #[serde(default, rename = "strongroomDecisions", skip_serializing_if = "Option::is_none")]
    decisions: Option<Decisions>,
}

impl Record {
    /// A call of an operation.
    pub fn api_call(call: Call) -> Self {
        Self {
            event_version: EVENT_VERSION.to_owned(),
            user_identity: call.identity,
            event_time: call.time,
            event_source: call.event_source,
            event_name: call.event_name,
            aws_region: call.region,
            source_ip_address: call.source_ip,
            user_agent: call.user_agent,
            error_code: None,
            error_message: None,
            request_parameters: Value::Null,
            response_elements: Value::Null,
            additional_event_data: Map::new(),
            request_id: Some(call.request_id),
            event_id: call.event_id,
            read_only: call.read_only,
            resources: Vec::new(),
            event_type: "AwsApiCall".to_owned(),
            management_event: call.category == Category::Management,
            recipient_account_id: call.recipient,
            service_event_details: None,
            shared_event_id: None,
            vpc_endpoint_id: None,
            vpc_endpoint_account_id: None,
            event_category: call.category,
            tls_details: None,
            decisions: None,
        }
    }

    /// Something a service did by itself: `RotateKey`, `DeleteKey` (spec 20, D.1, "AwsServiceEvent").
    /// The identity, address and request id of `call` are replaced: nobody asked.
    pub fn service_event(call: Call, details: Value) -> Self {
        let identity = UserIdentity::internal(&call.recipient);
        let internal = || "AWS Internal".to_owned();
        let call = Call { identity, source_ip: internal(), user_agent: internal(), ..call };
        Self {
            event_type: "AwsServiceEvent".to_owned(),
            request_id: None,
            service_event_details: Some(details),
            ..Self::api_call(call)
        }
    }

    /// Adds the request, in the service's casing.
    #[must_use]
    pub fn with_request(mut self, parameters: Value) -> Self {
        self.request_parameters = parameters;
        self
    }

    /// Adds the response, for operations whose response is recorded.
    #[must_use]
    pub fn with_response(mut self, elements: Value) -> Self {
        self.response_elements = elements;
        self
    }

    /// Adds the resources the call was about.
    #[must_use]
    pub fn with_resources(mut self, resources: Vec<Resource>) -> Self {
        self.resources = resources;
        self
    }

    /// [`Record::with_resources`] in place.
    pub fn set_resources(&mut self, resources: Vec<Resource>) {
        self.resources = resources;
    }

    /// Adds a member of `additionalEventData`, such as `grantId` or `keyMaterialId`.
    #[must_use]
    pub fn with_additional(mut self, name: &str, value: &str) -> Self {
        self.additional_event_data.insert(name.to_owned(), json!(value));
        self
    }

    /// Names the recorded decision, so that the caller can ask to have it explained.
    #[must_use]
    pub fn with_explain_id(self, id: &str) -> Self {
        self.with_additional(EXPLAIN_ID, id)
    }

    /// Keeps what was decided about the call beside it, in the same row. It is for whoever may ask
    /// why: [`crate::lookup`] shows records without it.
    pub fn keep_decisions(&mut self, decisions: &impl Serialize, explain_id: &str) {
        self.decisions = Some(Decisions::new(decisions));
        self.additional_event_data.insert(EXPLAIN_ID.to_owned(), json!(explain_id));
    }

    /// What [`Record::keep_decisions`] kept, as JSON; `None` when nothing was decided.
    pub fn decisions(&self) -> Option<&str> {
        self.decisions.as_ref().map(Decisions::text)
    }

    /// Marks a call that came through a service's own network.
    #[must_use]
    pub fn with_internal_endpoint(mut self) -> Self {
        self.vpc_endpoint_id = Some("AWS Internal".to_owned());
        self.vpc_endpoint_account_id = Some("AWS Internal".to_owned());
        self
    }

    /// Ties the records of one call in several trails together.
    #[must_use]
    pub fn with_shared_event_id(mut self, id: &str) -> Self {
        self.shared_event_id = Some(id.to_owned());
        self
    }

    /// The call failed; `code` is the exception's name, or `Client.…`/`Server.…` for EC2.
    #[must_use]
    pub fn failed(mut self, code: &str, message: &str) -> Self {
        self.error_code = Some(code.to_owned());
        self.error_message = Some(message.to_owned());
        self.response_elements = Value::Null;
        self
    }

    /// KMS refused the caller: neither parameters nor resources are recorded (spec 20, D.1, "Denied").
    #[must_use]
    pub fn denied(mut self, message: &str) -> Self {
        self.request_parameters = Value::Null;
        self.resources = Vec::new();
        self.failed("AccessDenied", message)
    }

    /// The copy for the account that owns a resource of this call. Both copies get the same
    /// `sharedEventID`; the owner does not learn the caller's ARN (spec 20, D.1, "Cross-account"), nor
    /// what the caller's policies say.
    pub fn share_with(&mut self, owner: &AccountId, rng: &dyn Rng) -> Self {
        let shared = self.shared_event_id.get_or_insert_with(|| id::uuid(rng)).clone();
        Self {
            event_id: id::uuid(rng),
            user_identity: self.user_identity.seen_from_outside(),
            recipient_account_id: owner.clone(),
            shared_event_id: Some(shared),
            decisions: None,
            ..self.clone()
        }
    }

    /// The record as it is stored and shown, without key material and credentials.
    pub fn to_json(&self) -> String {
        let text = self.text();
        // What is short as a whole has no part that is too long.
        if text.len() <= ELEMENT_BYTES_MAX && !self.holds_secrets() {
            return text;
        }
        let mut record = self.clone();
        limit("requestParameters", &mut record.request_parameters);
        limit("responseElements", &mut record.response_elements);
        let mut additional = Value::Object(std::mem::take(&mut record.additional_event_data));
        let mut dropped = scrub(&mut record.request_parameters);
        dropped += scrub(&mut record.response_elements) + scrub(&mut additional);
        dropped += record.service_event_details.as_mut().map_or(0, scrub);
        debug_assert_eq!(dropped, 0, "{}: the record holds secrets", record.event_name);
        if let Value::Object(members) = additional {
            record.additional_event_data = members;
        }
        record.text()
    }

    fn text(&self) -> String {
        let mut text = Vec::with_capacity(TEXT_BYTES);
        serde_json::to_writer(&mut text, self)
            .expect("a record has only text keys and finite numbers");
        String::from_utf8(text).expect("JSON is UTF-8")
    }

    fn holds_secrets(&self) -> bool {
        let elements = [&self.request_parameters, &self.response_elements];
        elements.into_iter().chain(&self.service_event_details).any(is_to_be_scrubbed)
            || self
                .additional_event_data
                .iter()
                .any(|(name, value)| scrub::is_forbidden(name) || is_to_be_scrubbed(value))
    }

    /// The record's own id.
    pub fn event_id(&self) -> &str {
        &self.event_id
    }

    /// When the call arrived.
    pub fn time(&self) -> Timestamp {
        self.event_time
    }

    /// The region that was called.
    pub fn region(&self) -> &Region {
        &self.aws_region
    }

    /// The account whose trail the record belongs to.
    pub fn recipient(&self) -> &AccountId {
        &self.recipient_account_id
    }

    /// The id the caller got with the answer; nobody asked for what a service did by itself.
    pub fn request_id(&self) -> Option<&str> {
        self.request_id.as_deref()
    }

    /// The id that [`Record::keep_decisions`] was given, also in copies for owners of resources.
    pub fn explain_id(&self) -> Option<&str> {
        self.additional_event_data.get(EXPLAIN_ID).and_then(Value::as_str)
    }

    /// Why the call failed: code and message.
    pub fn error(&self) -> Option<(&str, &str)> {
        let code = self.error_code.as_deref()?;
        Some((code, self.error_message.as_deref().unwrap_or_default()))
    }

    /// The operation.
    pub fn event_name(&self) -> &str {
        &self.event_name
    }

    /// The service.
    pub fn event_source(&self) -> &str {
        &self.event_source
    }

    /// Who called.
    pub fn identity(&self) -> &UserIdentity {
        &self.user_identity
    }

    /// Whether the operation changes nothing.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Control plane or data plane.
    pub fn category(&self) -> Category {
        self.event_category
    }

    /// The resources the call was about.
    pub fn resources(&self) -> &[Resource] {
        &self.resources
    }

    /// As readers of the trail see it.
    pub(crate) fn without_decisions(mut self) -> Self {
        self.decisions = None;
        self
    }

    pub(crate) fn at(mut self, time: Timestamp) -> Self {
        self.event_time = time;
        self
    }
}

/// Replaces an element that is too long by a note, in CloudTrail's words.
fn limit(name: &str, element: &mut Value) {
    let size = if element.is_null() { 0 } else { element.to_string().len() };
    if size > ELEMENT_BYTES_MAX {
        let reason = format!("{name} too large");
        *element = json!({"omitted": true, "originalSize": size, "reason": reason});
    }
}

/// Times in records have whole seconds.
pub(crate) mod iso_seconds {
    use base::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(
        time: &Timestamp,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&time.iso_seconds())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Timestamp, D::Error> {
        let text = String::deserialize(deserializer)?;
        Timestamp::parse_iso(&text).ok_or_else(|| D::Error::custom("not an instant"))
    }
}
