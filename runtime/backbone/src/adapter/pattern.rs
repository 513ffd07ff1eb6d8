//! Which modules a configuration means: PEFT's three ways of naming them, and its per-module patterns.
//!
//! Follows `check_target_module_exists` and `get_pattern_key` of PEFT 0.21. Python's `re` knows constructs that a
//! linear-time engine has not (look-around, back-references); those are refused by name rather than approximated, and so
//! are the character-class operators that the two read differently.

use regex::{Regex, RegexBuilder};

/// Longest pattern, bytes; arbitrary, far above what names of modules need.
const PATTERN_BYTES_MAX: usize = 4096;

/// Largest compiled pattern, bytes; arbitrary, some hundred times a usual one.
const COMPILED_BYTES_MAX: usize = 1 << 20;

/// Compiles a pattern that must match from start to end.
pub(crate) fn compile(pattern: &str) -> Result<Regex, String> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(format!("the pattern has {} bytes, at most {PATTERN_BYTES_MAX} are read", pattern.len()));
    }
    let set_operator = ["[[", "&&", "--", "~~"].iter().find(|operator| pattern.contains(*operator));
    if let (true, Some(operator)) = (pattern.contains('['), set_operator) {
        return Err(format!(
            "{pattern:?} has {operator:?}, which Python and this runtime read differently; rewrite it"
        ));
    }
    // On its own first, so that an unbalanced bracket cannot pair with those put around it.
    for text in [pattern.to_owned(), format!(r"\A(?:{pattern})\z")] {
        let built = RegexBuilder::new(&text).size_limit(COMPILED_BYTES_MAX).nest_limit(64).build();
        match built {
            Ok(regex) if text.len() > pattern.len() => return Ok(regex),
            Ok(_) => {}
            Err(error) => {
                let reason = error.to_string().lines().last().unwrap_or_default().trim().to_owned();
                return Err(format!(
                    "pattern {pattern:?} cannot be read here ({reason}); list the modules instead"
                ));
            }
        }
    }
    Err("empty pattern".to_owned())
}

/// `target_modules` or `exclude_modules`.
#[derive(Debug, Clone)]
pub(crate) enum Selection {
    /// Whole paths or their dotted endings.
    Names(Vec<String>),
    /// A pattern for whole paths.
    Pattern(Regex),
    /// Every linear layer of the blocks: `"all-linear"`.
    AllLinear,
}

impl Selection {
    /// Whether a path is named; `linear` says whether the module is a linear layer other than the head.
    pub fn matches(&self, path: &str, linear: bool) -> bool {
        match self {
            Self::Names(names) => names.iter().any(|name| ends_with_component(path, name)),
            Self::Pattern(regex) => regex.is_match(path),
            Self::AllLinear => linear,
        }
    }

    /// Whether a path is named as a whole, which PEFT exempts from the layer list.
    fn names_whole(&self, path: &str) -> bool {
        matches!(self, Self::Names(names) if names.iter().any(|name| name == path))
    }
}

