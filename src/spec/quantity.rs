//! Kubernetes' quantities (`500m`, `1.5Gi`, `1e3`), exactly, and as a cluster prints them.
//!
//! A quantity is `sign digits[.digits] suffix`; the suffix is binary (`Ki` to
//! `Ei`), decimal (`n u m k M G T P E`) or an exponent (`e3`). It is read into a
//! whole number of billionths, rounding up as Kubernetes does, never through a
//! floating-point number. With a binary suffix 2^63-1 is the most: a greater number is
//! that one, as on a cluster. With another suffix there is no such bound.

/// Billionths in one.
const SCALE: i128 = 1_000_000_000;
/// The most that a quantity with a binary suffix can be.
const BINARY_MAX: i128 = i64::MAX as i128 * SCALE;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Quantity {
    nanos: i128,
}

impl Quantity {
    /// The error says what is wrong with the text.
    pub(crate) fn parse(text: &str) -> Result<Quantity, String> {
        Ok(Quantity {
            nanos: Parts::of(text)?.nanos(),
        })
    }

    /// The same quantity as a cluster prints it: `1024Mi` is `1Gi`, `0.5` is `500m`.
    pub(crate) fn canonical(text: &str) -> Result<String, String> {
        let parts = Parts::of(text)?;
        let nanos = parts.nanos();
        if nanos == 0 {
            return Ok("0".into());
        }
        if parts.is_printed_as_written() || nanos.abs() == i128::MAX {
            return Ok(text.to_owned());
        }
        Ok(match parts.unit {
            Unit::Binary(_) if nanos % SCALE == 0 && nanos.abs() >= 1024 * SCALE => {
                binary(nanos / SCALE)
            }
            Unit::Binary(_) | Unit::Decimal(_) => decimal(nanos, false),
            Unit::Exponent(_) => decimal(nanos, true),
        })
    }

    pub(crate) fn is_negative(self) -> bool {
        self.nanos < 0
    }

    /// Whole units (bytes), rounded up; no more than an int64 holds, which no machine has.
    pub(crate) fn units(self) -> u64 {
        clamp(div_up(self.nanos, SCALE)).min(i64::MAX as u64)
    }

    /// Thousandths, rounded up.
    pub(crate) fn millis(self) -> u64 {
        clamp(div_up(self.nanos, SCALE / 1000))
    }

    pub(crate) fn is_whole(self) -> bool {
        self.nanos % SCALE == 0
    }
}

fn clamp(v: i128) -> u64 {
    u64::try_from(v.max(0)).unwrap_or(u64::MAX)
}

fn div_up(v: i128, by: i128) -> i128 {
    v.div_euclid(by) + i128::from(v.rem_euclid(by) != 0)
}

/// A suffix, with the power of two or ten that it stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Unit {
    Binary(u32),
    Decimal(i32),
    Exponent(i32),
}

const DECIMAL: &[(&str, i32)] = &[
    ("n", -9),
    ("u", -6),
    ("m", -3),
    ("", 0),
    ("k", 3),
    ("M", 6),
    ("G", 9),
    ("T", 12),
    ("P", 15),
    ("E", 18),
];
const BINARY: &[(&str, u32)] = &[
    ("Ki", 10),
    ("Mi", 20),
    ("Gi", 30),
    ("Ti", 40),
    ("Pi", 50),
    ("Ei", 60),
];

