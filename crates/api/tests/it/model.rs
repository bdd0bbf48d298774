//! Every operation's shapes against the models that the real clients are made from.

use crate::models;

#[test]
fn operations_match_the_service_models() {
    let models = models::load_all();
    let mut differences = Vec::new();
    for operation in api::registry::of_aws().map(|operation| operation.info()) {
        let service = operation.service;
        let model = models.get(service).unwrap_or_else(|| {
            panic!("no model of {service}; see tests/models/README.md");
        });
        let found = model.check(operation);
        differences.extend(found.into_iter().map(|what| format!("{service} {what}")));
    }
    assert!(differences.is_empty(), "\n{}\n", differences.join("\n"));
}
