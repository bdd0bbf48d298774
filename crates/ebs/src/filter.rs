//! The filters of every `Describe*` call: values of one filter are alternatives, filters narrow each
//! other, `*` and `?` are wildcards and a backslash takes the next character literally (spec 01).

/// One `Filter.N` of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// `Name`: `status`, `tag:Owner`.
    pub name: String,
    /// `Value.N`, of which one must match.
    pub values: Vec<String>,
}

/// Why a list of filters cannot be applied. Code `InvalidParameterValue`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// The operation has no such filter.
    #[error("The filter '{name}' is invalid")]
    Unknown {
        /// The filter's name.
        name: String,
    },
    /// A filter without values would match nothing; the service refuses it.
    #[error("The filter '{name}' must have at least one value")]
    Empty {
        /// The filter's name.
        name: String,
    },
    /// More than [`FILTERS_MAX`] filters or [`FILTER_VALUES_MAX`] values.
    #[error(
        "The maximum number of filter values specified on a single call is {FILTER_VALUES_MAX}"
    )]
    TooMany,
}

/// Filters in one request.
pub const FILTERS_MAX: usize = 50;
/// Values in all filters of one request.
pub const FILTER_VALUES_MAX: usize = 200;

/// What a resource shows to filters.
pub trait Filterable {
    /// The filters the operation has, without `tag:<key>` and `tag-key`.
    const NAMES: &'static [&'static str];

    /// The values of one of [`Self::NAMES`]; none when the resource has no such value.
    fn values(&self, name: &str) -> Vec<String>;

    /// Tags as key and value, for `tag:<key>`, `tag-key` and `tag-value`.
    fn tags(&self) -> &[(String, String)];
}

/// Checks a request's filters against those the resource type has.
///
/// # Errors
/// The first filter that is unknown, empty or one too many.
pub fn check_filters<T: Filterable>(filters: &[Filter]) -> Result<(), FilterError> {
    let values: usize = filters.iter().map(|filter| filter.values.len()).sum();
    if filters.len() > FILTERS_MAX || values > FILTER_VALUES_MAX {
        return Err(FilterError::TooMany);
    }
    for Filter { name, values } in filters {
        let tag = name.strip_prefix("tag:").is_some_and(|key| !key.is_empty());
        if !tag && name != "tag-key" && !T::NAMES.contains(&name.as_str()) {
            return Err(FilterError::Unknown { name: name.clone() });
        }
        if values.is_empty() {
            return Err(FilterError::Empty { name: name.clone() });
        }
    }
    Ok(())
}

/// Whether a resource passes all filters, which [`check_filters`] has accepted.
pub fn passes<T: Filterable>(filters: &[Filter], resource: &T) -> bool {
    filters.iter().all(|Filter { name, values }| {
        let any = |text: &str| values.iter().any(|pattern| wildcard(pattern, text));
        if T::NAMES.contains(&name.as_str()) {
            resource.values(name).iter().any(|text| any(text))
        } else if name == "tag-key" {
            resource.tags().iter().any(|(key, _)| any(key))
        } else {
            let wanted = name.strip_prefix("tag:").unwrap_or_default();
            resource.tags().iter().any(|(key, value)| key == wanted && any(value))
        }
    })
}

/// Whether a text matches a pattern in full; case matters.
///
/// Linear in the product of the lengths at worst: on a mismatch only the latest `*` is retried.
pub fn wildcard(pattern: &str, text: &str) -> bool {
    let pattern = parse_pattern(pattern);
    let text: Vec<char> = text.chars().collect();
    let (mut at, mut seen) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while seen < text.len() {
        match pattern.get(at) {
            Some(Piece::Run) => {
                star = Some((at, seen));
                at += 1;
            }
            Some(Piece::One) => {
                at += 1;
                seen += 1;
            }
            Some(Piece::Literal(c)) if *c == text[seen] => {
                at += 1;
                seen += 1;
            }
            Some(Piece::Literal(_)) | None => match star {
                Some((run, taken)) => {
                    star = Some((run, taken + 1));
                    at = run + 1;
                    seen = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|piece| matches!(piece, Piece::Run))
}

enum Piece {
    Literal(char),
    One,
    Run,
}

fn parse_pattern(pattern: &str) -> Vec<Piece> {
    let mut pieces = Vec::with_capacity(pattern.len());
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        pieces.push(match c {
            '*' => Piece::Run,
            '?' => Piece::One,
            '\\' => Piece::Literal(chars.next().unwrap_or('\\')),
            c => Piece::Literal(c),
        });
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_match_whole_texts() {
        for (pattern, text, expected) in [
            ("available", "available", true),
            ("available", "Available", false),
            ("avail*", "available", true),
            ("*able", "available", true),
            ("a*a*e", "available", true),
            ("a*z", "available", false),
            ("a??", "abc", true),
            ("a??", "ab", false),
            ("*", "", true),
            ("?", "", false),
            ("", "", true),
            ("", "x", false),
            ("a\\*b", "a*b", true),
            ("a\\*b", "axb", false),
            ("\\?", "?", true),
            ("\\", "\\", true),
            ("*ab*ab", "abxabab", true),
            ("日?語", "日本語", true),
        ] {
            assert_eq!(wildcard(pattern, text), expected, "{pattern} {text}");
        }
    }

    struct Sample(Vec<(String, String)>);

    impl Filterable for Sample {
        const NAMES: &'static [&'static str] = &["status", "device"];
        fn values(&self, name: &str) -> Vec<String> {
            if name == "status" { vec!["in-use".to_owned()] } else { Vec::new() }
        }
        fn tags(&self) -> &[(String, String)] {
            &self.0
        }
    }

    fn filters(list: &[(&str, &[&str])]) -> Vec<Filter> {
        list.iter()
            .map(|(name, values)| Filter {
                name: (*name).to_owned(),
                values: values.iter().map(|v| (*v).to_owned()).collect(),
            })
            .collect()
    }

    #[test]
    fn values_are_alternatives_and_filters_narrow() {
        let sample = Sample(vec![("Name".to_owned(), "db-1".to_owned())]);
        for (list, expected) in [
            (&[("status", &["available", "in-use"][..])][..], true),
            (&[("status", &["available"][..])][..], false),
            (&[("status", &["in-*"][..]), ("tag:Name", &["db-?"][..])][..], true),
            (&[("status", &["in-*"][..]), ("tag:name", &["db-?"][..])][..], false),
            (&[("tag-key", &["N*"][..])][..], true),
            (&[("device", &["*"][..])][..], false),
            (&[][..], true),
        ] {
            assert_eq!(passes(&filters(list), &sample), expected, "{list:?}");
        }
    }

    #[test]
    fn unknown_and_empty_filters_are_refused() {
        let unknown = check_filters::<Sample>(&filters(&[("state", &["x"])]));
        assert_eq!(unknown.unwrap_err().to_string(), "The filter 'state' is invalid");
        assert!(matches!(
            check_filters::<Sample>(&filters(&[("status", &[])])),
            Err(FilterError::Empty { .. })
        ));
        let many = vec!["x"; FILTER_VALUES_MAX + 1];
        assert_eq!(
            check_filters::<Sample>(&filters(&[("status", &many)])),
            Err(FilterError::TooMany)
        );
        assert!(check_filters::<Sample>(&filters(&[("tag:", &["x"])])).is_err());
        assert_eq!(
            check_filters::<Sample>(&filters(&[("tag:k", &["x"]), ("tag-key", &["k"])])),
            Ok(())
        );
    }
}
