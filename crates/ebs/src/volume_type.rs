//! Volume types: their size, IOPS and throughput limits, and the messages clients parse out of a refusal.
//!
//! The table is spec 01, "Types, limits, defaults". The Kubernetes CSI driver learns the limits by
//! dry-running absurd requests, so the wording of [`VolumeSpecError::IopsTooHigh`] and
//! [`VolumeSpecError::Io2Limits`] is part of the interface.

use std::fmt;

/// What a volume promises, as written on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum VolumeType {
    /// General purpose SSD whose IOPS follow its size; what `CreateVolume` makes when nothing is said.
    Gp2,
    /// General purpose SSD with provisioned IOPS and throughput.
    Gp3,
    /// Provisioned IOPS SSD.
    Io1,
    /// Provisioned IOPS SSD, second generation.
    Io2,
    /// Throughput optimised disk.
    St1,
    /// Cold disk.
    Sc1,
    /// Magnetic, previous generation.
    Standard,
}

impl VolumeType {
    /// Every type.
    pub const ALL: [Self; 7] =
        [Self::Gp2, Self::Gp3, Self::Io1, Self::Io2, Self::St1, Self::Sc1, Self::Standard];

    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gp2 => "gp2",
            Self::Gp3 => "gp3",
            Self::Io1 => "io1",
            Self::Io2 => "io2",
            Self::St1 => "st1",
            Self::Sc1 => "sc1",
            Self::Standard => "standard",
        }
    }

    /// Reads the name on the wire.
    ///
    /// # Errors
    /// [`VolumeSpecError::UnknownType`] for any other text.
    pub fn parse(text: &str) -> Result<Self, VolumeSpecError> {
        Self::ALL
            .into_iter()
            .find(|volume_type| volume_type.as_str() == text)
            .ok_or_else(|| VolumeSpecError::UnknownType { text: text.to_owned() })
    }

    /// Smallest and largest size in GiB.
    pub fn size_limits_gib(self) -> (i64, i64) {
        match self {
            Self::Gp2 => (1, 16_384),
            Self::Gp3 => (1, 65_536),
            Self::Io1 => (4, 16_384),
            Self::Io2 => (4, 65_536),
            Self::St1 | Self::Sc1 => (125, 16_384),
            Self::Standard => (1, 1_024),
        }
    }

    /// How many snapshots of one volume may be pending at once (spec 02, "CreateSnapshot").
    pub fn pending_snapshots_max(self) -> u64 {
        match self {
            Self::St1 | Self::Sc1 => 1,
            Self::Gp2 | Self::Gp3 | Self::Io1 | Self::Io2 | Self::Standard => 5,
        }
    }

    /// Whether volumes of the type are sold by IOPS.
    pub fn has_iops(self) -> bool {
        self.iops_limits().is_some()
    }

    fn iops_limits(self) -> Option<IopsLimits> {
        match self {
            Self::Gp3 => Some(IopsLimits { min: 3_000, max: 80_000, per_gib: 500 }),
            Self::Io1 => Some(IopsLimits { min: 100, max: 64_000, per_gib: 50 }),
            Self::Io2 => Some(IopsLimits { min: 100, max: 256_000, per_gib: 1_000 }),
            Self::Gp2 | Self::St1 | Self::Sc1 | Self::Standard => None,
        }
    }
}

impl fmt::Display for VolumeType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

struct IopsLimits {
    min: i64,
    max: i64,
    per_gib: i64,
}

const THROUGHPUT_MIN_MIB: i64 = 125;
const THROUGHPUT_MAX_MIB: i64 = 2_000;
/// gp3 may have at most a quarter of a MiB/s for each of its IOPS.
const IOPS_PER_THROUGHPUT_MIB: i64 = 4;

/// What a request asks of a new volume. Numbers are as received: nothing is checked yet.
#[derive(Clone, Debug)]
pub struct VolumeSpec {
    /// The type, already known.
    pub volume_type: VolumeType,
    /// Size, from the request or from the snapshot.
    pub size_gib: i64,
    /// `Iops`.
    pub iops: Option<i64>,
    /// `Throughput` in MiB/s.
    pub throughput_mib: Option<i64>,
    /// `MultiAttachEnabled`.
    pub multi_attach: bool,
}

