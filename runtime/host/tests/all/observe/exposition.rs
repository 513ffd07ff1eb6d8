//! A strict reader of Prometheus' text format: what `promtool` takes, and some of what it lets pass.
//!
//! Families once and whole, help and type first, names and labels of the right letters, values escaped, no series twice,
//! counters named `_total`, histograms that only grow and end in their count.

use std::collections::{BTreeMap, BTreeSet};

/// A series: its name and its labels.
pub type Series = (String, Vec<(String, String)>);

/// What was read, by series.
#[derive(Debug, Default)]
pub struct Exposition {
    /// Values by name and labels.
    pub series: BTreeMap<Series, f64>,
    /// Types by family.
    pub families: BTreeMap<String, String>,
}

impl Exposition {
    /// The one series with this name and, among others, these labels.
    pub fn get(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let has =
            |all: &[(String, String)]| labels.iter().all(|(k, v)| all.iter().any(|(a, b)| a == k && b == v));
        self.series.iter().find(|((own, all), _)| own == name && has(all)).map(|(_, value)| *value)
    }
}

fn is_name(text: &str, colons: bool) -> bool {
    let mut letters = text.bytes();
    let first = |b: u8| b.is_ascii_alphabetic() || b == b'_' || (colons && b == b':');
    letters.next().is_some_and(first) && letters.all(|b| first(b) || b.is_ascii_digit())
}

/// Reads a text.
///
/// # Errors
/// The first thing that is wrong, with its line.
pub fn parse(text: &str) -> Result<Exposition, String> {
    let mut read = Exposition::default();
    let (mut family, mut helped) = (String::new(), BTreeSet::new());
    if !text.ends_with('\n') {
        return Err("the last line has no end".to_owned());
    }
    for line in text.lines() {
        let wrong = |why: &str| Err(format!("{why}: {line}"));
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, _) = rest.split_once(' ').ok_or_else(|| format!("no help: {line}"))?;
            if !is_name(name, true) || !helped.insert(name.to_owned()) {
                return wrong("a bad name, or help given twice");
            }
            family = name.to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').ok_or_else(|| format!("no type: {line}"))?;
            if name != family || !["counter", "gauge", "histogram"].contains(&kind) {
                return wrong("a type that does not follow its help, or is unknown");
            }
            if (kind == "counter") != name.ends_with("_total") {
                return wrong("counters end with _total, and nothing else does");
            }
            read.families.insert(name.to_owned(), kind.to_owned());
        } else {
            let (series, value) = sample(line)?;
            if !belongs(&series.0, &family, &read.families) {
                return wrong("a sample outside its family");
            }
            if read.series.insert(series, value).is_some() {
                return wrong("a series that was there already");
            }
        }
    }
    histograms(&read)?;
    Ok(read)
}

fn belongs(name: &str, family: &str, families: &BTreeMap<String, String>) -> bool {
    match families.get(family).map(String::as_str) {
        Some("histogram") => {
            ["_bucket", "_sum", "_count"].iter().any(|end| name.strip_suffix(end) == Some(family))
        }
        Some(_) => name == family,
        None => false,
    }
}

fn sample(line: &str) -> Result<(Series, f64), String> {
    let wrong = |why: &str| format!("{why}: {line}");
    let end = line.find(['{', ' ']).ok_or_else(|| wrong("no value"))?;
    let (name, mut rest) = line.split_at(end);
    if !is_name(name, true) {
        return Err(wrong("a bad name"));
    }
    let mut labels = Vec::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        while !rest.starts_with('}') {
            let (label, after) = rest.split_once("=\"").ok_or_else(|| wrong("a label without a value"))?;
            if !is_name(label, false) {
                return Err(wrong("a bad label"));
            }
            let (value, after) = quoted(after).ok_or_else(|| wrong("a bad escape, or no closing quote"))?;
            labels.push((label.to_owned(), value));
            rest = after.strip_prefix(',').unwrap_or(after);
        }
        rest = &rest[1..];
    }
    let mut names: Vec<&String> = labels.iter().map(|(name, _)| name).collect();
    names.sort();
    if names.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(wrong("a label twice"));
    }
    let text = rest.strip_prefix(' ').ok_or_else(|| wrong("no space before the value"))?;
    let value = match text {
        "+Inf" => f64::INFINITY,
        _ => text.parse().map_err(|_| wrong("the value is no number"))?,
    };
    if f64::is_nan(value) {
        return Err(wrong("the value is no number"));
    }
    labels.sort();
    Ok(((name.to_owned(), labels), value))
}

