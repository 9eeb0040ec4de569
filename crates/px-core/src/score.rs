//! Risk score: a JSON number, 0..100 by convention.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::token::json_text;

/// A risk score. Whole numbers are written without a fraction, as every enforcer does.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Score(pub f64);

impl Score {
    /// The whole number this score is, if it is one that JSON writes without an exponent.
    fn whole(self) -> Option<i64> {
        #[expect(clippy::cast_possible_truncation, reason = "checked to be whole and in range")]
        (self.0.fract() == 0.0 && self.0.abs() < 1e15).then_some(self.0 as i64)
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&json_text::number(self.0))
    }
}

impl Serialize for Score {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.whole() {
            Some(n) => serializer.serialize_i64(n),
            None => serializer.serialize_f64(self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_scores_have_no_fraction() {
        for (score, text) in [(100.0, "100"), (0.0, "0"), (-0.0, "0"), (99.5, "99.5"), (-1.0, "-1")]
        {
            assert_eq!(Score(score).to_string(), text);
            assert_eq!(serde_json::to_string(&Score(score)).ok().as_deref(), Some(text));
        }
        assert_eq!(Score(1e300).to_string(), "1e+300");
    }
}
