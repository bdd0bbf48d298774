//! Where an agent serves its volume: a socket, and beside it what a killed agent leaves.
//!
//! All that can be wrong with it is found before the volume is taken: the agent that has it ends for one
//! that asks, and nobody would serve it if that one could not.

use crate::args::AttachOptions;
use crate::exit::Failure;
use attach::client::{Client, ClientError};
use attach::export::check_socket_path;
use blockstore::live::TailFile;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

/// How long whoever serves on the socket may take to say what. One that is silent is taken for an agent of
/// this volume that hangs.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);

/// The files of an agent.
pub(super) struct Place {
    pub(super) socket: PathBuf,
}

impl Place {
    /// What the options say.
    pub(super) fn of(options: &AttachOptions) -> Self {
        let default = || PathBuf::from(format!("{}.sock", options.volume));
        Self { socket: options.socket.clone().unwrap_or_else(default) }
    }

    /// Where what this process answered lies, for the one that follows it if it is killed.
    pub(super) fn tail(&self) -> TailFile {
        TailFile::at(self.tail_path())
    }

    fn tail_path(&self) -> PathBuf {
        beside(&self.socket, "tail")
    }

    /// Refuses a place at which this agent could not serve, or would take something from somebody.
    pub(super) fn check(&self, volume: &str) -> Result<(), Failure> {
        let socket = self.socket.display();
        check_socket_path(&self.socket).map_err(|error| self.unusable(&error))?;
        let probe = beside(&self.socket, &std::process::id().to_string());
        File::create_new(&probe)
            .and_then(|_| std::fs::remove_file(&probe))
            .map_err(|error| self.unusable(&format!("its folder takes no file: {error}")))?;
        if is_of_another(&self.socket, volume) {
            return Err(self.unusable(&"something else is served there"));
        }
        match self.tail().is_tail() {
            Ok(true) => Ok(()),
            Ok(false) => {
                let tail = self.tail_path();
                let tail = tail.display();
                let words = format!("{tail} would be replaced, and is not what an agent leaves");
                Err(self.unusable(&words))
            }
            Err(error) => Err(Failure::failed(format!(
                "what an agent may have left at {socket} cannot be read: {}: {error}",
                self.tail_path().display()
            ))),
        }
    }

    fn unusable(&self, why: &dyn std::fmt::Display) -> Failure {
        let socket = self.socket.display();
        Failure::failed(format!("cannot serve on {socket}: {why}; name another with --socket"))
    }
}

fn beside(socket: &Path, ending: &str) -> PathBuf {
    let mut path = socket.as_os_str().to_owned();
    path.push(".");
    path.push(ending);
    path.into()
}

/// Whether somebody answers on the socket who does not serve the volume.
fn is_of_another(socket: &Path, volume: &str) -> bool {
    let (answer, answered) = mpsc::channel();
    let (socket, volume) = (socket.to_owned(), volume.to_owned());
    // A connection may be waited for without end. The thread ends with the process.
    std::thread::spawn(move || {
        let is_another = match Client::connect(&socket, &volume) {
            Ok(_) => false,
            Err(ClientError::Refused { .. } | ClientError::Protocol { .. }) => true,
            // Left behind, or of an agent that is ending or has enough clients.
            Err(ClientError::Socket(_) | ClientError::Request { .. }) => false,
        };
        // Nobody listens any more when it took too long.
        let _ = answer.send(is_another);
    });
    answered.recv_timeout(ANSWER_TIME_MAX).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixListener;

    const VOLUME: &str = "vol-0123456789abcdef0";

    fn refusal(socket: PathBuf) -> String {
        Place { socket }.check(VOLUME).unwrap_err().to_string()
    }

    #[test]
    fn what_is_nobodys_is_a_place() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("vol.sock");
        Place { socket: socket.clone() }.check(VOLUME).unwrap();
        // Left by an agent that was killed.
        drop(UnixListener::bind(&socket).unwrap());
        std::fs::write(folder.path().join("vol.sock.tail"), [0; 4096]).unwrap();
        Place { socket }.check(VOLUME).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_place_that_cannot_be_served_at_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let refused = refusal(folder.path().join("none/vol.sock"));
        assert!(refused.contains("takes no file"), "{refused}");
        let refused = refusal(folder.path().join("a".repeat(120)));
        assert!(refused.contains("108"), "{refused}");
        let refused = refusal(folder.path().to_owned());
        assert!(refused.contains("no socket"), "{refused}");
    }

    #[test]
    fn nothing_of_somebody_else_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("vol.sock");
        std::fs::write(&socket, "precious").unwrap();
        assert!(refusal(socket.clone()).contains("no socket"));
        assert_eq!(std::fs::read(&socket).unwrap(), b"precious");
        std::fs::remove_file(&socket).unwrap();

        std::fs::write(folder.path().join("vol.sock.tail"), "precious").unwrap();
        let refused = refusal(socket.clone());
        assert!(refused.contains("not what an agent leaves"), "{refused}");
        std::fs::remove_file(folder.path().join("vol.sock.tail")).unwrap();

        // A server of something else.
        let listener = UnixListener::bind(&socket).unwrap();
        let server = std::thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            client.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        });
        let refused = refusal(socket);
        assert!(refused.contains("something else is served"), "{refused}");
        server.join().unwrap();
    }
}
