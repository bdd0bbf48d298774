//! What the host asks of the server: Strongroom's own operations, and KMS on its grant. All requests
//! are signed with the host's credentials.

use super::endpoint::{Endpoint, HttpReply, within};
use super::signed::{CallError, Credentials, SignedApi, secret};
use crate::exit::Failure;
use base::{Secret, VolumeId};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lifecycle::port::host::Force;
use remote::wire::PROTOCOL;
use remote::{BoxFuture, Dial, DialError, Stream};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

const STRONGROOM_TARGET: &str = "Strongroom_20261126";
const KMS_TARGET: &str = "TrentService";
/// How long dialling may take: less than the link waits for it, so that it can be said what it waited for.
const DIAL_TIME_MAX: Duration = Duration::from_secs(4);
/// Reasons told of one time without a connection.
const REASONS_TOLD_MAX: usize = 8;
/// Letters of a server's refusal that are shown.
const REFUSAL_LETTERS_MAX: usize = 400;
/// The pause before saying again that the volume is open.
const COMPLETE_PAUSE: Duration = Duration::from_millis(500);
/// How often it is said to a server that answers, and does not take it: for half a minute.
const COMPLETE_REFUSALS_MAX: u32 = 60;
/// What the server answers while another agent may have the volume.
const HELD: &str = "AttachmentHeldException";
/// What it answers when a newer opening has the volume, or it is being detached.
const FENCED: &str = "FencedException";
/// What it answers when the volume is not attached here any more.
const NOT_ATTACHED: &str = "AttachmentNotFoundException";

/// An attachment the server has opened for this host.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Opened {
    pub(crate) device: String,
    pub(crate) instance_id: String,
    pub(crate) epoch: u64,
    ticket: String,
    #[serde(default)]
    encryption_context: Value,
    kms_key_id: Option<String>,
    wrapped_key: Option<String>,
    base_wrapped_key: Option<String>,
}

impl CallError {
    /// Whether the server says that the volume is not this machine's.
    fn is_final(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if code == FENCED || code == NOT_ATTACHED)
    }
}

impl Opened {
    /// The device without its folder, as exports are named.
    pub(crate) fn device_name(&self) -> &str {
        self.device.strip_prefix("/dev/").unwrap_or(&self.device)
    }

    /// What KMS is asked to decrypt; `None` for a volume without a KMS key.
    pub(crate) fn unwrap_with(&self) -> Option<Value> {
        self.wrapped_key.as_deref().map(|wrapped| self.decrypt_of(wrapped))
    }

    /// The same for the key of a base that is not yet sealed under the volume's.
    pub(crate) fn unwrap_base_with(&self) -> Option<Value> {
        self.base_wrapped_key.as_deref().map(|wrapped| self.decrypt_of(wrapped))
    }

    fn decrypt_of(&self, wrapped: &str) -> Value {
        json!({
            "CiphertextBlob": wrapped,
            "KeyId": self.kms_key_id,
            "EncryptionContext": self.encryption_context,
        })
    }
}

/// The host's side of the API, for one volume.
pub(crate) struct HostApi {
    api: SignedApi,
    volume: VolumeId,
}

impl HostApi {
    pub(crate) fn new(endpoint: Endpoint, credentials: Credentials, volume: VolumeId) -> Self {
        Self { api: SignedApi::new(endpoint, credentials), volume }
    }

    /// Takes the volume under a new epoch; `None` while another agent may still have it. The server
    /// waits for that one for a while before it says so.
    pub(crate) async fn open(&self, force: Force) -> Result<Option<Opened>, Failure> {
        let mut input = json!({ "VolumeId": self.volume.as_str() });
        if force == Force::Yes {
            // Servers of earlier releases, which always did so, do not know it.
            input["Force"] = json!(true);
        }
        let reply = self.api.call("strongroom", STRONGROOM_TARGET, "OpenAttachment", &input).await;
        match reply {
            Ok(reply) => serde_json::from_slice(&reply).map(Some).map_err(Failure::failed),
            Err(CallError::Refused { code, .. }) if code == HELD => Ok(None),
            Err(error) => Err(error.failure("opening the attachment")),
        }
    }

