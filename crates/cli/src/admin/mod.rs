//! `strongroom admin`: asks the running server over a unix socket in its data directory.
//!
//! The socket has mode 0600 and is the only way in: whoever may open it runs the server. Nothing
//! here is reachable over the network.

mod attachments;
mod backup;
pub(crate) mod check;
mod events;
pub(crate) mod handlers;
mod hosts;
mod initializations;
mod nbd;
mod root;
pub(crate) mod socket;

pub(crate) use backup::RecoverySource;

use crate::args::{AccountCommand, AdminCommand, AdminOptions, HostCommand};
use crate::exit::{EXIT_NO_SERVER, Failure};
use crate::seal::SealSource;
use base::Timestamp;
use lifecycle::check::{Mode, Target};
use lifecycle::collections::Line;
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// A request on the admin socket: one JSON object a line.
#[derive(Serialize, Deserialize, Debug)]
#[serde(tag = "op", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Request {
    AccountCreate {
        name: String,
    },
    AccountList,
    HostCreate {
        account: String,
        az: String,
        name: Option<String>,
        #[serde(default)]
        remote: bool,
    },
    HostCredentials {
        instance: String,
    },
    Env {
        account: String,
    },
    NbdCredentials {
        instance: String,
        device: String,
    },
    OidcKeys {
        account: String,
        url: String,
        /// A JSON web key set; absent to have it fetched.
        keys: Option<String>,
    },
    Trail(TrailQuery),
    Check(CheckRequest),
    Collections {
        region: String,
        limit: u32,
    },
    Usage {
        region: String,
    },
    Twins {
        region: String,
    },
    Initializations {
        region: String,
    },
    Attachments {
        region: String,
    },
    Events {
        account: Option<String>,
        region: String,
        limit: u32,
    },
    SealRotate {
        to: SealSource,
    },
    DomainKeyRotate {
        region: Option<String>,
    },
    DomainKeyStatus,
    BackupCreate {
        to: PathBuf,
        recovery: RecoverySource,
    },
}

/// What to check, and how.
#[derive(Serialize, Deserialize, Debug, Clone)]
pub(crate) struct CheckRequest {
    pub(crate) target: Target,
    pub(crate) mode: Mode,
    /// Bytes read per second at most; absent for as fast as possible.
    pub(crate) rate_bytes: Option<u64>,
}

/// How far a check is.
#[derive(Serialize, Deserialize, Debug, Clone, Default)]
pub(crate) struct CheckProgress {
    /// What is being checked.
    pub(crate) id: String,
    /// Its number among all, from 0.
    pub(crate) number: u64,
    pub(crate) total: u64,
    /// Bytes read so far.
    pub(crate) bytes: u64,
}

/// Which records of the trail to return.
#[derive(Serialize, Deserialize, Debug)]
pub(crate) struct TrailQuery {
    pub(crate) account: Option<String>,
    pub(crate) region: Option<String>,
    pub(crate) event: Option<String>,
    pub(crate) failed: bool,
    pub(crate) limit: u32,
}

/// The answer: `ok` with a value, or `error` with a sentence; before it, any number of lines that
/// say how far a long request is.
#[derive(Serialize, Deserialize, Debug)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Reply {
    Progress(CheckProgress),
    Ok(serde_json::Value),
    Error(String),
}

/// A line of `usage --json`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct UsageLine {
    /// `early-delete`.
    pub(crate) kind: String,
    pub(crate) account_id: String,
    pub(crate) snapshot_id: String,
    pub(crate) ended_ms: i64,
    pub(crate) hours: u32,
    pub(crate) bytes: u64,
}

/// A line of `twins --json`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct TwinLine {
    /// Absent once no new volume is made with it.
    pub(crate) snapshot_id: Option<String>,
    /// The snapshot's owner; absent with it.
    pub(crate) account_id: Option<String>,
    /// Percent of it that is made and proven.
    pub(crate) progress: u32,
    /// The volumes that read it.
    pub(crate) volumes: Vec<String>,
}

