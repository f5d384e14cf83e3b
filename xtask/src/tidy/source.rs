//! Rust source without comments, texts and tests: what is left is what the rules are about.
//! Lines keep their numbers.
//!
//! Must not: parse Rust. It knows comments, literals and braces, which is enough here.

/// The code with comments and the insides of texts replaced by spaces.
pub fn code(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    let mut before = ' ';
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(length) = text_literal(rest, before) {
            length
        } else {
            out.push(first);
            before = first;
            rest = &rest[first.len_utf8()..];
            continue;
        };
        out.extend(rest[..length].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        before = ' ';
        rest = &rest[length..];
    }
    out
}

/// Length of the comment that begins here; they nest.
fn block_comment(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let (mut depth, mut at) = (0usize, 0);
    while at < bytes.len() {
        match &bytes[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    bytes.len()
}

/// Length of the text or character literal that begins here, or `None`.
fn text_literal(rest: &str, before: char) -> Option<usize> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let bytes = rest.as_bytes();
    match bytes[0] {
        b'"' => Some(quoted(bytes, 0)),
        b'r' | b'b' | b'c' if !is_name(before) => {
            let prefix = bytes.iter().take_while(|byte| b"rbc".contains(byte)).count().min(2);
            let hashes = bytes[prefix..].iter().take_while(|byte| **byte == b'#').count();
            if bytes.get(prefix + hashes) != Some(&b'"') {
                return None;
            }
            if !bytes[..prefix].contains(&b'r') {
                return (hashes == 0).then(|| quoted(bytes, prefix));
            }
            let body = prefix + hashes + 1;
            let end = format!("\"{}", "#".repeat(hashes));
            Some(rest[body..].find(&end).map_or(rest.len(), |at| body + at + end.len()))
        }
        b'\'' => match bytes.get(1)? {
            b'\\' => rest.get(3..)?.find('\'').map(|at| 3 + at + 1),
            _ => {
                // A lifetime has no closing quote behind its first character.
                let inside = rest[1..].chars().next()?.len_utf8();
                (bytes.get(1 + inside) == Some(&b'\'')).then_some(inside + 2)
            }
        },
        _ => None,
    }
}

/// End of the text that begins at `open`, behind its closing quote.
fn quoted(bytes: &[u8], open: usize) -> usize {
    let mut at = open + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// Blanks what stands behind `#[cfg(test)]`, to the end of that item. Takes the result of
/// [`code`].
pub fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut out = code.to_owned();
    while let Some(start) = out.find(MARK) {
        let end = item_end(&out, start + MARK.len());
        let blank: String =
            out[start..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        out.replace_range(start..end, &blank);
    }
    out
}

/// Where the item that begins at `from` ends: behind its `;` or its closing brace.
fn item_end(code: &str, from: usize) -> usize {
    let mut depth = 0usize;
    for (at, c) in code[from..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth <= 1 => return from + at + 1,
            '}' => depth -= 1,
            ';' if depth == 0 => return from + at + 1,
            _ => {}
        }
    }
    code.len()
}

/// Lines that hold this name as a whole word, counted from 1.
pub fn lines_with(code: &str, name: &str) -> Vec<usize> {
    let inside = |c: char| c.is_alphanumeric() || c == '_';
    let whole = |line: &str| {
        line.match_indices(name).any(|(at, _)| {
            !line[..at].ends_with(inside) && !line[at + name.len()..].starts_with(inside)
        })
    };
    let numbered = code.lines().enumerate();
    numbered.filter(|(_, line)| whole(line)).map(|(index, _)| index + 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_texts_go_lines_stay() {
        let source = "a // x\n/* y /* z */\n y */ b \"t\\\"t\" c r#\"raw\" \"# d 'e' '\\n' &'f g\n";
        let code = code(source);
        let words: Vec<&str> = code.split_whitespace().collect();
        assert_eq!(words, ["a", "b", "c", "d", "&'f", "g"]);
        assert_eq!(code.lines().count(), source.lines().count());
    }

    #[test]
    fn prefixed_texts_go_and_names_that_look_like_prefixes_stay() {
        let code = code("b\"x\" br\"x\" c\"x\" r#type bar b'x' '\"' crab");
        let words: Vec<&str> = code.split_whitespace().collect();
        assert_eq!(words, ["r#type", "bar", "b", "crab"]);
    }

    #[test]
    fn unfinished_literals_do_not_panic() {
        for source in ["\"", "r#\"", "'", "'\\", "/*", "b\"", "\"\\", "'\u{fffd}", "r"] {
            let _ = without_tests(&code(source));
        }
    }

    #[test]
    fn test_items_are_blanked_to_their_end() {
        let source = "fn a() {}\n#[cfg(test)]\nmod tests {\n fn b() { {} }\n}\nfn c() {}\n\
                      #[cfg(test)]\nmod other;\nfn d() {}\n";
        let left = without_tests(&code(source));
        assert!(left.contains("fn a") && left.contains("fn c") && left.contains("fn d"));
        assert!(!left.contains("fn b") && !left.contains("other"), "{left}");
    }

    #[test]
    fn names_are_found_as_whole_words() {
        assert_eq!(lines_with("aya_log\nuse aya::Ebpf;\nplayaya", "aya"), [2]);
    }
}
