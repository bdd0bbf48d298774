//! A PostgreSQL server of its own for one run of the tests.
//!
//! It listens on a socket only, in a directory nobody else may enter, and does not flush: its rows
//! are worth nothing. Texts sort by a language's rules there, so that tests notice queries that rely
//! on the server's order.

use crate::command;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The variable that tells the tests where the server is.
pub(crate) const VARIABLE: &str = "STRONGROOM_TEST_POSTGRES";
const USER: &str = "strongroom";

/// A running server; dropping it stops it and removes its files.
pub(crate) struct Server {
    programs: PathBuf,
    directory: PathBuf,
    /// Whom the server runs as when we are root, whom it refuses.
    runs_as: Option<(u32, u32)>,
}

impl Server {
    /// Starts a server, or says what is missing.
    pub(crate) fn start() -> Result<Self, String> {
        let programs = programs().ok_or("PostgreSQL is not installed")?;
        let directory = std::env::temp_dir().join(format!("test-pg-{}", std::process::id()));
        fs::create_dir(&directory).map_err(|e| format!("{}: {e}", directory.display()))?;
        let mut server = Self { programs, directory, runs_as: None };
        server.prepare()?;
        let data = server.data();
        let data = data.as_str();
        let locale = ["--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en-US"];
        let user = format!("--username={USER}");
        let init = ["--pgdata", data, "--auth=trust", "--encoding=UTF8", "--no-sync", &user];
        server.run("initdb", &[&init[..], &locale[..]].concat())?;
        let options = format!(
            "-c listen_addresses= -c unix_socket_directories={} -c fsync=off -c max_connections=300",
            server.directory.display()
        );
        let log = server.directory.join("log").display().to_string();
        let start = ["start", "--wait", "--silent", "--pgdata", data, "--log", &log];
        server.run("pg_ctl", &[&start[..], &["--options", &options]].concat())?;
        Ok(server)
    }

    /// Where the server is.
    pub(crate) fn url(&self) -> String {
        format!("postgres:///postgres?host={}&user={USER}", self.directory.display())
    }

    /// Closes the directory to others and finds out whom the server runs as.
    fn prepare(&mut self) -> Result<(), String> {
        let shown = self.directory.display().to_string();
        let failed = |error: std::io::Error| format!("{shown}: {error}");
        fs::set_permissions(&self.directory, fs::Permissions::from_mode(0o700)).map_err(failed)?;
        if fs::metadata(&self.directory).map_err(failed)?.uid() == 0 {
            let id = |option| -> Result<u32, String> {
                let text = command::output("id", &[option, "postgres"])?;
                text.trim().parse().map_err(|_| "id prints a number".to_owned())
            };
            let (user, group) = (id("-u")?, id("-g")?);
            chown(&self.directory, Some(user), Some(group)).map_err(failed)?;
            self.runs_as = Some((user, group));
        }
        Ok(())
    }

    fn data(&self) -> String {
        self.directory.join("data").display().to_string()
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Result<(), String> {
        let mut command = Command::new(self.programs.join(program));
        command.args(arguments).current_dir(&self.directory);
        if let Some((user, group)) = self.runs_as {
            command.uid(user).gid(group);
        }
        // The server must not keep our output open after pg_ctl has ended.
        command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
        let status =
            command.status().map_err(|error| format!("cannot start {program}: {error}"))?;
        if status.success() { Ok(()) } else { Err(format!("{program} failed: {status}")) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that did not start cannot be stopped, and its files go all the same.
        let data = self.data();
        let _ = self.run("pg_ctl", &["stop", "--mode=immediate", "--silent", "--pgdata", &data]);
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Where `initdb` is: Debian keeps it out of the path, beside its version.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut directories: Vec<PathBuf> = versions.map(|entry| entry.path().join("bin")).collect();
    directories.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).collect::<Vec<_>>();
    directories
        .into_iter()
        .rev()
        .chain(on_path)
        .find(|dir| has(dir, "initdb") && has(dir, "pg_ctl"))
}

fn has(directory: &Path, program: &str) -> bool {
    directory.join(program).is_file()
}
