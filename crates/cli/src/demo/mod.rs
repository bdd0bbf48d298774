//! `strongroom demo`: story 0 with real bytes, told step by step.
//!
//! Everything goes the way a customer's call would go: signed requests over the socket, blocks over
//! NBD. The only thing it does not need is a client that has to be installed.

mod client;
mod image;
mod story;

use crate::args::{DemoOptions, Enforcement, ServeOptions, TrailKeeping, VolumeArgs};
use crate::exit::Failure;
use crate::serve::{self, Server};
use crate::signals::Signals;
use lifecycle::workflow::collect::Schedule;
use std::path::Path;

pub(crate) fn run(options: &DemoOptions) -> Result<(), Failure> {
    let temporary;
    let data_dir = match &options.data_dir {
        Some(dir) => dir.clone(),
        None => {
            temporary = temporary_dir()?;
            temporary.clone()
        }
    };
    let serve_options = ServeOptions {
        data_dir: data_dir.clone(),
        listen: options.listen,
        nbd_listen: None,
        nbd_names: Vec::new(),
        tls_cert: None,
        oidc_ca_file: None,
        tls_key: None,
        behind_tls: false,
        meta_url: None,
        seal: crate::seal::SealArgs::default(),
        accept_rollback: None,
        key_stores: Vec::new(),
        regions: Vec::new(),
        enforcement: Enforcement::Native,
        explain_ids: false,
        vhost_user: false,
        ublk: false,
        volumes: VolumeArgs::default(),
        job_bandwidth_mib: Vec::new(),
        collect_grace: Schedule::server().grace_seconds,
        collect_interval: Schedule::server().collect_interval_seconds,
        sweep_interval: Schedule::server().sweep_interval_seconds,
        attach_lease_seconds: 20,
        trail: TrailKeeping::Journal,
    };
    let runtime = serve::runtime()?;
    let server = runtime.block_on(Server::start(&serve_options))?;
    let told = story::tell(&server, &data_dir);
    if told.is_ok() && !options.once {
        runtime.block_on(async {
            let mut signals = Signals::new()?;
            story::invite(&server, &data_dir);
            signals.asked().await;
            Ok::<_, Failure>(())
        })?;
    }
    runtime.block_on(server.stop());
    if options.data_dir.is_none() && (told.is_err() || options.once) {
        discard(&data_dir);
    }
    told
}

/// A new directory of our own, short enough for unix sockets.
fn temporary_dir() -> Result<std::path::PathBuf, Failure> {
    let name = format!("strongroom-demo-{}", base::id::hex_digits(&base::OsRng, 8));
    let path = std::env::temp_dir().join(name);
    std::fs::create_dir(&path)?;
    Ok(path)
}

fn discard(path: &Path) {
    if let Err(error) = std::fs::remove_dir_all(path) {
        eprintln!("strongroom: cannot remove {}: {error}", path.display());
    }
}