/// A new account with its root credentials, as `account create --json` prints it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct NewAccount {
    pub(crate) account_id: String,
    pub(crate) access_key_id: String,
    pub(crate) secret_access_key: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct AccountRow {
    pub(crate) account_id: String,
    pub(crate) name: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct NewHost {
    pub(crate) instance_id: String,
    /// Of a host that attaches its volumes itself.
    #[serde(flatten)]
    pub(crate) credentials: Option<HostCredentials>,
}

/// What `strongroom attach --credentials` takes, beside the instance id.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct HostCredentials {
    pub(crate) region: String,
    pub(crate) access_key_id: String,
    pub(crate) secret_access_key: String,
}

/// What opens an attachment over TLS: three PEM texts, and where to use them.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct NbdCredentials {
    pub(crate) authority: String,
    pub(crate) certificate: String,
    pub(crate) key: String,
    pub(crate) volume: String,
    pub(crate) address: Option<String>,
}

/// The root credentials of an account and where to use them.
#[derive(Serialize, Deserialize)]
pub(crate) struct AccountEnv {
    pub(crate) access_key_id: String,
    pub(crate) secret_access_key: String,
    pub(crate) endpoint: String,
}

pub(crate) fn run(options: &AdminOptions) -> Result<(), Failure> {
    let dir = &options.data_dir;
    let mut out = std::io::stdout().lock();
    match &options.command {
        AdminCommand::Account(command) => account(&mut out, dir, command)?,
        AdminCommand::Host(HostCommand::Create { account, az, name, remote, json }) => {
            let request = Request::HostCreate {
                account: account.to_string(),
                az: az.clone(),
                name: name.clone(),
                remote: *remote,
            };
            show(&mut out, ask(dir, &request)?, (!json).then_some(print_host))?;
        }
        AdminCommand::Host(HostCommand::Credentials { instance, json }) => {
            let request = Request::HostCredentials { instance: instance.clone() };
            show(&mut out, ask(dir, &request)?, (!json).then_some(print_host))?;
        }
        AdminCommand::NbdCredentials { instance, device, dir: target } => {
            let request =
                Request::NbdCredentials { instance: instance.clone(), device: device.clone() };
            nbd::keep(&mut out, target, &read(ask(dir, &request)?)?)?;
        }
        AdminCommand::Collections { region, limit, json } => {
            let request = Request::Collections { region: region.to_string(), limit: *limit };
            show(&mut out, ask(dir, &request)?, (!json).then_some(print_collections))?;
        }
        AdminCommand::Usage { region, json } => {
            let request = Request::Usage { region: region.to_string() };
            show(&mut out, ask(dir, &request)?, (!json).then_some(print_usage))?;
        }
        AdminCommand::Twins { region, json } => {
            let request = Request::Twins { region: region.to_string() };
            show(&mut out, ask(dir, &request)?, (!json).then_some(print_twins))?;
        }
        AdminCommand::Initializations { region, json } => {
            let request = Request::Initializations { region: region.to_string() };
            show(&mut out, ask(dir, &request)?, (!json).then_some(initializations::print))?;
        }
        AdminCommand::Attachments { region, json } => {
            let request = Request::Attachments { region: region.to_string() };
            show(&mut out, ask(dir, &request)?, (!json).then_some(attachments::print))?;
        }
        AdminCommand::Events { account, region, limit, json } => {
            let (account, region) = (account.as_ref().map(ToString::to_string), region.to_string());
            let request = Request::Events { account, region, limit: *limit };
            show(&mut out, ask(dir, &request)?, (!json).then_some(events::print))?;
        }
        AdminCommand::Seal(command) => root::seal(&mut out, dir, command)?,
        AdminCommand::Backup(command) => backup::run(&mut out, dir, command)?,
        AdminCommand::DomainKey(command) => root::domain_key(&mut out, dir, command)?,
        AdminCommand::OidcKeys { account, url, file } => hand_over_keys(dir, account, url, file)?,
        AdminCommand::Env { account, region } => {
            let value = ask(dir, &Request::Env { account: account.to_string() })?;
            print_env(&mut out, &read(value)?, region)?;
        }
    }
    Ok(())
}