/// What the volume gets: the numbers `DescribeVolumes` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Performance {
    /// Absent for types that are not sold by IOPS.
    pub iops: Option<u32>,
    /// Only gp3.
    pub throughput_mib: Option<u32>,
}

/// Why a volume of this shape cannot be. The text is what the caller reads.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VolumeSpecError {
    /// A type that does not exist.
    #[error("Unsupported volume type '{text}' for volume creation.")]
    UnknownType {
        /// What was given.
        text: String,
    },
    /// Below the type's smallest size.
    #[error(
        "Volume of {size_gib}GiB is too small for volume type {volume_type}; minimum is {min}GiB."
    )]
    TooSmall {
        /// What was asked for.
        size_gib: i64,
        /// Whose limit it is.
        volume_type: VolumeType,
        /// The limit.
        min: i64,
    },
    /// Above the type's largest size.
    #[error(
        "Volume of {size_gib}GiB is too large for volume type {volume_type}; maximum is {max}GiB."
    )]
    TooLarge {
        /// What was asked for.
        size_gib: i64,
        /// Whose limit it is.
        volume_type: VolumeType,
        /// The limit.
        max: i64,
    },
    /// A parameter that has no meaning for the type.
    #[error("The parameter {parameter} is not supported for {volume_type} volumes.")]
    NotForType {
        /// The parameter.
        parameter: &'static str,
        /// The type.
        volume_type: VolumeType,
    },
    /// io1 and io2 must say their IOPS.
    #[error("The request must contain the parameter iops")]
    IopsMissing,
    /// Fewer IOPS than the type has.
    #[error("Volume iops of {iops} is too low; minimum is {min}.")]
    IopsTooLow {
        /// What was asked for.
        iops: i64,
        /// The limit.
        min: i64,
    },
    /// More IOPS than the type can have.
    #[error("Volume iops of {iops} is too high; maximum is {max}.")]
    IopsTooHigh {
        /// What was asked for.
        iops: i64,
        /// The limit.
        max: i64,
    },
    /// More IOPS than the size carries.
    #[error("Iops to volume size ratio of {:.6} is too high; maximum is {per_gib}.", *.iops as f64 / *.size_gib as f64)]
    IopsPerGib {
        /// What was asked for.
        iops: i64,
        /// The size.
        size_gib: i64,
        /// The limit.
        per_gib: i64,
    },
    /// io2 answers all its limits with one sentence.
    #[error(
        "io2 volumes configured with greater than 64 TiB or 256K IOPS or 1000:1 IOPS:GB ratio are not supported."
    )]
    Io2Limits,
    /// Less throughput than the type has.
    #[error("Volume throughput of {throughput_mib} is too low; minimum is 125.")]
    ThroughputTooLow {
        /// What was asked for.
        throughput_mib: i64,
    },
    /// More throughput than the type can have.
    #[error("Volume throughput of {throughput_mib} is too high; maximum is 2000.")]
    ThroughputTooHigh {
        /// What was asked for.
        throughput_mib: i64,
    },
    /// More throughput than the IOPS carry.
    #[error(
        "Throughput (MiBps) to iops ratio of {:.6} is too high; maximum is 0.250000 MiBps per iops.",
        *.throughput_mib as f64 / *.iops as f64
    )]
    ThroughputPerIops {
        /// What was asked for.
        throughput_mib: i64,
        /// The IOPS.
        iops: i64,
    },
}

impl VolumeSpecError {
    /// The error code the caller may branch on (spec 01).
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownType { .. } => "UnknownVolumeType",
            Self::IopsMissing => "MissingParameter",
            Self::NotForType { .. }
            | Self::IopsPerGib { .. }
            | Self::ThroughputPerIops { .. }
            | Self::Io2Limits => "InvalidParameterCombination",
            Self::TooSmall { .. }
            | Self::TooLarge { .. }
            | Self::IopsTooLow { .. }
            | Self::IopsTooHigh { .. }
            | Self::ThroughputTooLow { .. }
            | Self::ThroughputTooHigh { .. } => "InvalidParameterValue",
        }
    }
}

impl VolumeSpec {
    /// Checks the whole request and fills in what the type gives by itself.
    ///
    /// # Errors
    /// The first rule of spec 01 that the request breaks: combinations, then size, IOPS, throughput.
    pub fn check(&self) -> Result<Performance, VolumeSpecError> {
        self.check_combination()?;
        self.check_size()?;
        let iops = self.check_iops()?;
        let throughput_mib = self.check_throughput(iops)?;
        Ok(Performance { iops: narrow(iops), throughput_mib: narrow(throughput_mib) })
    }