    /// Has KMS unwrap a data key. A refusal is reported.
    pub(crate) async fn decrypt(
        &self,
        epoch: u64,
        input: Value,
    ) -> Result<Secret<[u8; 64]>, Failure> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Decrypted {
            #[serde(deserialize_with = "secret")]
            plaintext: Secret<String>,
        }
        let reply = self.api.call("kms", KMS_TARGET, "Decrypt", &input).await;
        if let Err(CallError::Refused { status: 400..500, .. }) = &reply {
            let reported = self.completed(epoch, "key-refused").await;
            if let Err(error) = reported {
                eprintln!("{}", error.failure("reporting that the key was refused"));
            }
        }
        let reply = Secret::new(reply.map_err(|error| error.failure("unwrapping the data key"))?);
        let decrypted: Decrypted =
            serde_json::from_slice(reply.expose()).map_err(Failure::failed)?;
        let mut key = Secret::new([0; 64]);
        match STANDARD.decode_slice(decrypted.plaintext.expose(), key.expose_mut()) {
            Ok(64) => Ok(key),
            _ => Err(Failure::failed("the data key does not have 64 bytes")),
        }
    }

    /// Reports that the volume is open and served. A server that cannot be reached is asked again, one that
    /// refuses without saying that the volume is another's for a while: whether it is still this machine's
    /// then is for the link to say.
    pub(crate) async fn complete(&self, epoch: u64) -> Result<(), Failure> {
        let mut refusals = 0;
        let mut is_told = false;
        loop {
            let error = match self.completed(epoch, "opened").await {
                Ok(_) => return Ok(()),
                Err(CallError::Unreachable(error)) => error.to_string(),
                Err(error @ CallError::Refused { .. }) => {
                    refusals += 1;
                    if error.is_final() || refusals > COMPLETE_REFUSALS_MAX {
                        return Err(error.failure("completing the attachment"));
                    }
                    error.failure("completing the attachment").to_string()
                }
            };
            if !std::mem::replace(&mut is_told, true) {
                tracing::warn!(%error, "the server does not hear that the volume is open; asking again");
            }
            tokio::time::sleep(COMPLETE_PAUSE).await;
        }
    }

    async fn completed(&self, epoch: u64, outcome: &str) -> Result<Vec<u8>, CallError> {
        let volume = self.volume.as_str();
        let input = json!({ "VolumeId": volume, "Epoch": epoch, "Outcome": outcome });
        self.api.call("strongroom", STRONGROOM_TARGET, "CompleteAttachment", &input).await
    }

    /// Makes the connections of an opened attachment.
    pub(crate) fn dialler(self: Arc<Self>, opened: &Opened) -> Arc<dyn Dial> {
        let first = Mutex::new(Some(opened.ticket.clone()));
        Arc::new(Dialler { api: self, epoch: opened.epoch, first, told: Mutex::default() })
    }
}

/// The first connection uses the ticket that came with the opening, later ones ask for their own.
struct Dialler {
    api: Arc<HostApi>,
    epoch: u64,
    first: Mutex<Option<String>>,
    /// Why there was no connection since the last one, each reason once.
    told: Mutex<Vec<String>>,
}

impl Dialler {
    async fn ticket(&self) -> Result<String, DialError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Resumed {
            ticket: String,
        }
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(first) = first {
            return Ok(first);
        }
        let input = json!({ "VolumeId": self.api.volume.as_str(), "Epoch": self.epoch });
        let reply =
            self.api.api.call("strongroom", STRONGROOM_TARGET, "ResumeAttachment", &input).await;
        let resumed: Result<Resumed, _> = serde_json::from_slice(&reply.map_err(not_resumed)?);
        // It was cut off, or is of something in between.
        resumed
            .map(|resumed| resumed.ticket)
            .map_err(|error| DialError::Unreachable(format!("no reply to the call: {error}")))
    }
}

/// What a refusal of a ticket means. Only what says that the volume is another's is final: everything else
/// may come from something in between, or pass as a clock that is not set yet does, while the lease runs.
fn not_resumed(error: CallError) -> DialError {
    match error {
        CallError::Unreachable(error) => DialError::Unreachable(error.to_string()),
        CallError::Refused { code, .. } if code == FENCED => DialError::Fenced,
        CallError::Refused { code, message, .. } if code == NOT_ATTACHED => {
            DialError::Refused(format!("{code}: {message}"))
        }
        CallError::Refused { code, message, status } => {
            DialError::Unreachable(format!("HTTP status {status} {code}: {message}"))
        }
    }
}

