//! Device names a volume may be attached under (spec 01, "States").

/// The name is not one a machine can have. Code `InvalidParameterValue`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Value ({name}) for parameter device is invalid. {name} is not a valid EBS device name.")]
pub struct BadDeviceName {
    /// What was given.
    pub name: String,
}

/// Checks a device name: `/dev/sd[a-z]`, `/dev/sd[a-z][1-15]`, `/dev/xvd[a-z]`, `/dev/xvd[b-d][a-z]`
/// or an `xvd` name without its directory.
///
/// # Errors
/// For every other name.
pub fn check_device_name(name: &str) -> Result<(), BadDeviceName> {
    let short = name.strip_prefix("/dev/");
    let valid = match short {
        Some(rest) => is_sd(rest) || is_xvd(rest),
        None => is_xvd(name),
    };
    if valid { Ok(()) } else { Err(BadDeviceName { name: name.to_owned() }) }
}

fn is_sd(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("sd") else { return false };
    let mut chars = rest.chars();
    let letter = chars.next().is_some_and(|c| c.is_ascii_lowercase());
    let partition = chars.as_str();
    let digits = partition.bytes().all(|b| b.is_ascii_digit()) && !partition.starts_with('0');
    let numbered = digits && partition.parse::<u8>().is_ok_and(|n| (1..=15).contains(&n));
    letter && (partition.is_empty() || numbered)
}

fn is_xvd(name: &str) -> bool {
    match name.strip_prefix("xvd").map(str::as_bytes) {
        Some([only]) => only.is_ascii_lowercase(),
        Some([first, second]) => (b'b'..=b'd').contains(first) && second.is_ascii_lowercase(),
        Some(_) | None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_guide() {
        for good in [
            "/dev/sda",
            "/dev/sdf",
            "/dev/sdz15",
            "/dev/sda1",
            "/dev/xvda",
            "/dev/xvdba",
            "xvdf",
            "xvddz",
        ] {
            assert_eq!(check_device_name(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "/dev/",
            "sdf",
            "/dev/sd",
            "/dev/sdA",
            "/dev/sdf0",
            "/dev/sdf01",
            "/dev/sdf16",
            "/dev/sdf+1",
            "/dev/xvd",
            "/dev/xvdaa",
            "/dev/xvdea",
            "/dev/nvme0n1",
            "../sdf",
            "/dev/sdf/x",
            "/dev/xvdbaa",
        ] {
            assert!(check_device_name(bad).is_err(), "{bad}");
        }
    }
}
