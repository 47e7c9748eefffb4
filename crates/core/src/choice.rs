/// The known name with the fewest edits to what was typed, if a slip of the finger explains it.
pub fn nearest<'a>(got: &str, known: &[&'a str]) -> Option<&'a str> {
    let (distance, best) = known.iter().map(|k| (edits(got, k), *k)).min()?;
    (distance <= 2.max(got.chars().count().div_ceil(3))).then_some(best)
}

/// The advice for a closed choice: all of them, and the nearest to what was typed.
pub fn choose(got: &str, known: &[&str]) -> String {
    let near = nearest(got, known).map_or(String::new(), |n| format!("; did you mean {n}?"));
    format!("choose one of {}{near}", known.join(", "))
}

/// Levenshtein distance: insertions, deletions and changes of a letter that make one name the other.
pub fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &cb) in b.iter().enumerate() {
            let next = (diagonal + usize::from(ca != cb)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], next);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_levenshteins() {
        for (a, b, n) in [("", "", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("flaw", "lawn", 2), ("é", "e", 1)] {
            assert_eq!((edits(a, b), edits(b, a)), (n, n), "{a} {b}");
        }
    }

    #[test]
    fn a_slip_is_corrected_and_a_stranger_is_not() {
        let known = ["euler", "heun", "ddim"];
        assert_eq!(nearest("oiler", &known), Some("euler"));
        assert_eq!(nearest("leapfrog", &known), None);
        assert_eq!(choose("huen", &known), "choose one of euler, heun, ddim; did you mean heun?");
        assert_eq!(choose("leapfrog", &known), "choose one of euler, heun, ddim");
    }
}
