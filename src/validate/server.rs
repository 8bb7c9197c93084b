//! Which fixes of holes in row security a server lacks.
//!
//! Pure: owns the list. Holes of majors that the extension does not run on are not in it: CVE-2016-2193,
//! CVE-2017-7484, CVE-2017-15099 and CVE-2019-10130 were fixed before version 15.

/// Each hole, and the first `server_version_num` of a major without it.
const FIXES: &[(&str, i32)] = &[
    ("CVE-2023-2455", 150_003),
    ("CVE-2023-39418", 150_004),
    ("CVE-2024-4317", 150_007),
    ("CVE-2024-4317", 160_003),
    ("CVE-2024-10976", 150_009),
    ("CVE-2024-10976", 160_005),
    ("CVE-2024-10976", 170_001),
    ("CVE-2025-8713", 150_014),
    ("CVE-2025-8713", 160_010),
    ("CVE-2025-8713", 170_006),
];

/// The holes that a server of that `server_version_num` has.
pub fn missing_fixes(version: i32) -> Vec<&'static str> {
    FIXES
        .iter()
        .filter(|(_, fixed)| fixed / 10_000 == version / 10_000 && version < *fixed)
        .map(|(hole, _)| *hole)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_lacks_what_was_fixed_after_it() {
        assert_eq!(missing_fixes(170_005), ["CVE-2025-8713"]);
        assert_eq!(missing_fixes(170_000), ["CVE-2024-10976", "CVE-2025-8713"]);
        assert_eq!(missing_fixes(150_000).len(), 5);
        assert_eq!(missing_fixes(160_004), ["CVE-2024-10976", "CVE-2025-8713"]);
    }

    #[test]
    fn a_server_that_has_them_lacks_nothing() {
        for version in [150_014, 160_010, 170_006, 180_000, 190_000] {
            assert!(missing_fixes(version).is_empty(), "{version}");
        }
    }
}
