//! Kubernetes' quantities (`500m`, `1.5Gi`, `1e3`), exactly.
//!
//! A quantity is `sign digits[.digits] suffix`; the suffix is binary (`Ki` to
//! `Ei`), decimal (`n u m k M G T P E`) or an exponent (`e3`). It is read into a
//! whole number of billionths, rounding up as Kubernetes does, never through a
//! floating-point number.

/// Billionths in one.
const SCALE: i128 = 1_000_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity {
    nanos: i128,
}

impl Quantity {
    /// The error says what is wrong with the text.
    pub fn parse(text: &str) -> Result<Quantity, String> {
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
        let (base, power) = match suffix {
            "" => (10, 0),
            "n" => (10, -9),
            "u" => (10, -6),
            "m" => (10, -3),
            "k" => (10, 3),
            "M" => (10, 6),
            "G" => (10, 9),
            "T" => (10, 12),
            "P" => (10, 15),
            "E" => (10, 18),
            "Ki" => (2, 10),
            "Mi" => (2, 20),
            "Gi" => (2, 30),
            "Ti" => (2, 40),
            "Pi" => (2, 50),
            "Ei" => (2, 60),
            _ => match suffix.strip_prefix(['e', 'E']).map(str::parse::<i32>) {
                Some(Ok(exponent)) => (10, exponent),
                _ => return Err(SYNTAX.into()),
            },
        };
        let nanos = scale(whole, fraction, base, power)
            .ok_or("is out of range: at most 2^63-1 is possible")?;
        Ok(Quantity {
            nanos: if negative { -nanos } else { nanos },
        })
    }

    pub fn is_negative(self) -> bool {
        self.nanos < 0
    }

    /// Whole units (bytes), rounded up.
    pub fn units(self) -> u64 {
        clamp(div_up(self.nanos, SCALE))
    }

    /// Thousandths, rounded up.
    pub fn millis(self) -> u64 {
        clamp(div_up(self.nanos, SCALE / 1000))
    }

    pub fn is_whole(self) -> bool {
        self.nanos % SCALE == 0
    }
}

fn clamp(v: i128) -> u64 {
    u64::try_from(v.max(0)).unwrap_or(u64::MAX)
}

fn div_up(v: i128, by: i128) -> i128 {
    v.div_euclid(by) + i128::from(v.rem_euclid(by) != 0)
}

/// `whole.fraction * base^power` in billionths, rounded up; `None` if it is more
/// than an int64 holds.
fn scale(whole: &str, fraction: &str, base: i128, power: i32) -> Option<i128> {
    // More digits than these cannot change the rounded result but by being
    // there at all.
    const FRACTION: usize = 18;
    let whole = whole.trim_start_matches('0');
    let significant = whole.len().max(1);
    let (kept, lost) = fraction.split_at(fraction.len().min(FRACTION));
    if whole.is_empty() && fraction.bytes().all(|b| b == b'0') {
        return Some(0);
    }
    if significant > 28 || power > 60 {
        return None;
    }
    let digits = format!("{whole}{kept}");
    let mut value: i128 = digits.parse().ok()?;
    let mut round_up = lost.bytes().any(|b| b != b'0');
    // value * 10^-kept * base^power * 10^9
    let mut tens = 9 - kept.len() as i32;
    if base == 2 {
        value = value.checked_mul(1i128.checked_shl(power as u32)?)?;
    } else {
        tens = tens.checked_add(power)?;
    }
    if tens >= 0 {
        value = value.checked_mul(10i128.checked_pow(tens as u32)?)?;
    } else if let Some(by) = 10i128.checked_pow(tens.unsigned_abs()) {
        round_up |= value % by != 0;
        value /= by;
    } else {
        (value, round_up) = (0, true);
    }
    value += i128::from(round_up);
    (value <= i128::from(i64::MAX) * SCALE).then_some(value)
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
            "8Ei",
            "1e99",
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
        assert!(Quantity::parse(&"9".repeat(10_000)).is_err());
    }
}