impl Dialler {
    async fn connect(&self) -> Result<Box<dyn Stream>, DialError> {
        let ticket = self.ticket().await?;
        let head = format!(
            "GET / HTTP/1.1\r\nhost: {}\r\nconnection: upgrade\r\nupgrade: {PROTOCOL}\r\n\
             strongroom-ticket: {ticket}\r\n\r\n",
            self.api.api.endpoint.authority()
        );
        match self.api.api.endpoint.upgrade(&head).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(reply)) => Err(not_upgraded(&reply)),
            Err(error) => Err(DialError::Unreachable(error.to_string())),
        }
    }

    /// Says why there is no connection. It is dialled several times a second: each reason once.
    fn tell(&self, reason: &str) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() < REASONS_TOLD_MAX && told.iter().all(|earlier| earlier != reason) {
            tracing::warn!(reason, "no connection to the server yet; dialling on");
            told.push(reason.to_owned());
        }
    }
}

/// What a server's refusal to switch to the channel means.
fn not_upgraded(HttpReply { status, body }: &HttpReply) -> DialError {
    match status {
        // It speaks another version, and says which.
        426 => {
            let words = String::from_utf8_lossy(body);
            let words = words.chars().filter(|letter| !letter.is_control());
            DialError::Refused(words.take(REFUSAL_LETTERS_MAX).collect())
        }
        // The ticket may have expired on the way; the next one decides.
        403 => DialError::Unreachable("the ticket was not taken (HTTP status 403)".to_owned()),
        // Servers before this version answer so what they do not know.
        400..500 => DialError::Unreachable(format!(
            "HTTP status {status}; the server may speak another version of the attachment channel than \
             {PROTOCOL}: agent and server are upgraded together"
        )),
        _ => DialError::Unreachable(format!("HTTP status {status}")),
    }
}

