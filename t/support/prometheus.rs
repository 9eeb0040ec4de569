//! A strict reader of Prometheus' text exposition format 0.0.4: what is only tolerated is refused.

use std::collections::{BTreeMap, BTreeSet};

/// All metrics of a page.
#[derive(Debug, Default)]
pub struct Metrics {
    pub families: BTreeMap<String, Family>,
}

#[derive(Debug, Default)]
pub struct Family {
    pub kind: String,
    pub help: String,
    pub samples: Vec<Sample>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

impl Metrics {
    /// The page, or what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.strip_suffix('\n').ok_or("the last line has no end")?;
        let mut metrics = Self::default();
        let mut seen = BTreeSet::new();
        let mut current = String::new();
        for line in text.split('\n') {
            let wrong = |what: &str| format!("{what}: {line:?}");
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').ok_or(wrong("no help"))?;
                if !is_name(name) || help.trim() != help || help.is_empty() {
                    return Err(wrong("a bad help line"));
                }
                let family = Family { help: help.to_owned(), ..Family::default() };
                if metrics.families.insert(name.to_owned(), family).is_some() {
                    return Err(wrong("a second help line"));
                }
                name.clone_into(&mut current);
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').ok_or(wrong("no type"))?;
                let family = metrics.families.get_mut(name).ok_or(wrong("no help before"))?;
                let is_counter = kind == "counter";
                if name != current
                    || !family.kind.is_empty()
                    || !["counter", "gauge", "histogram"].contains(&kind)
                    || name.ends_with("_total") != is_counter
                {
                    return Err(wrong("a bad type line"));
                }
                kind.clone_into(&mut family.kind);
            } else {
                let sample = Sample::parse(line).ok_or(wrong("a bad sample"))?;
                let family = metrics.families.get_mut(&current).ok_or(wrong("no family"))?;
                let end = sample.name.strip_prefix(&current).ok_or(wrong("another family's"))?;
                let is_part = match family.kind.as_str() {
                    "" => return Err(wrong("no type before")),
                    "histogram" => ["_bucket", "_sum", "_count"].contains(&end),
                    _ => end.is_empty(),
                };
                if !is_part || (end == "_bucket") != sample.labels.contains_key("le") {
                    return Err(wrong("a sample that does not belong here"));
                }
                if sample.value < 0.0 || !sample.value.is_finite() {
                    return Err(wrong("no number that counts anything"));
                }
                if !seen.insert(format!("{} {:?}", sample.name, sample.labels)) {
                    return Err(wrong("a second sample"));
                }
                family.samples.push(sample);
            }
        }
        for (name, family) in &metrics.families {
            if family.samples.is_empty() {
                return Err(format!("{name} has no samples"));
            }
            if family.kind == "histogram" {
                family.check_histogram().map_err(|what| format!("{name}: {what}"))?;
            }
        }
        Ok(metrics)
    }

    /// Names of all samples.
    pub fn names(&self) -> BTreeSet<&str> {
        let samples = self.families.values().flat_map(|family| &family.samples);
        samples.map(|sample| sample.name.as_str()).collect()
    }

    /// The sample with exactly these labels.
    #[track_caller]
    pub fn get(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let wanted: BTreeMap<String, String> =
            labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut samples = self.families.values().flat_map(|family| &family.samples);
        let found = samples.find(|sample| sample.name == name && sample.labels == wanted);
        found.unwrap_or_else(|| panic!("no {name} {labels:?}")).value
    }
}

impl Family {
    /// Buckets ascend, in bound and in count, up to `+Inf`, which is the count; there is a sum.
    fn check_histogram(&self) -> Result<(), String> {
        let mut groups: BTreeMap<String, Vec<&Sample>> = BTreeMap::new();
        for sample in &self.samples {
            let mut labels = sample.labels.clone();
            labels.remove("le");
            groups.entry(format!("{labels:?}")).or_default().push(sample);
        }
        for (labels, samples) in groups {
            let of = |end: &str| -> Vec<&Sample> {
                samples.iter().filter(|sample| sample.name.ends_with(end)).copied().collect()
            };
            let buckets = of("_bucket");
            let bounds: Vec<f64> = buckets
                .iter()
                .map(|bucket| bucket.labels["le"].parse().map_err(|_| "a bound is no number"))
                .collect::<Result<_, _>>()?;
            let ascend = bounds.windows(2).all(|pair| pair[0] < pair[1])
                && buckets.windows(2).all(|pair| pair[0].value <= pair[1].value);
            let last = buckets.last().filter(|last| last.labels["le"] == "+Inf");
            let (counts, sums) = (of("_count"), of("_sum"));
            if !ascend
                || sums.len() != 1
                || counts.len() != 1
                || last.map(|last| last.value) != Some(counts[0].value)
            {
                return Err(format!("a broken histogram of {labels}"));
            }
        }
        Ok(())
    }
}

impl Sample {
    /// `name{label="value",…} number`, without a timestamp and without a blank too many.
    fn parse(line: &str) -> Option<Self> {
        let end = line.find(['{', ' '])?;
        let (name, mut rest) = line.split_at(end);
        let mut labels = BTreeMap::new();
        if let Some(inner) = rest.strip_prefix('{') {
            rest = inner;
            loop {
                let (label, value) = rest.split_once("=\"")?;
                let (value, after) = unquote(value)?;
                let is_label = is_name(label) && !label.contains(':') && !label.starts_with("__");
                if !is_label || labels.insert(label.to_owned(), value).is_some() {
                    return None;
                }
                match after.split_at_checked(1)? {
                    (",", more) => rest = more,
                    ("}", end) => {
                        rest = end;
                        break;
                    }
                    _ => return None,
                }
            }
        }
        let number = rest.strip_prefix(' ')?;
        let plain = number.bytes().all(|byte| byte.is_ascii_digit() || b".e+-".contains(&byte));
        let value = number.parse().ok().filter(|_| plain)?;
        is_name(name).then(|| Self { name: name.to_owned(), labels, value })
    }
}

/// The text up to the closing quote, and what follows it.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut letters = text.char_indices();
    loop {
        match letters.next()? {
            (at, '"') => return Some((value, &text[at + 1..])),
            (_, '\\') => value.push(match letters.next()?.1 {
                'n' => '\n',
                letter @ ('\\' | '"') => letter,
                _ => return None,
            }),
            (_, letter) => value.push(letter),
        }
    }
}

fn is_name(text: &str) -> bool {
    !text.starts_with(|first: char| first.is_ascii_digit())
        && !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_:".contains(&byte))
}
