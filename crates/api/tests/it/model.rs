//! Every operation's shapes against the models that the real clients are made from.

use awsproto::model::Model;
use std::collections::BTreeMap;
use std::path::Path;

#[test]
fn operations_match_the_service_models() {
    let mut models: BTreeMap<&str, Model> = BTreeMap::new();
    let mut differences = Vec::new();
    for operation in api::registry::all().iter().map(|operation| operation.info()) {
        let model = models.entry(operation.service).or_insert_with(|| load(operation.service));
        let found = model.check(operation);
        differences.extend(found.into_iter().map(|what| format!("{} {what}", operation.service)));
    }
    assert!(!models.is_empty());
    assert!(differences.is_empty(), "\n{}\n", differences.join("\n"));
}

fn load(service: &str) -> Model {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/models");
    let path = dir.join(format!("{service}.json"));
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; see tests/models/README.md", path.display()));
    Model::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
