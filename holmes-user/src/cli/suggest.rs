//! "Did you mean": the nearest of the known words.

/// The known word that a person who typed `word` most likely meant, if any is near.
///
/// Near is a Damerau-Levenshtein distance (optimal string alignment) of at most a third of the
/// word's length: one slip in short words, more in long ones.
pub(super) fn nearest<'w>(word: &str, known: &[&'w str]) -> Option<&'w str> {
    // A word far longer than any known one is none of them, and would only cost time.
    if word.len() > 64 {
        return None;
    }
    known
        .iter()
        .map(|candidate| (strsim::osa_distance(word, candidate), *candidate))
        .filter(|(distance, candidate)| *distance <= candidate.chars().count().div_ceil(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The tail of a message that suggests `word`.
pub(super) fn did_you_mean(word: &str) -> String {
    format!("; did you mean `{word}`?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_understood_and_strangers_are_not() {
        let known = ["interval", "lookback", "after", "min", "max"];
        assert_eq!(nearest("intervall", &known), Some("interval"));
        assert_eq!(nearest("look_back", &known), Some("lookback"));
        assert_eq!(nearest("mim", &known), Some("min"));
        assert_eq!(nearest("retention", &known), None);
        assert_eq!(nearest(&"x".repeat(1 << 16), &known), None);
    }
}
