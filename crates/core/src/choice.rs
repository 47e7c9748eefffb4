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

/// Insertions, deletions, changes of a letter and swaps of two neighbours that make one name the other (the distance of optimal
/// string alignment).
pub fn edits(a: &str, b: &str) -> usize {
    let [a, b] = [a, b].map(|s| s.chars().collect::<Vec<char>>());
    let first: Vec<usize> = (0..=b.len()).collect();
    let (mut above, mut row) = (first.clone(), first);
    for i in 0..a.len() {
        let mut next = vec![i + 1];
        for j in 0..b.len() {
            let mut least = (row[j] + usize::from(a[i] != b[j])).min(next[j] + 1).min(row[j + 1] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                least = least.min(above[j - 1] + 1);
            }
            next.push(least);
        }
        above = std::mem::replace(&mut row, next);
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_optimal_string_alignment() {
        let known = [("", "", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("flaw", "lawn", 2), ("é", "e", 1)];
        for (a, b, n) in known.into_iter().chain([("vea", "vae", 1), ("ca", "abc", 3), ("acbd", "abdc", 2)]) {
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