/// A quantity's text, taken apart.
struct Parts<'a> {
    negative: bool,
    /// Digits before the point, without leading zeros.
    whole: &'a str,
    /// Digits after the point.
    fraction: &'a str,
    unit: Unit,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Result<Parts<'a>, String> {
        const SYNTAX: &str = "must be a quantity: a number with an optional suffix \
             (m, k, M, G, T, P, E, Ki, Mi, Gi, Ti, Pi, Ei, or an exponent such as e3)";
        let (negative, body) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let end = body
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(body.len());
        let (number, suffix) = body.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(SYNTAX.into());
        }
        let unit = if let Some((_, power)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
            Unit::Decimal(*power)
        } else if let Some((_, power)) = BINARY.iter().find(|(name, _)| *name == suffix) {
            Unit::Binary(*power)
        } else {
            match suffix.strip_prefix(['e', 'E']).map(str::parse) {
                Some(Ok(exponent)) => Unit::Exponent(exponent),
                _ => return Err(SYNTAX.into()),
            }
        };
        Ok(Parts {
            negative,
            whole: whole.trim_start_matches('0'),
            fraction,
            unit,
        })
    }

    fn nanos(&self) -> i128 {
        let nanos = match self.unit {
            Unit::Binary(power) => self.binary_nanos(power).unwrap_or(BINARY_MAX),
            Unit::Decimal(power) | Unit::Exponent(power) => {
                self.decimal_nanos(power).unwrap_or(i128::MAX)
            }
        };
        if self.negative { -nanos } else { nanos }
    }

    /// `whole.fraction * 10^power`, rounded up; `None` if it is more than there is room for.
    fn decimal_nanos(&self, power: i32) -> Option<i128> {
        let digits = format!("{}{}", self.whole, self.fraction);
        let significant = digits.trim_start_matches('0');
        if significant.is_empty() {
            return Some(0);
        }
        let zeros = (digits.len() - significant.len()) as i64;
        // How many of the digits stand before the point when billionths are counted.
        let before = self.whole.len() as i64 - zeros + i64::from(power) + 9;
        if before > 38 {
            return None;
        }
        let before = usize::try_from(before).unwrap_or(0);
        let (kept, lost) = significant.split_at(before.min(significant.len()));
        let kept: i128 = format!("0{kept}{}", "0".repeat(before - kept.len()))
            .parse()
            .ok()?;
        Some(kept + i128::from(lost.bytes().any(|b| b != b'0')))
    }

    /// `whole.fraction * 2^power`, rounded up; `None` if it is more than [`BINARY_MAX`].
    fn binary_nanos(&self, power: u32) -> Option<i128> {
        // More digits than these cannot change the rounded result but by being
        // there at all.
        const FRACTION: usize = 18;
        let (kept, lost) = self.fraction.split_at(self.fraction.len().min(FRACTION));
        let mut round_up = lost.bytes().any(|b| b != b'0');
        let digits = format!("0{}{kept}", self.whole);
        // What has no room here is far above the most.
        let value: i128 = digits.parse().ok()?;
        let mut value = value.checked_mul(1i128.checked_shl(power)?)?;
        match kept.len() {
            0..=9 => value = value.checked_mul(10i128.pow(9 - kept.len() as u32))?,
            more => {
                let by = 10i128.pow(more as u32 - 9);
                round_up |= value % by != 0;
                value /= by;
            }
        }
        let value = value + i128::from(round_up);
        (value <= BINARY_MAX).then_some(value)
    }

    /// Whether a cluster keeps the text although another would be shorter: it looks at
    /// the digits alone (resource.ParseQuantity), so that `1.500` stays and `1.5` is `1500m`.
    fn is_printed_as_written(&self) -> bool {
        let whole = if self.whole.is_empty() {
            "0"
        } else {
            self.whole
        };
        let digits = format!("{whole}{}", self.fraction);
        match self.unit {
            Unit::Binary(power) => {
                // As many as an int64 surely holds, by its own estimate.
                let room = 14usize.saturating_sub(power as usize * 3 / 10);
                let octal = digits.parse::<u64>().is_ok_and(|d| d % 8 != 0);
                self.fraction.is_empty() && digits.len() <= room && octal
            }
            Unit::Decimal(power) | Unit::Exponent(power) => {
                let scale = i64::from(power) - self.fraction.len() as i64;
                digits.len() <= 18
                    && scale >= -9
                    && scale % 3 == 0
                    && !digits.ends_with("000")
                    && !digits.starts_with('0')
            }
        }
    }
}

/// With the greatest suffix that leaves a whole number.
fn binary(mut value: i128) -> String {
    let mut suffix = "";
    for (name, _) in BINARY {
        if value % 1024 != 0 {
            break;
        }
        value /= 1024;
        suffix = name;
    }
    format!("{value}{suffix}")
}

/// Likewise; with `exponents`, `e3` for `k`.
fn decimal(nanos: i128, exponents: bool) -> String {
    let (mut value, mut power) = (nanos, -9);
    while value % 1000 == 0 && (exponents || power < 18) {
        value /= 1000;
        power += 3;
    }
    match DECIMAL.iter().find(|(_, p)| *p == power) {
        Some((suffix, _)) if !exponents => format!("{value}{suffix}"),
        _ if power == 0 => value.to_string(),
        _ => format!("{value}e{power}"),
    }
}

/// A quantity as a cluster prints it, or as it is written if it is none. Blanks around it
/// do not count; a tab or newline does, since a cluster looks at JSON's escapes for them.
pub(crate) fn printed(text: &str) -> String {
    let blank = |c: char| c.is_whitespace() && !c.is_control();
    let text = text.trim_matches(blank);
    Quantity::canonical(text).unwrap_or_else(|_| text.to_owned())
}

