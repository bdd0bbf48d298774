//! The extracts of the service models, from `tests/models`.

use awsproto::model::Model;
use std::collections::BTreeMap;
use std::path::Path;

/// Every model, by service.
pub(crate) fn load_all() -> BTreeMap<String, Model> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/models");
    let entries = std::fs::read_dir(&dir).unwrap_or_else(|error| panic!("{dir:?}: {error}"));
    let paths =
        entries.map(|entry| entry.unwrap_or_else(|error| panic!("{dir:?}: {error}")).path());
    paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| (path.file_stem().unwrap_or_default().to_string_lossy().into(), load(&path)))
        .collect()
}

fn load(path: &Path) -> Model {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    Model::parse(&text).unwrap_or_else(|error| panic!("{path:?}: {error}"))
}
