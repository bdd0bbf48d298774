//! The servers under measurement, each on its own file of the same directory and a unix socket.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::process::Process;
use crate::command;

/// How long a server may take to open its socket, in hundredths of a second.
const START_CENTISECONDS_MAX: u32 = 3000;

/// A passphrase for containers that hold only the benchmark's own bytes.
const PASSPHRASE: &str = "benchmark";

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Strongroom,
    NbdkitLuks,
    QemuLuks,
    NbdkitFile,
}

impl Kind {
    /// Ours first: ratios are against it.
    pub(crate) const ALL: [Self; 4] =
        [Self::Strongroom, Self::NbdkitLuks, Self::QemuLuks, Self::NbdkitFile];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Strongroom => "Strongroom",
            Self::NbdkitLuks => "nbdkit luks",
            Self::QemuLuks => "qemu-nbd LUKS",
            Self::NbdkitFile => "nbdkit file (no encryption)",
        }
    }

    fn file_name(self) -> &'static str {
        match self {
            Self::Strongroom => "strongroom",
            Self::NbdkitLuks => "nbdkit-luks",
            Self::QemuLuks => "qemu-luks",
            Self::NbdkitFile => "nbdkit-file",
        }
    }
}

/// A started server; dropping it ends it.
pub(crate) struct Running {
    kind: Kind,
    process: Process,
    socket: PathBuf,
}

impl Running {
    pub(crate) fn start(kind: Kind, directory: &Path, size_mib: u64) -> Result<Self, String> {
        let socket = directory.join(format!("{}.sock", kind.file_name()));
        let image = directory.join(kind.file_name());
        let mut server = match kind {
            Kind::Strongroom => strongroom(&socket, &image, size_mib)?,
            Kind::NbdkitFile => {
                let file = std::fs::File::create(&image).map_err(|error| error.to_string())?;
                file.set_len(size_mib << 20).map_err(|error| error.to_string())?;
                nbdkit(&socket, &image)
            }
            Kind::NbdkitLuks => {
                let secret = make_luks(directory, &image, size_mib)?;
                let mut server = nbdkit(&socket, &image);
                server.arg("--filter=luks").arg(format!("passphrase=+{}", secret.display()));
                server
            }
            Kind::QemuLuks => {
                let secret = make_luks(directory, &image, size_mib)?;
                qemu_nbd(&socket, &image, &secret)
            }
        };
        // Held open until the server is ended: ours stops when its input does.
        let process = Process::start(server.stdin(Stdio::piped()).stdout(Stdio::null()))?;
        let mut running = Self { kind, process, socket };
        running.wait_for_socket()?;
        Ok(running)
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn uri(&self) -> String {
        format!("nbd+unix:///?socket={}", self.socket.display())
    }

    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    fn wait_for_socket(&mut self) -> Result<(), String> {
        for _ in 0..START_CENTISECONDS_MAX {
            if std::os::unix::net::UnixStream::connect(&self.socket).is_ok() {
                return Ok(());
            }
            self.process.check()?;
            std::thread::sleep(Duration::from_millis(10));
        }
        Err(format!("{} opened no socket", self.kind.name()))
    }
}

/// The engine and the NBD server as they run in the product; the control plane is not on the path
/// of I/O and is left out.
fn strongroom(socket: &Path, image: &Path, size_mib: u64) -> Result<Command, String> {
    let example = "volume_export";
    command::cargo(&[
        "build",
        "--quiet",
        "--release",
        "--package",
        "attach",
        "--example",
        example,
    ])?;
    let target = command::target_dir()?;
    let mut server = Command::new(target.join("release/examples").join(example));
    server.arg(socket).arg(image).arg(size_mib.to_string());
    Ok(server)
}

fn nbdkit(socket: &Path, image: &Path) -> Command {
    let mut server = Command::new("nbdkit");
    server.args(["--foreground", "--unix"]).arg(socket).arg("file").arg(image);
    server
}

fn qemu_nbd(socket: &Path, image: &Path, secret: &Path) -> Command {
    let mut server = Command::new("qemu-nbd");
    server
        .args(["--persistent", "--shared=16", "--cache=writeback", "--aio=threads"])
        .arg("--socket")
        .arg(socket)
        .arg("--object")
        .arg(format!("secret,id=key,file={}", secret.display()))
        .arg("--image-opts")
        .arg(format!("driver=luks,key-secret=key,file.filename={}", image.display()));
    server
}

/// Makes an empty LUKS container (AES-256-XTS) with qemu-img and returns its passphrase's file.
pub(super) fn make_luks(directory: &Path, image: &Path, size_mib: u64) -> Result<PathBuf, String> {
    let secret = directory.join("passphrase");
    std::fs::write(&secret, PASSPHRASE).map_err(|error| error.to_string())?;
    command::run(
        Command::new("qemu-img")
            .args(["create", "-q", "-f", "luks", "--object"])
            .arg(format!("secret,id=key,file={}", secret.display()))
            .args(["-o", "key-secret=key,iter-time=10,cipher-alg=aes-256,cipher-mode=xts"])
            .arg(image)
            .arg(format!("{size_mib}M")),
    )?;
    Ok(secret)
}
