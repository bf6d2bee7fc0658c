//! Exact arithmetic on numbers as they are written, for the oracle.

use num_bigint::BigUint;

/// Whether a whole number is exactly the double `value`.
#[must_use]
pub fn is_exact(text: &str, value: f64) -> bool {
    let digits = text.trim_start_matches('-');
    let written: BigUint = digits.parse().expect("digits");
    let bits = value.to_bits();
    let (exponent, fraction) = (bits >> 52 & 0x7ff, bits & ((1 << 52) - 1));
    // A whole number is zero or normal.
    let held = match exponent {
        0 => BigUint::ZERO,
        1075.. => BigUint::from(fraction | 1 << 52) << (exponent - 1075),
        _ => BigUint::from((fraction | 1 << 52) >> (1075 - exponent)),
    };
    written == held
}

/// Whether `text` is `-? (digits | digits . digits? | . digits) ([eE] [+-]? digits)?`.
fn is_decimal(text: &[u8]) -> bool {
    let mut rest = text;
    let mut take = |wanted: fn(u8) -> bool, most: usize| {
        let taken = rest.iter().take(most).take_while(|byte| wanted(**byte)).count();
        rest = &rest[taken..];
        taken
    };
    let digits = usize::MAX;
    take(|byte| byte == b'-', 1);
    let whole = take(|byte| byte.is_ascii_digit(), digits);
    take(|byte| byte == b'.', 1);
    let fraction = take(|byte| byte.is_ascii_digit(), digits);
    let exponent = take(|byte| byte | 0x20 == b'e', 1);
    take(|byte| byte == b'+' || byte == b'-', exponent);
    let power = take(|byte| byte.is_ascii_digit(), exponent * digits);
    whole + fraction > 0 && power >= exponent && rest.is_empty()
}

/// `text` times `10^scale`, if it is a whole number of at most `precision` digits.
#[must_use]
pub fn decimal(text: &str, precision: u8, scale: u8) -> Option<i128> {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let unsigned = mantissa.strip_prefix('-').unwrap_or(mantissa);
    if !is_decimal(text.as_bytes()) {
        return None;
    }
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let digits = [whole, fraction].concat();
    let significant = digits.trim_start_matches('0').trim_end_matches('0');
    if significant.is_empty() {
        return Some(0);
    }
    let trailing = digits.len() - digits.trim_end_matches('0').len();
    let exponent: i64 = exponent.parse().ok()?;
    let zeros = exponent.checked_add(i64::from(scale) + trailing as i64 - fraction.len() as i64)?;
    if zeros < 0 || zeros > i64::from(precision) - significant.len() as i64 {
        return None;
    }
    let value: i128 = format!("{significant}{}", "0".repeat(usize::try_from(zeros).ok()?)).parse().ok()?;
    Some(if mantissa.starts_with('-') { -value } else { value })
}
