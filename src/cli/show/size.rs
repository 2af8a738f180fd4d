//! Sizes, as registries and docker show them.

/// Decimal units, as registries and docker show sizes.
pub(crate) fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    match unit {
        0 => format!("{n}B"),
        _ if value < 9.995 => format!("{value:.2}{}", UNITS[unit]),
        _ if value < 99.95 => format!("{value:.1}{}", UNITS[unit]),
        _ => format!("{value:.0}{}", UNITS[unit]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (n, want) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1.00kB"),
            (4_260_000, "4.26MB"),
            (42_600_000, "42.6MB"),
            (441_000_000, "441MB"),
            (999_900_000, "1.00GB"),
        ] {
            assert_eq!(bytes(n), want);
        }
    }
}
