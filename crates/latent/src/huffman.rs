//! A binary tree over a vocabulary, for softmax by way of its paths.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The way from the root to a leaf: at each inner node, whether it goes left.
pub type Path = Vec<(u32, bool)>;

/// The Huffman tree of `counts` over leaves 0..N: the path of every leaf over inner nodes 0..N-1, the root last. Frequent leaves
/// have short paths; ties go to the lower number, so the tree is a function of the counts.
///
/// # Source
/// Huffman 1952; for language models Mnih and Hinton 2009, Mikolov et al. 2013 (arXiv 1310.4546, section 2.1).
pub fn paths(counts: &[u64]) -> Vec<Path> {
    let leaves = u32::try_from(counts.len()).unwrap_or(u32::MAX);
    let mut heap: BinaryHeap<Reverse<(u64, u32)>> =
        counts.iter().zip(0..leaves).map(|(c, i)| Reverse((*c, i))).collect();
    let mut above = vec![None; counts.len() * 2]; // (parent among the inner nodes, whether it is the left child)
    let mut inner = 0;
    while let (Some(Reverse((a, left))), Some(Reverse((b, right)))) = (heap.pop(), heap.pop()) {
        above[left as usize] = Some((inner, true));
        above[right as usize] = Some((inner, false));
        heap.push(Reverse((a + b, leaves + inner)));
        inner += 1;
        if heap.len() == 1 {
            break;
        }
    }
    let path = |leaf: u32| {
        let (mut path, mut here) = (Vec::new(), leaf);
        while let Some((parent, left)) = above[here as usize] {
            path.push((parent, left));
            here = leaves + parent;
        }
        path.reverse();
        path
    };
    (0..leaves).map(path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_a_prefix_code_of_the_least_length() {
        let p = paths(&[5, 9, 12, 13, 16, 45]); // the textbook's example: 224 bits in all
        let lengths: Vec<usize> = p.iter().map(Vec::len).collect();
        assert_eq!(lengths, [4, 4, 3, 3, 3, 1]);
        assert!(p.iter().all(|path| path[0].0 == 4), "the root is the last inner node");
        // Kraft: the tree is full.
        assert_eq!(lengths.iter().map(|l| 0.5_f64.powi(i32::try_from(*l).unwrap())).sum::<f64>(), 1.0);
    }

    #[test]
    fn small_vocabularies_have_their_trees() {
        assert!(paths(&[]).is_empty());
        assert_eq!(paths(&[3]), [vec![]]);
        assert_eq!(paths(&[1, 1]), [vec![(0, true)], vec![(0, false)]]);
    }
}