    fn check_combination(&self) -> Result<(), VolumeSpecError> {
        let volume_type = self.volume_type;
        let refuse = |parameter| Err(VolumeSpecError::NotForType { parameter, volume_type });
        if self.iops.is_some() && volume_type.iops_limits().is_none() {
            return refuse("iops");
        }
        if self.throughput_mib.is_some() && volume_type != VolumeType::Gp3 {
            return refuse("throughput");
        }
        if self.multi_attach && !matches!(volume_type, VolumeType::Io1 | VolumeType::Io2) {
            return refuse("multiAttachEnabled");
        }
        Ok(())
    }

    fn check_size(&self) -> Result<(), VolumeSpecError> {
        let (volume_type, size_gib) = (self.volume_type, self.size_gib);
        let (min, max) = volume_type.size_limits_gib();
        if size_gib < min {
            return Err(VolumeSpecError::TooSmall { size_gib, volume_type, min });
        }
        if size_gib > max {
            return Err(match volume_type {
                VolumeType::Io2 => VolumeSpecError::Io2Limits,
                VolumeType::Gp2
                | VolumeType::Gp3
                | VolumeType::Io1
                | VolumeType::St1
                | VolumeType::Sc1
                | VolumeType::Standard => VolumeSpecError::TooLarge { size_gib, volume_type, max },
            });
        }
        Ok(())
    }

    fn check_iops(&self) -> Result<Option<i64>, VolumeSpecError> {
        let Some(limits) = self.volume_type.iops_limits() else {
            let derived = (self.volume_type == VolumeType::Gp2)
                .then(|| (self.size_gib * 3).clamp(100, 16_000));
            return Ok(derived);
        };
        let iops = match (self.iops, self.volume_type) {
            (Some(iops), _) => iops,
            (None, VolumeType::Gp3) => return Ok(Some(limits.min)),
            (None, _) => return Err(VolumeSpecError::IopsMissing),
        };
        if iops < limits.min {
            return Err(VolumeSpecError::IopsTooLow { iops, min: limits.min });
        }
        let is_io2 = self.volume_type == VolumeType::Io2;
        if iops > limits.max {
            return Err(if is_io2 {
                VolumeSpecError::Io2Limits
            } else {
                VolumeSpecError::IopsTooHigh { iops, max: limits.max }
            });
        }
        // A gp3 volume of any size has its 3,000 baseline; the ratio limits only what is bought on top.
        if iops > limits.min.max(self.size_gib * limits.per_gib) {
            return Err(if is_io2 {
                VolumeSpecError::Io2Limits
            } else {
                let size_gib = self.size_gib;
                VolumeSpecError::IopsPerGib { iops, size_gib, per_gib: limits.per_gib }
            });
        }
        Ok(Some(iops))
    }

    fn check_throughput(&self, iops: Option<i64>) -> Result<Option<i64>, VolumeSpecError> {
        if self.volume_type != VolumeType::Gp3 {
            return Ok(None);
        }
        let Some(throughput_mib) = self.throughput_mib else { return Ok(Some(THROUGHPUT_MIN_MIB)) };
        if throughput_mib < THROUGHPUT_MIN_MIB {
            return Err(VolumeSpecError::ThroughputTooLow { throughput_mib });
        }
        if throughput_mib > THROUGHPUT_MAX_MIB {
            return Err(VolumeSpecError::ThroughputTooHigh { throughput_mib });
        }
        let iops = iops.expect("gp3 always has IOPS");
        if throughput_mib * IOPS_PER_THROUGHPUT_MIB > iops {
            return Err(VolumeSpecError::ThroughputPerIops { throughput_mib, iops });
        }
        Ok(Some(throughput_mib))
    }
}

