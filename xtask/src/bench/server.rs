//! The servers under measurement, each on its own file of the same directory and a unix socket.
//!
//! A server is started anew for every measurement and what it left in the page cache is dropped
//! first, so that nobody is measured on what an earlier phase happened to read.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::process::Process;
use crate::command;
use rustix::fs::{Advice, fadvise};

/// How long a server may take to open its socket, in hundredths of a second.
const START_CENTISECONDS_MAX: u32 = 3000;
/// How long a server may take to end when it is asked to.
const STOP_CENTISECONDS_MAX: u32 = 6000;

/// A passphrase for containers that hold only the benchmark's own bytes.
const PASSPHRASE: &str = "benchmark";

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Strongroom,
    NbdkitLuks,
    QemuLuks,
    NbdkitFile,
    QemuRaw,
}

impl Kind {
    /// Ours first: ratios are against it.
    pub(crate) const ALL: [Self; 5] =
        [Self::Strongroom, Self::NbdkitLuks, Self::QemuLuks, Self::NbdkitFile, Self::QemuRaw];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Strongroom => "Strongroom",
            Self::NbdkitLuks => "nbdkit luks",
            Self::QemuLuks => "qemu-nbd LUKS, direct",
            Self::NbdkitFile => "nbdkit file (no encryption)",
            Self::QemuRaw => "qemu-nbd raw, direct (no encryption)",
        }
    }

    fn file_name(self) -> &'static str {
        match self {
            Self::Strongroom => "strongroom",
            Self::NbdkitLuks => "nbdkit-luks",
            Self::QemuLuks => "qemu-luks",
            Self::NbdkitFile => "nbdkit-file",
            Self::QemuRaw => "qemu-raw",
        }
    }
}

/// A server that can be started on its image.
pub(crate) struct Server {
    kind: Kind,
    directory: PathBuf,
    size_mib: u64,
}

/// A started server; dropping it ends it.
pub(crate) struct Running {
    kind: Kind,
    process: Process,
    socket: PathBuf,
}

impl Server {
    /// Makes the image a server works on.
    pub(crate) fn prepare(kind: Kind, directory: &Path, size_mib: u64) -> Result<Self, String> {
        let server = Self { kind, directory: directory.to_owned(), size_mib };
        let image = server.image();
        match kind {
            Kind::Strongroom => build_strongroom()?,
            Kind::NbdkitFile | Kind::QemuRaw => {
                let file = File::create(&image).map_err(|error| error.to_string())?;
                file.set_len(size_mib << 20).map_err(|error| error.to_string())?;
            }
            Kind::NbdkitLuks | Kind::QemuLuks => {
                make_luks(directory, &image, size_mib)?;
            }
        }
        Ok(server)
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    fn image(&self) -> PathBuf {
        self.directory.join(self.kind.file_name())
    }

    /// Starts the server with nothing of its image in memory.
    pub(crate) fn start(&self) -> Result<Running, String> {
        drop_cached(&self.image())?;
        let socket = self.directory.join(format!("{}.sock", self.kind.file_name()));
        let (image, secret) = (self.image(), self.directory.join("passphrase"));
        let mut server = match self.kind {
            Kind::Strongroom => strongroom(&socket, &image, self.size_mib)?,
            Kind::NbdkitFile => nbdkit(&socket, &image),
            Kind::NbdkitLuks => {
                let mut server = nbdkit(&socket, &image);
                server.arg("--filter=luks").arg(format!("passphrase=+{}", secret.display()));
                server
            }
            Kind::QemuLuks => {
                let options =
                    format!("driver=luks,key-secret=key,file.filename={}", image.display());
                let mut server = qemu_nbd(&socket, &options);
                server.arg("--object").arg(format!("secret,id=key,file={}", secret.display()));
                server
            }
            Kind::QemuRaw => {
                qemu_nbd(&socket, &format!("driver=raw,file.filename={}", image.display()))
            }
        };
        // What a server that was ended leaves behind; a new one cannot bind over it.
        match std::fs::remove_file(&socket) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(format!("{}: {error}", socket.display()));
            }
            _ => {}
        }
        // Ours stops when its input ends, the others when they are told to.
        let process = Process::start(server.stdin(Stdio::piped()).stdout(Stdio::null()))?;
        let mut running = Running { kind: self.kind, process, socket };
        running.wait_for_socket()?;
        Ok(running)
    }
}

impl Running {
    pub(crate) fn uri(&self) -> String {
        format!("nbd+unix:///?socket={}", self.socket.display())
    }

    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    /// Ends the server and waits until it has.
    pub(crate) fn stop(mut self) -> Result<(), String> {
        match self.kind {
            Kind::Strongroom => self.process.end_input(),
            _ => self.process.terminate()?,
        }
        for _ in 0..STOP_CENTISECONDS_MAX {
            if self.process.has_ended()? {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err(format!("{} did not end", self.kind.name()))
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

/// Writes a file, or every file of a folder, back to the disk and drops it from the page cache.
fn drop_cached(path: &Path) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    if path.is_dir() {
        for entry in std::fs::read_dir(path).map_err(failed)? {
            drop_cached(&entry.map_err(failed)?.path())?;
        }
    } else if path.exists() {
        let file = File::open(path).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        fadvise(&file, 0, None, Advice::DontNeed).map_err(|error| failed(error.into()))?;
    }
    Ok(())
}

/// The engine and the NBD server as they run in the product; the control plane is not on the path
/// of I/O and is left out.
const EXAMPLE: &str = "volume_export";

fn build_strongroom() -> Result<(), String> {
    let package = ["--package", "attach", "--example", EXAMPLE];
    command::cargo(&[&["build", "--quiet", "--release"][..], &package].concat())
}

fn strongroom(socket: &Path, image: &Path, size_mib: u64) -> Result<Command, String> {
    let target = command::target_dir()?;
    let mut server = Command::new(target.join("release/examples").join(EXAMPLE));
    server.arg(socket).arg(image).arg(size_mib.to_string());
    Ok(server)
}

fn nbdkit(socket: &Path, image: &Path) -> Command {
    let mut server = Command::new("nbdkit");
    server.args(["--foreground", "--unix"]).arg(socket).arg("file").arg(image);
    server
}

/// qemu-nbd past the page cache, as virtual machines use their images.
fn qemu_nbd(socket: &Path, options: &str) -> Command {
    let mut server = Command::new("qemu-nbd");
    server
        .args(["--persistent", "--shared=16", "--cache=none", "--aio=native"])
        .arg("--socket")
        .arg(socket)
        .args(["--image-opts", options]);
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
