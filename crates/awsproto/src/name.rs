//! Letter case of wire names.

/// `VolumeId` -> `volumeId`: the first letter only, as EC2 derives element names from members.
pub(crate) fn lower_first(name: &str) -> String {
    recase_first(name, char::to_ascii_lowercase)
}

fn recase_first(name: &str, case: fn(&char) -> char) -> String {
    let mut letters = name.chars();
    letters.next().map_or_else(String::new, |first| {
        let mut text = String::with_capacity(name.len());
        text.push(case(&first));
        text.push_str(letters.as_str());
        text
    })
}

/// `volumeId` -> `VolumeId`.
pub(crate) fn upper_first(name: &str) -> String {
    recase_first(name, char::to_ascii_uppercase)
}