fn narrow(value: Option<i64>) -> Option<u32> {
    value.map(|n| u32::try_from(n).expect("every checked limit fits in 32 bits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `type size iops throughput multi-attach -> iops/throughput | code: message`
    fn check(table: &str) {
        for line in table.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (request, expected) = line.split_once("->").unwrap();
            let words: Vec<&str> = request.split_whitespace().collect();
            let number = |index: usize| words[index].parse::<i64>().ok();
            let outcome = VolumeType::parse(words[0]).and_then(|volume_type| {
                VolumeSpec {
                    volume_type,
                    size_gib: number(1).unwrap(),
                    iops: number(2),
                    throughput_mib: number(3),
                    multi_attach: words.get(4) == Some(&"multi"),
                }
                .check()
            });
            let show = |n: Option<u32>| n.map_or("-".to_owned(), |n| n.to_string());
            let actual = match outcome {
                Ok(p) => format!("{} {}", show(p.iops), show(p.throughput_mib)),
                Err(error) => format!("{}: {error}", error.code()),
            };
            assert_eq!(actual, expected.trim(), "{request}");
        }
    }

    #[test]
    fn each_type_has_its_limits_and_defaults() {
        check(
            "
            gp2 1 - -              -> 100 -
            gp2 1000 - -           -> 3000 -
            gp2 16384 - -          -> 16000 -
            gp3 1 - -              -> 3000 125
            gp3 65536 80000 2000   -> 80000 2000
            io1 100 5000 - multi   -> 5000 -
            io2 4 4000 -           -> 4000 -
            st1 125 - -            -> - -
            sc1 16384 - -          -> - -
            standard 1024 - -      -> - -
            gp9 1 - -              -> UnknownVolumeType: Unsupported volume type 'gp9' for volume creation.
            gp2 0 - -              -> InvalidParameterValue: Volume of 0GiB is too small for volume type gp2; minimum is 1GiB.
            st1 100 - -            -> InvalidParameterValue: Volume of 100GiB is too small for volume type st1; minimum is 125GiB.
            gp2 16385 - -          -> InvalidParameterValue: Volume of 16385GiB is too large for volume type gp2; maximum is 16384GiB.
            standard 1025 - -      -> InvalidParameterValue: Volume of 1025GiB is too large for volume type standard; maximum is 1024GiB.
            gp2 10 100 -           -> InvalidParameterCombination: The parameter iops is not supported for gp2 volumes.
            io1 10 100 125         -> InvalidParameterCombination: The parameter throughput is not supported for io1 volumes.
            gp3 10 - - multi       -> InvalidParameterCombination: The parameter multiAttachEnabled is not supported for gp3 volumes.
            io1 10 - -             -> MissingParameter: The request must contain the parameter iops
            io1 10 99 -            -> InvalidParameterValue: Volume iops of 99 is too low; minimum is 100.
            io1 10 501 -           -> InvalidParameterCombination: Iops to volume size ratio of 50.100000 is too high; maximum is 50.
            gp3 16384 2999 -       -> InvalidParameterValue: Volume iops of 2999 is too low; minimum is 3000.
            gp3 10 5001 -          -> InvalidParameterCombination: Iops to volume size ratio of 500.100000 is too high; maximum is 500.
            gp3 10 - 124           -> InvalidParameterValue: Volume throughput of 124 is too low; minimum is 125.
            gp3 10 - 2001          -> InvalidParameterValue: Volume throughput of 2001 is too high; maximum is 2000.
            gp3 10 - 751           -> InvalidParameterCombination: Throughput (MiBps) to iops ratio of 0.250333 is too high; maximum is 0.250000 MiBps per iops.
            ",
        );
    }

    /// aws-ebs-csi-driver finds the limits with these requests and these patterns (spec 01).
    #[test]
    fn the_csi_driver_can_read_the_limits() {
        check(
            "
            gp3 16384 200000 -     -> InvalidParameterValue: Volume iops of 200000 is too high; maximum is 80000.
            io1 16384 200000 -     -> InvalidParameterValue: Volume iops of 200000 is too high; maximum is 64000.
            io2 65536 300000 -     -> InvalidParameterCombination: io2 volumes configured with greater than 64 TiB or 256K IOPS or 1000:1 IOPS:GB ratio are not supported.
            io2 4 4001 -           -> InvalidParameterCombination: io2 volumes configured with greater than 64 TiB or 256K IOPS or 1000:1 IOPS:GB ratio are not supported.
            io2 65537 100 -        -> InvalidParameterCombination: io2 volumes configured with greater than 64 TiB or 256K IOPS or 1000:1 IOPS:GB ratio are not supported.
            ",
        );
    }
}
