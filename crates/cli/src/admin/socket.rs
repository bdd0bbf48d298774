//! The server's end of the admin socket.

use super::{Reply, Request, check, handlers};
use crate::serve::Nbd;
use api::World;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::WriteHalf;
use tokio::net::{UnixListener, UnixStream};

/// A request line longer than this is refused.
const LINE_BYTES_MAX: u64 = 64 * 1024;

/// What requests are answered from.
pub(crate) struct Desk {
    pub(crate) world: Arc<World>,
    pub(crate) nbd: Arc<Nbd>,
    /// The data directory.
    pub(crate) data_dir: PathBuf,
    /// Held while the seal is moved: one at a time.
    pub(crate) sealing: tokio::sync::Mutex<()>,
    /// Wakes whoever moves key material to new domain keys.
    pub(crate) rewrap: Arc<tokio::sync::Notify>,
    /// Where the server's API answers.
    pub(crate) endpoint: String,
}

/// Where the socket of a data directory is.
pub(crate) fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("admin.sock")
}

/// Opens the socket for its owner only. The caller holds the data directory's lock, so a file that
/// is already there was left by a server that is gone.
pub(crate) fn bind(data_dir: &Path) -> io::Result<UnixListener> {
    let path = path(data_dir);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // The data directory has mode 0700, so nobody else can connect before the mode is set.
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers requests until the listener is dropped with the task.
pub(crate) async fn serve(listener: UnixListener, desk: Arc<Desk>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let desk = Arc::clone(&desk);
                tokio::spawn(async move {
                    if let Err(error) = answer(stream, &desk).await {
                        tracing::debug!(%error, "admin connection ended");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept on the admin socket");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

async fn answer(mut stream: UnixStream, desk: &Desk) -> io::Result<()> {
    let (read, mut write) = stream.split();
    let mut line = String::new();
    BufReader::new(read).take(LINE_BYTES_MAX).read_line(&mut line).await?;
    let reply = match serde_json::from_str::<Request>(&line) {
        Ok(Request::Check(request)) => {
            return check::answer(&mut write, &desk.world, request).await;
        }
        Ok(request) => handlers::handle(desk, request).await,
        Err(error) => Reply::Error(format!("the request is unreadable: {error}")),
    };
    send(&mut write, &reply).await
}

/// Writes one line.
pub(super) async fn send(write: &mut WriteHalf<'_>, reply: &Reply) -> io::Result<()> {
    let mut text = serde_json::to_string(reply).map_err(io::Error::other)?;
    text.push('\n');
    write.write_all(text.as_bytes()).await
}