impl Dial for Dialler {
    fn dial(&self) -> BoxFuture<'_, Result<Box<dyn Stream>, DialError>> {
        Box::pin(async move {
            let is_first = self.first.lock().unwrap_or_else(PoisonError::into_inner).is_some();
            let dialled = within(DIAL_TIME_MAX, async { Ok(self.connect().await) }).await;
            let dialled =
                dialled.unwrap_or_else(|late| Err(DialError::Unreachable(late.to_string())));
            match &dialled {
                Ok(_) => self.told.lock().unwrap_or_else(PoisonError::into_inner).clear(),
                // Without a first connection the process ends, and says why.
                Err(DialError::Unreachable(reason)) if !is_first => self.tell(reason),
                Err(_) => {}
            }
            dialled
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attach::HttpPolicy;
    use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

    #[test]
    fn a_server_of_another_version_is_not_dialled_again() {
        let refused =
            |status, body: &[u8]| not_upgraded(&HttpReply { status, body: body.to_vec() });
        let of_another = refused(426, b"it speaks \x1b[1mstrongroom-attach/9\n");
        let DialError::Refused(words) = of_another else { panic!("{of_another}") };
        assert_eq!(words, "it speaks [1mstrongroom-attach/9", "no control of the terminal");
        // One that does not know that there are versions may be another the next time.
        let earlier = refused(404, b"");
        assert!(matches!(&earlier, DialError::Unreachable(why) if why.contains(PROTOCOL)));
        assert!(matches!(refused(403, b""), DialError::Unreachable(_)));
        assert!(matches!(refused(503, b""), DialError::Unreachable(_)));
    }

    /// A server that gives each call the next of some replies, and ends the connection.
    async fn api(replies: &'static [&'static str]) -> Arc<HostApi> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            for reply in replies {
                let mut stream = BufReader::new(listener.accept().await.unwrap().0);
                let mut length = 0;
                loop {
                    let mut line = String::new();
                    stream.read_line(&mut line).await.unwrap();
                    match line.trim_end().split_once(": ") {
                        Some(("content-length", value)) => length = value.parse().unwrap(),
                        None if line.trim_end().is_empty() => break,
                        _ => {}
                    }
                }
                stream.read_exact(&mut vec![0; length]).await.unwrap();
                stream.write_all(reply.as_bytes()).await.unwrap();
            }
        });
        let endpoint = Endpoint::new(&url, None, HttpPolicy::Loopback).unwrap();
        let credentials = r#"{"AccessKeyId":"AK","SecretAccessKey":"s","Region":"us-east-1"}"#;
        let credentials = serde_json::from_str(credentials).unwrap();
        Arc::new(HostApi::new(endpoint, credentials, VolumeId::parse("vol-00000001").unwrap()))
    }

    #[tokio::test]
    async fn only_what_says_so_takes_a_volume_away() {
        let replies = &[
            "HTTP/1.1 407 Proxy\r\ncontent-length: 5\r\n\r\nlogin",
            "HTTP/1.1 404 None\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 400 Bad\r\n\r\n{\"__type\":\"InvalidSignatureException\",\"message\":\"late\"}",
            "HTTP/1.1 500 Own\r\n\r\n{\"__type\":\"InternalFailure\"}",
            "HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\n{\"Ticket\":",
            "HTTP/1.1 200 OK\r\n\r\n<html>",
            "HTTP/1.1 409 No\r\n\r\n{\"__type\":\"FencedException\"}",
            "HTTP/1.1 404 No\r\n\r\n{\"__type\":\"AttachmentNotFoundException\"}",
            "HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\n{\"Ticket\":\"t\"}",
        ];
        let first = Mutex::new(None);
        let dialler = Dialler { api: api(replies).await, epoch: 1, first, told: Mutex::default() };
        for reply in &replies[..6] {
            let passing = dialler.ticket().await;
            assert!(matches!(passing, Err(DialError::Unreachable(_))), "{reply}: {passing:?}");
        }
        assert!(matches!(dialler.ticket().await, Err(DialError::Fenced)));
        assert!(matches!(dialler.ticket().await, Err(DialError::Refused(_))));
        assert_eq!(dialler.ticket().await.unwrap(), "t");
    }

    #[tokio::test]
    async fn a_server_in_trouble_is_told_again_that_a_volume_is_open() {
        let replies = &[
            "HTTP/1.1 500 Own\r\n\r\n{\"__type\":\"InternalFailure\"}",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
            "HTTP/1.1 409 No\r\n\r\n{\"__type\":\"FencedException\"}",
        ];
        let api = api(replies).await;
        assert!(api.complete(1).await.is_ok(), "its device is closed");
        assert!(api.complete(1).await.is_err());
    }

    fuzz::target!(
        /// What a server answers to a host that opens an attachment.
        opened_attachments,
        vec![
            br#"{"Device":"/dev/sdf","InstanceId":"i-0123456789abcdef0","Epoch":7,"Ticket":"t",
                "EncryptionContext":{"aws:ebs:id":"vol-1"},"KmsKeyId":"k","WrappedKey":"AQ=="}"#
                .to_vec(),
            br#"{"Device":"/dev/sdf","InstanceId":"i-0123456789abcdef0","Epoch":7,"Ticket":"t",
                "EncryptionContext":{"aws:ebs:id":"vol-1"},"KmsKeyId":"k","WrappedKey":"AQ==",
                "BaseWrappedKey":"Ag=="}"#
                .to_vec(),
            br#"{"Device":"","InstanceId":"","Epoch":0,"Ticket":""}"#.to_vec(),
        ],
        |bytes: &[u8]| {
            let Ok(opened) = serde_json::from_slice::<Opened>(bytes) else { return };
            // What KMS is asked is what the server said, for either key or none.
            for (asked, wrapped) in [
                (opened.unwrap_with(), &opened.wrapped_key),
                (opened.unwrap_base_with(), &opened.base_wrapped_key),
            ] {
                assert_eq!(asked.is_some(), wrapped.is_some());
                let Some(asked) = asked else { continue };
                assert_eq!(asked["CiphertextBlob"].as_str(), wrapped.as_deref());
                assert_eq!(asked["KeyId"].as_str(), opened.kms_key_id.as_deref());
                assert_eq!(asked["EncryptionContext"], opened.encryption_context);
            }
        }
    );
}
