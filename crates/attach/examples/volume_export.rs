//! Serves an encrypted volume over NBD until its input ends: the data plane without the control
//! plane, for measurements. The volume is made when the folder has none. Its keys are written here,
//! so that a measurement can close it and open it again: it protects nothing.
//!
//! `cargo run --release -p attach --example volume_export -- SOCKET FOLDER MIB`

#![expect(clippy::unwrap_used, reason = "an example fails by panicking")]

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use attach::nbd::handshake::ExportInfo;
use attach::{Export, Stop, VolumeDevice};
use base::{OsRng, Secret, SystemClock, VolumeId};
use blockstore::live::{OpenOptions, VolumeOptions};
use blockstore::page::DataKey;
use blockstore::store::{Store, StoreConfig};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let path = PathBuf::from(arguments.next().unwrap());
    let folder = PathBuf::from(arguments.next().unwrap());
    let size = arguments.next().unwrap().parse::<u64>().unwrap() << 20;
    let service_key = Secret::new([1; 32]);
    let data_key = DataKey::new(&Secret::new([2; 64]));

    let store = Store::open(&folder, service_key, Arc::new(OsRng), StoreConfig::server()).unwrap();
    let id: VolumeId = "vol-0123456789abcdef0".parse().unwrap();
    let key_check = Some(data_key.check_value());
    if !store.contains(&id) {
        let options = VolumeOptions { size_bytes: size, key_check, base: None };
        store.create_volume(&id, &options).unwrap();
    }
    let options = OpenOptions { data_key: Some(data_key), ..OpenOptions::default() };
    let handle = store.open_volume(&id, options).unwrap();

    let info = ExportInfo { name: "volume".into(), aliases: vec![], description: id.to_string() };
    let device = Arc::new(VolumeDevice::new(handle.clone()));
    let export = Export::start(&path, info, device, Arc::new(SystemClock)).unwrap();
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    export.stop(Stop::Graceful).unwrap();
    handle.close().unwrap();
}
