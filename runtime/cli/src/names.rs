//! Errors about names: what was asked for, the nearest there is, and all there is.

/// The nearest known name, if any is near.
pub fn nearest<'a>(wrong: &str, known: &[&'a str]) -> Option<&'a str> {
    let scored = known.iter().map(|k| (strsim::jaro_winkler(wrong, k), *k));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    // 0.7 keeps typing slips and drops unrelated words: arbitrary.
    (best.0 > 0.7).then_some(best.1)
}

/// "unknown … `x` — did you mean `y`? There are: …"
pub fn unknown(what: &str, wrong: &str, known: &[&str]) -> String {
    let hint = nearest(wrong, known).map(|n| format!(" — did you mean `{n}`?")).unwrap_or_default();
    format!("{what}: there is no `{wrong}`{hint}\nthere are: {}", known.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_nearest() {
        let known = ["vllm", "serverlessllm", "serverlesslora"];
        assert_eq!(nearest("serverlesslara", &known), Some("serverlesslora"));
        assert_eq!(nearest("zzz", &known), None);
        assert!(unknown("--policy", "vlm", &known).contains("did you mean `vllm`?"));
    }
}
