//! JSON text as HUMAN's own enforcers write it: compact, keys in order, numbers the JavaScript way.
//!
//! Source: risk-token.md §§ 4.6, 5 and 9. The payload is reported re-serialised, and v1 and v2
//! sign the text of their numbers, so that `1e3` must become `1000` here as it does there.

use std::fmt::Write as _;
use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::ser::{Formatter, Serializer};

/// Reads JSON as every enforcer does, text first: what is not UTF-8 is replaced. `None` if it is
/// no JSON, or not of type `T`.
pub(crate) fn parse<T: DeserializeOwned>(json: &[u8]) -> Option<T> {
    serde_json::from_str(&String::from_utf8_lossy(json)).ok()
}

/// The value as compact JSON text; non-ASCII characters are literal.
pub(crate) fn compact(value: &impl Serialize) -> String {
    let mut text = Vec::with_capacity(128);
    let written = value.serialize(&mut Serializer::with_formatter(&mut text, JavaScriptNumbers));
    // Neither a `Value` nor a `Map` can fail to serialise into memory.
    written.map_or_else(|_| String::new(), |()| String::from_utf8(text).unwrap_or_default())
}

struct JavaScriptNumbers;

/// Integers up to here are exact in JavaScript.
const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

impl Formatter for JavaScriptNumbers {
    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        writer.write_all(number(value).as_bytes())
    }

    fn write_u64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: u64) -> io::Result<()> {
        if value <= MAX_SAFE_INTEGER {
            return write!(writer, "{value}");
        }
        #[expect(clippy::cast_precision_loss, reason = "the loss is what JavaScript has too")]
        self.write_f64(writer, value as f64)
    }

    fn write_i64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: i64) -> io::Result<()> {
        if value.unsigned_abs() <= MAX_SAFE_INTEGER {
            return write!(writer, "{value}");
        }
        #[expect(clippy::cast_precision_loss, reason = "the loss is what JavaScript has too")]
        self.write_f64(writer, value as f64)
    }
}

/// The number as `String(number)` writes it (ECMA-262 § 6.1.6.1.20): the shortest digits that read
/// back the same, without exponent from 1e-6 up to 1e21. `null` for what JSON cannot say.
pub(crate) fn number(value: f64) -> String {
    if !value.is_finite() {
        return "null".to_owned();
    }
    if value == 0.0 {
        return "0".to_owned();
    }
    // `d.ddde±n`: Rust finds the same shortest digits and only lays them out differently.
    let scientific = format!("{:e}", value.abs());
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let digits = mantissa.replace('.', "");
    let exponent: i32 = exponent.parse().unwrap_or_default();

    let mut text = String::with_capacity(24);
    if value < 0.0 {
        text.push('-');
    }
    let whole_digits = usize::try_from(exponent + 1).unwrap_or_default();
    match exponent {
        0..=20 => match digits.split_at_checked(whole_digits) {
            None | Some((_, "")) => {
                let _ = write!(text, "{digits:0<whole_digits$}");
            }
            Some((whole, fraction)) => {
                let _ = write!(text, "{whole}.{fraction}");
            }
        },
        -6..=-1 => {
            let zeros = usize::try_from(-exponent - 1).unwrap_or_default();
            let _ = write!(text, "0.{:0>width$}", digits, width = zeros + digits.len());
        }
        _ => {
            let sign = if exponent < 0 { '-' } else { '+' };
            let _ = write!(text, "{mantissa}e{sign}{}", exponent.unsigned_abs());
        }
    }
    text
}

/// Whether JavaScript would take the value for true.
pub(crate) fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(_) | Value::Object(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_javascript_writes_them() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "0"),
            (1.0, "1"),
            (-17.0, "-17"),
            (100.0, "100"),
            (99.5, "99.5"),
            (0.1, "0.1"),
            (-0.25, "-0.25"),
            (1_750_000_330_000.0, "1750000330000"),
            (1_750_000_330_000.5, "1750000330000.5"),
            (123_456_789.012_345_67, "123456789.01234567"),
            (9_007_199_254_740_993.0, "9007199254740992"),
            (1e20, "100000000000000000000"),
            (123e18, "123000000000000000000"),
            (1e21, "1e+21"),
            (1.5e300, "1.5e+300"),
            (-1.234e22, "-1.234e+22"),
            (0.000_001, "0.000001"),
            (0.000_001_23, "0.00000123"),
            (0.000_000_1, "1e-7"),
            (1.5e-9, "1.5e-9"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::NAN, "null"),
            (f64::INFINITY, "null"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn json_is_compact_with_keys_in_order_and_text_literal() {
        for (json, compacted) in [
            (r#" { "b" : 1 , "a" : [ 1 , 2 ] } "#, r#"{"b":1,"a":[1,2]}"#),
            (r#"{"s":1e2,"t":1.0,"n":-0,"f":1.50}"#, r#"{"s":100,"t":1,"n":0,"f":1.5}"#),
            ("[9007199254740993, 18446744073709551615]", "[9007199254740992,18446744073709552000]"),
            ("[-9223372036854775808, 1e-7]", "[-9223372036854776000,1e-7]"),
            ("[123456789012345680000]", "[123456789012345680000]"),
            (r#"{"a":1,"b":2,"a":3}"#, r#"{"a":3,"b":2}"#),
            (r#"["\u00e9\/\u0041"]"#, "[\"\u{e9}/A\"]"),
            (r#"["\u0001\u001f\n\t\b\f\r\"\\"]"#, r#"["\u0001\u001f\n\t\b\f\r\"\\"]"#),
            ("[\"\u{7f}\u{2028}\u{1f600}\"]", "[\"\u{7f}\u{2028}\u{1f600}\"]"),
            (r#"[true,false,null,{},[],""]"#, r#"[true,false,null,{},[],""]"#),
        ] {
            let value: Value = parse(json.as_bytes()).expect(json);
            assert_eq!(compact(&value), compacted);
        }
    }

    #[test]
    fn what_is_no_json_is_refused_whatever_its_depth() {
        let deep = "[".repeat(100_000);
        for json in ["", "nul", "{", "1e400", "NaN", "'a'", "{} {}", deep.as_str()] {
            assert_eq!(parse::<Value>(json.as_bytes()), None);
        }
        assert_eq!(parse::<Value>(b"\"\xff\""), Some(Value::from("\u{fffd}")));
    }

    #[test]
    fn truth_is_javascripts() {
        for (json, truthy) in [
            ("true", true),
            ("1", true),
            ("-0.5", true),
            ("\"0\"", true),
            ("[]", true),
            ("{}", true),
            ("false", false),
            ("0", false),
            ("-0", false),
            ("0.0", false),
            ("\"\"", false),
            ("null", false),
        ] {
            assert_eq!(is_truthy(&parse(json.as_bytes()).expect(json)), truthy, "{json}");
        }
    }
}
