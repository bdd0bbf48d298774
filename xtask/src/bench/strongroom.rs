//! The real binary, built for release, on a data directory of its own.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::process::Process;
use crate::command;

/// A running `strongroom serve` with one account.
pub(super) struct Strongroom {
    pub(super) process: Process,
    /// `127.0.0.1:PORT`.
    pub(super) address: String,
    pub(super) access_key: String,
    pub(super) secret_key: String,
    pub(super) data: PathBuf,
    account: String,
    binary: PathBuf,
}

impl Strongroom {
    pub(super) fn start(directory: &Path) -> Result<Self, String> {
        let binary = build()?;
        Self::serve(directory, Command::new(&binary), binary)
    }

    /// On one processor alone.
    pub(super) fn start_on(directory: &Path, processor: &str) -> Result<Self, String> {
        let binary = build()?;
        let mut taskset = Command::new("taskset");
        taskset.args(["-c", processor]).arg(&binary);
        Self::serve(directory, taskset, binary)
    }

    fn serve(directory: &Path, mut serve: Command, binary: PathBuf) -> Result<Self, String> {
        let data = directory.join("data");
        serve.arg("serve").arg("--data-dir").arg(&data).args(["--listen", "127.0.0.1:0"]);
        let mut process = Process::start(serve.stdout(Stdio::piped()).stderr(Stdio::null()))?;
        let stdout = process.stdout().ok_or("the server's output is piped")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).map_err(|error| error.to_string())?;
        let address = line
            .trim()
            .rsplit_once("http://")
            .map(|(_, address)| address.to_owned())
            .ok_or_else(|| format!("the server did not say where it listens: {line:?}"))?;
        let account = admin(&binary, &data, &["account", "create", "--name", "bench"])?;
        let text = |name: &str| account[name].as_str().unwrap_or_default().to_owned();
        let (access_key, secret_key) = (text("AccessKeyId"), text("SecretAccessKey"));
        let account = text("AccountId");
        Ok(Self { process, address, access_key, secret_key, data, account, binary })
    }

    /// A new host of the account; its id.
    pub(super) fn host(&self, zone: &str) -> Result<String, String> {
        let arguments = ["host", "create", "--account", &self.account, "--az", zone];
        let host = admin(&self.binary, &self.data, &arguments)?;
        host["InstanceId"].as_str().map(str::to_owned).ok_or("a host has an id".into())
    }
}

fn admin(binary: &Path, data: &Path, arguments: &[&str]) -> Result<serde_json::Value, String> {
    let made = Command::new(binary)
        .args(["admin", "--data-dir"])
        .arg(data)
        .args(arguments)
        .arg("--json")
        .output()
        .map_err(|error| format!("cannot start {}: {error}", binary.display()))?;
    if !made.status.success() {
        return Err(format!("admin failed: {}", String::from_utf8_lossy(&made.stderr)));
    }
    serde_json::from_slice(&made.stdout).map_err(|error| format!("admin printed {error}"))
}

fn build() -> Result<PathBuf, String> {
    command::cargo(&["build", "--quiet", "--release", "--package", "strongroom"])?;
    Ok(command::target_dir()?.join("release/strongroom"))
}