/// A number as Go's encoding/json writes it, and with it kubectl.
pub(crate) fn json_number(f: f64) -> String {
    let magnitude = f.abs();
    if f == 0.0 || (1e-6..1e21).contains(&magnitude) {
        return f.to_string();
    }
    let text = format!("{f:e}");
    match text.split_once('e') {
        Some((digits, exponent)) if !exponent.starts_with('-') => format!("{digits}e+{exponent}"),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_form() {
        let table: &[(&str, u64, u128)] = &[
            ("0", 0, 0),
            ("1", 1, 1000),
            ("+1", 1, 1000),
            ("500m", 1, 500),
            ("0.5", 1, 500),
            (".5", 1, 500),
            ("5.", 5, 5000),
            ("1.5Gi", 1_610_612_736, 1_610_612_736_000),
            ("128974848", 128_974_848, 128_974_848_000),
            ("129e6", 129_000_000, 129_000_000_000),
            ("129E6", 129_000_000, 129_000_000_000),
            (
                "1E",
                1_000_000_000_000_000_000,
                1_000_000_000_000_000_000_000,
            ),
            ("129M", 129_000_000, 129_000_000_000),
            ("123Mi", 128_974_848, 128_974_848_000),
            ("1e-3", 1, 1),
            ("1u", 1, 1),
            ("100n", 1, 1),
            ("0.0001", 1, 1),
            ("0.1m", 1, 1),
            ("1.0000000000000000000001", 2, 1001),
            (
                "7Ei",
                8_070_450_532_247_928_832,
                8_070_450_532_247_928_832_000,
            ),
        ];
        for &(text, units, millis) in table {
            let q = Quantity::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(q.units(), units, "{text}");
            let millis = u64::try_from(millis).unwrap_or(u64::MAX);
            assert_eq!(q.millis(), millis, "{text}");
        }
    }

    #[test]
    fn refuses_the_rest() {
        for text in [
            "",
            "-",
            "m",
            ".",
            "1.2.3",
            "1 Gi",
            "1gi",
            "1KB",
            "1K",
            "1e",
            "1ee3",
            "0x10",
            "1_000",
            "1e999999999999",
            "１",
            "1Gi ",
            " 1",
            "--1",
            "inf",
            "NaN",
        ] {
            assert!(Quantity::parse(text).is_err(), "{text}");
        }
        assert!(Quantity::parse("-1").unwrap().is_negative());
        assert!(!Quantity::parse("-0").unwrap().is_negative());
        assert_eq!(Quantity::parse("1e-99999").unwrap().millis(), 1);
    }

    #[test]
    fn only_binary_suffixes_have_a_bound() {
        let most = Quantity::parse("9223372036854775807").unwrap();
        let nines = "9".repeat(10_000);
        for text in ["8Ei", "9Ei", "8191Pi", "99999999999999999999Ki", "1e99"] {
            let q = Quantity::parse(text).unwrap();
            assert_eq!(q > most, text == "1e99", "{text}");
        }
        assert_eq!(Quantity::parse(&format!("{nines}Ki")).unwrap(), most);
        assert_eq!(Quantity::parse(&format!("{nines}.{nines}Ei")), Ok(most));
        assert!(Quantity::parse("20E").unwrap() > Quantity::parse("10E").unwrap());
        assert_eq!(Quantity::parse(&nines).unwrap().units(), i64::MAX as u64);
        let small = format!("0.{}1", "0".repeat(10_000));
        assert_eq!(Quantity::parse(&small).unwrap().millis(), 1);
        let long = format!("1{}e-100", "0".repeat(101));
        assert_eq!(Quantity::parse(&long).unwrap().units(), 10);
    }

    #[test]
    fn is_printed_as_on_a_cluster() {
        for (text, printed) in [
            ("0", "0"),
            ("000", "0"),
            ("-0", "0"),
            ("0Mi", "0"),
            ("0.000m", "0"),
            ("1", "1"),
            ("0.5", "500m"),
            (".5", "500m"),
            ("0.500", "500m"),
            ("1.5", "1500m"),
            ("1.0", "1"),
            ("1000m", "1"),
            ("1500m", "1500m"),
            ("0.1m", "100u"),
            ("0.0000000001", "1n"),
            ("1000", "1k"),
            ("1024", "1024"),
            ("67108864", "67108864"),
            ("1000000000", "1G"),
            ("1200000", "1200k"),
            ("1000E", "1000E"),
            ("10E", "10E"),
            // The digits alone count.
            ("1.500", "1.500"),
            ("5.", "5."),
            ("+1", "+1"),
            ("0100m", "0100m"),
            ("100000", "100k"),
            ("1024Mi", "1Gi"),
            ("1536Mi", "1536Mi"),
            ("1.5Gi", "1536Mi"),
            ("0.5Gi", "512Mi"),
            ("0.5Ki", "512"),
            ("1.1Ki", "1126400m"),
            ("0.0001Ki", "102400u"),
            ("1048576Ki", "1Gi"),
            ("100Mi", "100Mi"),
            ("8Ki", "8Ki"),
            ("-2048Ki", "-2Mi"),
            ("7Ei", "7Ei"),
            ("8Ei", "9223372036854775807"),
            ("1e3", "1e3"),
            ("1E3", "1E3"),
            ("1e4", "10e3"),
            ("1000e3", "1e6"),
            ("5e-1", "500e-3"),
            ("1e0", "1e0"),
            ("10e-1", "1"),
            ("1e-99999", "1e-9"),
            ("1e21", "1e21"),
        ] {
            let found = Quantity::canonical(text);
            assert_eq!(found.as_deref(), Ok(printed), "{text}");
            let again = Quantity::canonical(printed);
            assert_eq!(again.as_deref(), Ok(printed), "{printed}");
            assert_eq!(Quantity::parse(text), Quantity::parse(printed), "{text}");
        }
    }

    #[test]
    fn writes_numbers_as_kubectl_does() {
        for (number, text) in [
            (1e9, "1000000000"),
            (0.50, "0.5"),
            (-1.0, "-1"),
            (0.0, "0"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (1.5e-7, "1.5e-7"),
        ] {
            assert_eq!(json_number(number), text);
        }
    }
}