fn account(out: &mut dyn Write, dir: &Path, command: &AccountCommand) -> Result<(), Failure> {
    match command {
        AccountCommand::Create { name, json } => {
            let value = ask(dir, &Request::AccountCreate { name: name.clone() })?;
            if *json {
                writeln!(out, "{value}")?;
            } else {
                let new: NewAccount = read(value)?;
                writeln!(out, "account     {}", new.account_id)?;
                writeln!(out, "access key  {}", new.access_key_id)?;
                writeln!(out, "secret key  {}", new.secret_access_key)?;
            }
        }
        AccountCommand::List { json } => {
            let value = ask(dir, &Request::AccountList)?;
            if *json {
                writeln!(out, "{value}")?;
            } else {
                let rows: Vec<AccountRow> = read(value)?;
                for row in rows {
                    writeln!(out, "{}  {}", row.account_id, row.name)?;
                }
            }
        }
    }
    Ok(())
}

/// Hands over the keys of a token issuer, or has them fetched again.
fn hand_over_keys(
    dir: &Path,
    account: &base::AccountId,
    url: &str,
    file: &Option<PathBuf>,
) -> Result<(), Failure> {
    let keys = file.as_ref().map(std::fs::read_to_string).transpose()?;
    ask(dir, &Request::OidcKeys { account: account.to_string(), url: url.to_owned(), keys })?;
    Ok(())
}

/// What a shell evaluates to act as an account in a region.
fn print_env(out: &mut impl Write, env: &AccountEnv, region: &base::Region) -> Result<(), Failure> {
    writeln!(out, "export AWS_ACCESS_KEY_ID={}", env.access_key_id)?;
    writeln!(out, "export AWS_SECRET_ACCESS_KEY={}", env.secret_access_key)?;
    writeln!(out, "unset AWS_SESSION_TOKEN AWS_PROFILE")?;
    writeln!(out, "export AWS_ENDPOINT_URL={}", env.endpoint)?;
    writeln!(out, "export AWS_REGION={region}")?;
    writeln!(out, "export AWS_DEFAULT_REGION={region}")?;
    Ok(())
}

/// Prints an answer for a person, or as it is for a program.
fn show(
    out: &mut dyn Write,
    value: serde_json::Value,
    print: Option<Print>,
) -> Result<(), Failure> {
    match print {
        Some(print) => print(out, value),
        None => Ok(writeln!(out, "{value}")?),
    }
}

type Print = fn(&mut dyn Write, serde_json::Value) -> Result<(), Failure>;

fn print_host(out: &mut dyn Write, value: serde_json::Value) -> Result<(), Failure> {
    let host: NewHost = read(value)?;
    writeln!(out, "{}", host.instance_id)?;
    if let Some(credentials) = host.credentials {
        writeln!(out, "access key  {}", credentials.access_key_id)?;
        writeln!(out, "secret key  {}", credentials.secret_access_key)?;
    }
    Ok(())
}

fn print_usage(out: &mut dyn Write, value: serde_json::Value) -> Result<(), Failure> {
    let lines: Vec<UsageLine> = read(value)?;
    for line in &lines {
        let UsageLine { kind, account_id, snapshot_id, ended_ms, hours, bytes } = line;
        let when = Timestamp(*ended_ms).iso_millis();
        writeln!(out, "{when}  {kind}  {account_id}  {snapshot_id}  {hours} h  {bytes} bytes")?;
    }
    Ok(())
}

fn print_twins(out: &mut dyn Write, value: serde_json::Value) -> Result<(), Failure> {
    let lines: Vec<TwinLine> = read(value)?;
    for TwinLine { snapshot_id, account_id, progress, volumes } in &lines {
        let account = account_id.as_deref().unwrap_or("-");
        let snapshot = snapshot_id.as_deref().unwrap_or("-");
        writeln!(out, "{account:12}  {snapshot:22}  {progress:3} %  {}", volumes.join(" "))?;
    }
    Ok(())
}

fn print_collections(out: &mut dyn Write, value: serde_json::Value) -> Result<(), Failure> {
    let lines: Vec<Line> = read(value)?;
    for line in &lines {
        writeln!(out, "{}", collection(line))?;
    }
    Ok(())
}