/// Whether `path` is `name` or ends with a dot and `name`.
pub(crate) fn ends_with_component(path: &str, name: &str) -> bool {
    path.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// `layers_to_transform` with `layers_pattern`.
#[derive(Debug, Clone)]
pub(crate) struct Layers {
    indices: Vec<i64>,
    patterns: Vec<Regex>,
}

impl Layers {
    /// Patterns name the component before the index; none of them means any component.
    pub fn new(indices: Vec<i64>, components: &[String]) -> Result<Self, String> {
        let any = ["[^.]*".to_owned()];
        let components = if components.is_empty() { &any } else { components };
        let patterns = components
            .iter()
            .map(|component| {
                compile(component).and_then(|_| compile(&format!(r".*\.{component}\.(\d+)\..*")))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { indices, patterns })
    }

    fn contain(&self, path: &str) -> bool {
        let found = self.patterns.iter().find_map(|pattern| pattern.captures(path));
        let index = found.and_then(|groups| groups.get(groups.len() - 1)?.as_str().parse().ok());
        index.is_some_and(|index: i64| self.indices.contains(&index))
    }
}

/// The modules that a configuration adapts.
#[derive(Debug, Clone)]
pub(crate) struct Targets {
    /// `target_modules`.
    pub include: Selection,
    /// `exclude_modules`.
    pub exclude: Option<Selection>,
    /// `layers_to_transform`.
    pub layers: Option<Layers>,
    /// `modules_to_save`: replaced as a whole, so never adapted.
    pub saved: Vec<String>,
}

impl Targets {
    /// Whether the module at a path is adapted.
    pub fn contain(&self, path: &str, linear: bool) -> bool {
        let excluded = self.exclude.as_ref().is_some_and(|exclude| exclude.matches(path, linear));
        let saved = self.saved.iter().any(|name| ends_with_component(path, name));
        let in_layers = |layers: &Layers| self.include.names_whole(path) || layers.contain(path);
        !excluded
            && !saved
            && self.include.matches(path, linear)
            && self.layers.as_ref().is_none_or(in_layers)
    }
}

/// `rank_pattern` or `alpha_pattern`: values by module, the first key that fits wins.
#[derive(Debug, Clone)]
pub(crate) struct Overrides<T>(Vec<(Regex, T)>);

impl<T: Copy> Overrides<T> {
    /// No overrides.
    pub fn none() -> Self {
        Self(Vec::new())
    }

    /// Adds a key: a regex that fits a whole path, or its ending after a dot.
    pub fn add(&mut self, key: &str, value: T) -> Result<(), String> {
        compile(key)?;
        self.0.push((compile(&format!(r"(?:.*\.)?(?:{key})"))?, value));
        Ok(())
    }

    /// The value for a path.
    pub fn of(&self, path: &str) -> Option<T> {
        self.0.iter().find(|(regex, _)| regex.is_match(path)).map(|(_, value)| *value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const Q3: &str = "model.layers.3.self_attn.q_proj";

    fn names(list: &[&str]) -> Selection {
        Selection::Names(list.iter().map(|&name| name.to_owned()).collect())
    }

    #[test]
    fn names_are_whole_components() {
        assert!(names(&["q_proj"]).matches(Q3, true));
        assert!(names(&["self_attn.q_proj"]).matches(Q3, true));
        assert!(names(&[Q3]).matches(Q3, true));
        assert!(!names(&["proj"]).matches(Q3, true));
        assert!(names(&["lm_head"]).matches("lm_head", false));
    }

    #[test]
    fn patterns_match_the_whole_path() {
        let pattern = |text| Selection::Pattern(compile(text).expect("pattern"));
        assert!(pattern(r".*\.(q|v)_proj").matches(Q3, true));
        assert!(!pattern(r"q_proj").matches(Q3, true));
        assert!(!pattern(r"model|x").matches(Q3, true));
        assert!(pattern(r"a|model\.layers\.[0-3]\..*").matches(Q3, true));
    }

    #[test]
    fn what_python_alone_can_read_is_refused() {
        for bad in [
            "(?=a)",
            "(a)\\1",
            "(?<!x)q",
            "[[a]b]",
            "[a&&b]",
            "a)(b",
            "(",
            &"a".repeat(5000),
            "(a{500}){500}",
        ] {
            assert!(compile(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn layers_limit_names_but_not_whole_paths() {
        let layers = Some(Layers::new(vec![1, 2], &[]).expect("layers"));
        let include = names(&["q_proj", Q3]);
        let targets = Targets { include, exclude: None, layers, saved: vec![] };
        assert!(targets.contain(Q3, true));
        assert!(targets.contain("model.layers.1.self_attn.q_proj", true));
        assert!(!targets.contain("model.layers.4.self_attn.q_proj", true));
    }

    #[test]
    fn the_first_pattern_in_the_file_wins() {
        let mut ranks = Overrides::none();
        ranks.add(r"layers\.3\.self_attn\.q_proj", 4).expect("key");
        ranks.add("q_proj", 8).expect("key");
        ranks.add(".*v_proj", 2).expect("key");
        assert_eq!(ranks.of(Q3), Some(4));
        assert_eq!(ranks.of("model.layers.13.self_attn.q_proj"), Some(8));
        assert_eq!(ranks.of("model.layers.0.self_attn.v_proj"), Some(2));
        assert_eq!(ranks.of("model.layers.0.mlp.up_proj"), None);
    }
}
