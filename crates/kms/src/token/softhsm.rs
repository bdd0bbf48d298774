//! SoftHSM for tests: a software token in a directory of the test's own.
//!
//! SoftHSM finds its configuration through the environment, which a running process cannot change safely. A test that needs
//! it therefore runs itself again in a process that was given one.

use super::TokenName;
use base::Secret;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) const PIN: &str = "1234";
const CONFIGURATION: &str = "SOFTHSM2_CONF";
const MODULES: [&str; 3] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
];

pub(crate) struct SoftHsm(PathBuf);

pub(crate) fn pin(text: &str) -> Secret<Vec<u8>> {
    Secret::new(text.as_bytes().to_vec())
}

/// In a process that has a configuration: the module. Otherwise runs the named test in one, and gives `None`.
pub(crate) fn with(test: &str) -> Option<SoftHsm> {
    let module = MODULES.into_iter().find(|path| Path::new(path).exists());
    let Some(module) = module else {
        assert!(std::env::var_os("CI").is_none(), "softhsm2 is not installed");
        eprintln!("skipped: softhsm2 is not installed");
        return None;
    };
    if std::env::var_os(CONFIGURATION).is_some() {
        return Some(SoftHsm(PathBuf::from(module)));
    }
    let dir = tempfile::tempdir().unwrap();
    let tokens = dir.path().join("tokens");
    std::fs::create_dir(&tokens).unwrap();
    let configuration = dir.path().join("softhsm2.conf");
    let text = format!("directories.tokendir = {}\nlog.level = ERROR\n", tokens.display());
    std::fs::write(&configuration, text).unwrap();
    let done = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(CONFIGURATION, &configuration)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}{errors}");
    assert!(said.contains("1 passed"), "the test's name is {test}: {said}");
    None
}

impl SoftHsm {
    /// Makes a token.
    pub(crate) fn token(&self, label: &str) -> TokenName {
        let arguments =
            ["--init-token", "--free", "--label", label, "--so-pin", "5678", "--pin", PIN];
        let done = Command::new("softhsm2-util").args(arguments).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        TokenName { module: self.0.clone(), label: label.to_owned() }
    }
}
