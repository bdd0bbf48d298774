//! The text of `~/.aws/config` and `~/.aws/credentials`, as the `aws` CLI reads it.
//!
//! Sections hold settings, `name = value` or `name: value`, the name in any case. Lines that begin with `#` or `;`
//! are comments; behind a value they are part of it. Indented lines belong to the setting above them. Values are
//! borrowed from the text, which may hold secrets; for the same reason no error repeats a line.

/// What a file says.
pub(super) struct Ini<'a> {
    sections: Vec<Section<'a>>,
}

/// A section.
pub(super) struct Section<'a> {
    /// Its words: `["profile", "x"]`.
    name: Vec<String>,
    settings: Vec<Setting<'a>>,
}

struct Setting<'a> {
    name: String,
    value: &'a str,
    /// The settings indented below it.
    below: Vec<(String, &'a str)>,
}

impl<'a> Ini<'a> {
    /// Reads a text.
    ///
    /// # Errors
    /// The number of the line that is neither a section, a setting nor a comment, and what is wrong with it.
    pub(super) fn parse(text: &'a str) -> Result<Self, String> {
        let mut sections: Vec<Section<'a>> = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let wrong = |what: &str| format!("line {}: {what}", at + 1);
            let content = line.trim();
            if content.is_empty() || content.starts_with(['#', ';']) {
                continue;
            }
            if let Some(name) = line.strip_prefix('[') {
                let (name, _) = name.split_once(']').ok_or_else(|| wrong("']' is missing"))?;
                sections.push(Section { name: words(name), settings: Vec::new() });
                continue;
            }
            let section = sections.last_mut().ok_or_else(|| wrong("it stands in no section"))?;
            let indented = line.starts_with([' ', '\t']);
            match (indented, section.settings.last_mut(), setting(content)) {
                (true, Some(above), Some(below)) => above.below.push(below),
                // The value above goes on: none of those read here has more than a line.
                (true, Some(_), None) => {}
                (_, _, Some((name, value))) => {
                    section.settings.push(Setting { name, value, below: Vec::new() });
                }
                (_, _, None) => return Err(wrong("'=' is missing")),
            }
        }
        Ok(Self { sections })
    }

    /// The section of this name.
    pub(super) fn section(&self, name: &[&str]) -> Option<&Section<'a>> {
        self.sections.iter().find(|section| section.name == name)
    }
}

impl<'a> Section<'a> {
    /// The value of a setting; one that is empty says nothing.
    pub(super) fn value(&self, name: &str) -> Option<&'a str> {
        self.setting(name).map(|setting| setting.value).filter(|value| !value.is_empty())
    }

    /// The value of a setting that is indented below another.
    pub(super) fn value_below(&self, above: &str, name: &str) -> Option<&'a str> {
        let below = &self.setting(above)?.below;
        below.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    }

    fn setting(&self, name: &str) -> Option<&Setting<'a>> {
        self.settings.iter().find(|setting| setting.name == name)
    }
}

fn setting(content: &str) -> Option<(String, &str)> {
    let (name, value) = content.split_once(['=', ':'])?;
    Some((name.trim().to_lowercase(), value.trim()))
}

/// The words of a section's name. The second may be quoted, and then hold spaces.
fn words(name: &str) -> Vec<String> {
    let name = name.trim();
    let (first, rest) = name.split_once([' ', '\t']).unwrap_or((name, ""));
    let rest = rest.trim();
    let quoted = ['"', '\''].into_iter().find_map(|q| rest.strip_prefix(q)?.strip_suffix(q));
    let words = [first, quoted.unwrap_or(rest)];
    words.into_iter().filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_settings_comments_and_what_is_indented_are_told_apart() {
        let text = "# a comment\n[default]\nRegion = eu-west-1 ; no comment\noutput: json\ns3 =\n  \
                    max_queue = 2\n  ; a comment\n\tregion = nested\nempty =\n\n[profile \"my own\"]\n\
                    region=a=b\n[services local]\nstrongroom =\n  endpoint_url = http://x:1\n";
        let ini = Ini::parse(text).unwrap();
        let default = ini.section(&["default"]).unwrap();
        assert_eq!(default.value("region"), Some("eu-west-1 ; no comment"));
        assert_eq!(default.value("output"), Some("json"));
        assert_eq!(default.value("empty"), None);
        assert_eq!(default.value("max_queue"), None);
        assert_eq!(default.value_below("s3", "region"), Some("nested"));
        assert_eq!(ini.section(&["profile", "my own"]).unwrap().value("region"), Some("a=b"));
        let services = ini.section(&["services", "local"]).unwrap();
        assert_eq!(services.value_below("strongroom", "endpoint_url"), Some("http://x:1"));
        assert!(ini.section(&["profile"]).is_none());
    }

    #[test]
    fn what_is_not_understood_is_told_by_its_line_alone() {
        for (text, expected) in [
            ("region = a", "line 1: it stands in no section"),
            ("[default]\nsecret", "line 2: '=' is missing"),
            ("\n[default", "line 2: ']' is missing"),
        ] {
            assert_eq!(Ini::parse(text).err().as_deref(), Some(expected));
        }
    }
}
