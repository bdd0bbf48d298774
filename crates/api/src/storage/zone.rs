//! Zone ids: `us-east-1a` is `use1-az1` in every account.

use base::Region;

/// The region's part of a zone id: `us-east-1` is `use1`, `ap-northeast-1` is `apne1`.
fn short_region(region: &Region) -> String {
    region
        .as_str()
        .split('-')
        .enumerate()
        .map(|(index, part)| match (index, part) {
            (0, area) => area.to_owned(),
            (_, "north" | "south" | "east" | "west" | "central") => part[..1].to_owned(),
            (_, "northeast") => "ne".to_owned(),
            (_, "northwest") => "nw".to_owned(),
            (_, "southeast") => "se".to_owned(),
            (_, "southwest") => "sw".to_owned(),
            (_, other) => other.to_owned(),
        })
        .collect()
}

/// The id of the zone that stands at `index` in its region.
pub(crate) fn zone_id(region: &Region, index: usize) -> String {
    format!("{}-az{}", short_region(region), index + 1)
}

/// The id of a zone of the region, by its name.
pub(crate) fn id_of(zones: &[String], region: &Region, zone: &str) -> String {
    let index = zones.iter().position(|name| name == zone).unwrap_or_default();
    zone_id(region, index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_the_service() {
        for (region, index, expected) in [
            ("us-east-1", 0, "use1-az1"),
            ("us-west-2", 2, "usw2-az3"),
            ("eu-central-1", 1, "euc1-az2"),
            ("ap-northeast-1", 0, "apne1-az1"),
            ("ap-southeast-2", 0, "apse2-az1"),
        ] {
            assert_eq!(zone_id(&Region::parse(region).unwrap(), index), expected);
        }
    }
}