fn quoted(text: &str) -> Option<(String, &str)> {
    let (mut value, mut letters) = (String::new(), text.char_indices());
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match letters.next()?.1 {
                'n' => value.push('\n'),
                escaped @ ('\\' | '"') => value.push(escaped),
                _ => return None,
            },
            _ => value.push(letter),
        }
    }
    None
}

/// Names and values of a series' labels.
type Labels = Vec<(String, String)>;

/// The labels of a histogram's series without `le`.
fn apart(labels: &[(String, String)]) -> (Labels, Option<&str>) {
    let bound = labels.iter().find(|(name, _)| name == "le").map(|(_, bound)| bound.as_str());
    (labels.iter().filter(|(name, _)| name != "le").cloned().collect(), bound)
}

fn histograms(read: &Exposition) -> Result<(), String> {
    for family in read.families.iter().filter(|(_, kind)| *kind == "histogram").map(|(name, _)| name) {
        let mut all: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
        for ((name, labels), value) in &read.series {
            if *name == format!("{family}_bucket") {
                let (labels, bound) = apart(labels);
                let bound = bound.ok_or_else(|| format!("{family}: a bucket without a bound"))?;
                let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().map_err(|_| bound)? };
                all.entry(labels).or_default().push((bound, *value));
            }
        }
        for (labels, mut buckets) in all {
            buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
            let grows = buckets.windows(2).all(|pair| pair[0].1 <= pair[1].1 && pair[0].0 < pair[1].0);
            let count = read.series.get(&(format!("{family}_count"), labels.clone()));
            let sum = read.series.get(&(format!("{family}_sum"), labels.clone()));
            let last = buckets.last().copied();
            if !grows || last != count.map(|count| (f64::INFINITY, *count)) || sum.is_none() {
                return Err(format!("{family}{labels:?}: {buckets:?}, count {count:?}, sum {sum:?}"));
            }
        }
    }
    Ok(())
}

#[test]
fn the_reader_refuses_what_prometheus_refuses() {
    let family = "# HELP a_total A.\n# TYPE a_total counter\n";
    assert!(parse(&format!("{family}a_total{{x=\"\\\"\\\\\\n\"}} 1\n")).is_ok());
    for wrong in [
        format!("{family}a_total 1"),
        format!("{family}a_total 1\na_total 2\n"),
        format!("{family}a_total{{x=\"1\",x=\"2\"}} 1\n"),
        format!("{family}a_total{{x=\"\\q\"}} 1\n"),
        format!("{family}a_total{{x=\"1}} 1\n"),
        format!("{family}a_total{{0x=\"1\"}} 1\n"),
        format!("{family}a_total one\n"),
        format!("{family}b_total 1\n"),
        format!("{family}{family}"),
        "a_total 1\n".to_owned(),
        "# HELP a A.\n# TYPE a counter\n".to_owned(),
        "# HELP a_total A.\n# TYPE a_total gauge\n".to_owned(),
        "# TYPE a_total counter\n".to_owned(),
        "# HELP h H.\n# TYPE h histogram\nh_bucket{le=\"1\"} 2\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\n".to_owned(),
        "# HELP h H.\n# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 2\n".to_owned(),
        "# HELP h H.\n# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_sum 1\nh_count 1\n".to_owned(),
    ] {
        assert!(parse(&wrong).is_err(), "{wrong}");
    }
}
