//! The tests: every crate's own, then real clients against the real binary.
//!
//! The client tests need Python, the `aws` CLI and a few Debian packages. On a developer's machine
//! what is missing is named and left out; in CI (`CI=true`) a missing client is a failure.

use crate::command;
use crate::mutants;
use crate::postgres::{self, Server};
use clap::Args;
use std::path::PathBuf;
use std::process::Command;

/// What to run.
#[derive(Args, Default)]
pub(crate) struct Options {
    /// Only the crates' own tests.
    #[arg(long)]
    no_clients: bool,
    /// Only the tests with real clients.
    #[arg(long)]
    only_clients: bool,
    /// Further arguments for pytest, for example `-k story`.
    #[arg(last = true)]
    pytest: Vec<String>,
}

pub(crate) fn run(options: &Options) -> Result<(), String> {
    let postgres = Postgres::find()?;
    if !options.only_clients {
        crates(&postgres)?;
        mutants::run(&mutants::Options::default())?;
    }
    if !options.no_clients {
        clients(&postgres, &options.pytest)?;
    }
    Ok(())
}

/// The PostgreSQL that tests run on: one given from outside, one of our own, or none.
enum Postgres {
    Given,
    Ours(Server),
    Missing,
}

impl Postgres {
    fn find() -> Result<Self, String> {
        if std::env::var_os(postgres::VARIABLE).is_some() {
            return Ok(Self::Given);
        }
        match Server::start() {
            Ok(server) => Ok(Self::Ours(server)),
            Err(missing) if std::env::var_os("CI").is_some() => Err(missing),
            Err(missing) => {
                eprintln!("xtask: nothing is tested on PostgreSQL: {missing}");
                Ok(Self::Missing)
            }
        }
    }

    fn tell(&self, tests: &mut Command) {
        if let Self::Ours(server) = self {
            tests.env(postgres::VARIABLE, server.url());
        }
    }
}

/// Every crate's tests, those of rows also on PostgreSQL.
fn crates(postgres: &Postgres) -> Result<(), String> {
    let mut tests = command::cargo_command();
    tests.args(["test", "--workspace", "--quiet"]);
    postgres.tell(&mut tests);
    command::run(&mut tests)
}

fn clients(postgres: &Postgres, extra: &[String]) -> Result<(), String> {
    command::cargo(&["build", "--quiet", "--package", "strongroom"])?;
    let python = environment()?;
    let mut pytest = Command::new(python);
    // Each file has servers of its own, so files run side by side.
    let files = ["-n", "auto", "--dist", "loadfile", "tests/clients"];
    pytest.args(["-m", "pytest", "-q", "-p", "no:cacheprovider", "--durations=10"]).args(files);
    // What passed leaves no gigabytes of images behind.
    pytest.args(["-o", "tmp_path_retention_policy=failed"]);
    pytest.args(extra);
    pytest.env("STRONGROOM_BINARY", command::target_dir()?.join("debug/strongroom"));
    postgres.tell(&mut pytest);
    command::run(&mut pytest)
}

/// A Python with the client libraries: a virtual environment beside the build.
pub(crate) fn environment() -> Result<PathBuf, String> {
    let venv = command::target_dir()?.join("clients-venv");
    let python = venv.join("bin/python");
    let wanted = command::root().join("tests/clients/requirements.txt");
    let stamp = venv.join("requirements.installed");
    let wanted_text = std::fs::read_to_string(&wanted)
        .map_err(|error| format!("{}: {error}", wanted.display()))?;
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted_text) {
        return Ok(python);
    }
    eprintln!("xtask: installing the client libraries into {}", venv.display());
    command::run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    command::run(
        Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"])
            .arg(&wanted),
    )?;
    std::fs::write(&stamp, wanted_text).map_err(|error| format!("{}: {error}", stamp.display()))?;
    Ok(python)
}