fn collection(line: &Line) -> String {
    let when = Timestamp(line.ended_ms).iso_millis();
    let report = &line.report;
    let did = format!(
        "{} deleted roots compared, {} packs nominated, {} deleted, {} rewritten, {} bytes given \
         back; {} packs wait, {} postponed",
        report.roots_compared,
        report.packs_nominated,
        report.packs_deleted,
        report.packs_rewritten,
        report.bytes_reclaimed,
        report.packs_condemned,
        report.packs_postponed
    );
    // What else was looked through is told all the same.
    let failed = report.error.as_ref().map(|error| format!("; failed: {error}"));
    let failed = failed.unwrap_or_default();
    format!("{when}  {:10}  {did}{failed}", line.scope)
}

/// Sends one request to the server of `data_dir` and returns its value.
pub(crate) fn ask(data_dir: &Path, request: &Request) -> Result<serde_json::Value, Failure> {
    follow(data_dir, request, &mut |_| {})
}

/// As [`ask`]; hears how far the server is.
pub(crate) fn follow(
    data_dir: &Path,
    request: &Request,
    progress: &mut dyn FnMut(CheckProgress),
) -> Result<serde_json::Value, Failure> {
    let path = socket::path(data_dir);
    let mut stream = UnixStream::connect(&path).map_err(|error| {
        Failure::new(
            EXIT_NO_SERVER,
            format!(
                "no server answers on {}: {error}\nStart it with `strongroom serve --data-dir {}`.",
                path.display(),
                data_dir.display()
            ),
        )
    })?;
    let mut line = serde_json::to_string(request).map_err(Failure::failed)?;
    line.push('\n');
    stream.write_all(line.as_bytes())?;
    let mut answers = BufReader::new(stream);
    loop {
        let mut answer = String::new();
        answers.read_line(&mut answer)?;
        match serde_json::from_str(&answer) {
            Ok(Reply::Progress(so_far)) => progress(so_far),
            Ok(Reply::Ok(value)) => return Ok(value),
            Ok(Reply::Error(message)) => return Err(Failure::failed(message)),
            Err(error) => {
                return Err(Failure::failed(format!("the server's answer is unreadable: {error}")));
            }
        }
    }
}

/// Reads the value of a reply into its type.
pub(crate) fn read<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> Result<T, Failure> {
    serde_json::from_value(value).map_err(Failure::failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifecycle::collections::Figures;

    #[test]
    fn a_collection_that_failed_says_also_what_it_did() {
        let error = Some("no such folder".to_owned());
        let report =
            Figures { packs_deleted: 7, bytes_reclaimed: 512, error, ..Figures::default() };
        let (region, scope) = ("us-east-1".to_owned(), "whole".to_owned());
        let line = Line { region, number: 1, scope, started_ms: 0, ended_ms: 1000, report };
        let told = collection(&line);
        assert!(told.starts_with("1970-01-01T00:00:01.000Z  whole "), "{told}");
        assert!(told.contains("7 deleted, 0 rewritten, 512 bytes given back"), "{told}");
        assert!(told.ends_with("; failed: no such folder"), "{told}");
    }

    fuzz::target!(
        /// A request that is understood says all that was said, and is written as one line.
        requests_are_understood_or_refused,
        [
            Request::AccountCreate { name: "home".to_owned() },
            Request::HostCreate {
                account: "111122223333".to_owned(),
                az: "us-east-1a".to_owned(),
                name: None,
                remote: true,
            },
            Request::HostCredentials { instance: "i-0123456789abcdef0".to_owned() },
            Request::Trail(TrailQuery {
                account: None,
                region: Some("us-east-1".to_owned()),
                event: None,
                failed: true,
                limit: 5,
            }),
            Request::SealRotate { to: SealSource::KeyFile { file: "/k".into() } },
            Request::Check(CheckRequest {
                target: Target::All,
                mode: Mode::Report,
                rate_bytes: Some(1 << 20),
            }),
        ]
        .map(|request| serde_json::to_vec(&request).expect("a request is JSON"))
        .into(),
        |bytes: &[u8]| {
            let Ok(text) = std::str::from_utf8(bytes) else { return };
            let Ok(request) = serde_json::from_str::<Request>(text) else { return };
            let written = serde_json::to_string(&request).expect("a request is JSON");
            assert!(!written.contains('\n'));
            let again: Request = serde_json::from_str(&written).expect("it was just written");
            assert_eq!(format!("{request:?}"), format!("{again:?}"));
        }
    );
}
