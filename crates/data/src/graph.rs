//! Undirected graphs with labelled vertices, and walks over them.

use crate::Error;
use crate::source::{content_hash, data_folders};
use pentimento_core::{Draws, Stream};
use pentimento_io::graph;
use pentimento_io::limits::Limits;
use pentimento_io::source::Source;
use std::path::Path;

/// An undirected graph as rows of neighbours, rising, without loops and doubles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Graph {
    /// Where the row of each vertex begins, and the end of the last.
    offsets: Vec<usize>,
    neighbours: Vec<u32>,
    /// The label of each vertex; `None` where it has none.
    pub labels: Vec<Option<u32>>,
}

impl Graph {
    /// The graph over as many vertices as there are labels. Loops and doubles are left out.
    ///
    /// # Errors
    /// An edge to a vertex without an entry among the labels.
    pub fn new(name: &str, edges: &[[u32; 2]], labels: Vec<Option<u32>>) -> Result<Self, Error> {
        let mut rows = vec![Vec::new(); labels.len()];
        for &[u, v] in edges {
            let there = |w: u32| (w as usize) < rows.len();
            if !there(u) || !there(v) {
                let why =
                    format!("an edge joins {u} and {v}, of {} vertices; list every vertex in nodes.tsv", rows.len());
                return Err(Error::bad(name, why));
            }
            if u != v {
                rows[u as usize].push(v);
                rows[v as usize].push(u);
            }
        }
        let (mut offsets, mut neighbours) = (vec![0], Vec::new());
        for mut row in rows {
            row.sort_unstable();
            row.dedup();
            neighbours.append(&mut row);
            offsets.push(neighbours.len());
        }
        Ok(Self { offsets, neighbours, labels })
    }

    /// Opens `blocks`, procedural communities, or a folder with `edges.tsv` and `nodes.tsv` (also `.gz`), by path or by its
    /// name among the data folders.
    ///
    /// # Errors
    /// One sentence: what is not there, where it was looked for; what is wrong with a file.
    pub fn open(name: &str) -> Result<Self, Error> {
        if name == "blocks" {
            return Self::blocks(name, 7, 100, [0.06, 0.004], 0);
        }
        let folders = data_folders();
        let all = [Path::new(name).to_owned()].into_iter().chain(folders.iter().map(|f| f.join(name)));
        let file = |folder: &Path, stem: &str| {
            [format!("{stem}.tsv"), format!("{stem}.tsv.gz")].into_iter().map(|f| folder.join(f)).find(|p| p.is_file())
        };
        for folder in all {
            if let (Some(edges), Some(nodes)) = (file(&folder, "edges"), file(&folder, "nodes")) {
                let limits = &Limits::STANDARD;
                let edges = graph::edges(&Source::open(&edges)?, limits)?;
                return Self::new(name, &edges, graph::labels(&Source::open(&nodes)?, limits)?);
            }
        }
        let looked = folders.iter().map(|f| f.display().to_string()).collect::<Vec<_>>().join(", ");
        let hint = "; a graph is a folder with edges.tsv and nodes.tsv; `blocks` is made without a file".into();
        Err(Error::Unknown { name: name.into(), looked, hint })
    }

    /// The stochastic block model: `count` communities of `size` vertices; two vertices are joined with the first
    /// probability within a community, with the second across.
    ///
    /// # Errors
    /// None for sizes that fit memory.
    pub fn blocks(name: &str, count: u32, size: u32, [within, across]: [f64; 2], seed: u64) -> Result<Self, Error> {
        let n = count * size;
        let block = |v: u32| v.div_euclid(size);
        let mut edges = Vec::new();
        for u in 0..n {
            let mut draws = Draws::at(seed, u64::from(u), 0, Stream::World);
            for v in u + 1..n {
                let p = if block(u) == block(v) { within } else { across };
                if draws.uniform() < p {
                    edges.push([u, v]);
                }
            }
        }
        Self::new(name, &edges, (0..n).map(|v| Some(block(v))).collect())
    }

    /// Number of vertices.
    pub fn vertices(&self) -> usize {
        self.labels.len()
    }

    /// The neighbours of a vertex.
    pub fn neighbours(&self, v: u32) -> &[u32] {
        &self.neighbours[self.offsets[v as usize]..self.offsets[v as usize + 1]]
    }

    /// A walk of `length` vertices from `start`, each next one drawn uniformly among the neighbours; it ends early only
    /// where there is none.
    pub fn walk(&self, start: u32, length: usize, draws: &mut Draws) -> Vec<u32> {
        let mut walk = vec![start];
        let mut here = start;
        while walk.len() < length {
            let row = self.neighbours(here);
            if row.is_empty() {
                break;
            }
            here = row[usize::try_from(draws.below(row.len() as u64)).unwrap_or(0)];
            walk.push(here);
        }
        walk
    }

    /// A hash of vertices, edges and labels.
    pub fn fingerprint(&self) -> String {
        let rows = self.offsets.iter().map(|o| *o as u64).chain(self.neighbours.iter().map(|v| u64::from(*v)));
        let labels = self.labels.iter().map(|l| l.map_or(u64::MAX, u64::from));
        content_hash(&rows.chain(labels).flat_map(u64::to_le_bytes).collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loops_and_doubles_are_left_out_and_foreign_vertices_refused() {
        let g = Graph::new("g", &[[0, 1], [1, 0], [2, 2], [1, 2]], vec![Some(0), None, Some(1)]).unwrap();
        assert_eq!((g.neighbours(0), g.neighbours(1), g.neighbours(2)), (&[1][..], &[0, 2][..], &[1][..]));
        let said = Graph::new("g", &[[0, 3]], vec![None; 3]).unwrap_err().to_string();
        assert!(said.contains("0 and 3, of 3 vertices"), "{said}");
        assert!(Graph::open("no-such-graph").unwrap_err().to_string().contains("edges.tsv"));
    }

    /// Five vertices, 2e5 steps: every transition within four standard errors of D^-1 A.
    #[test]
    fn walks_follow_the_transition_matrix() {
        let g = Graph::new("g", &[[0, 1], [0, 2], [1, 2], [2, 3], [3, 4]], vec![None; 5]).unwrap();
        let mut counts = [[0.0_f64; 5]; 5];
        for s in 0..5_000_u32 {
            let walk = g.walk(s % 5, 41, &mut Draws::at(1, u64::from(s), 0, Stream::Own));
            assert_eq!(walk.len(), 41);
            walk.windows(2).for_each(|w| counts[w[0] as usize][w[1] as usize] += 1.0);
        }
        for (u, row) in (0..5).zip(&counts) {
            let (n, near) = (row.iter().sum::<f64>(), g.neighbours(u));
            let p = 1.0 / near.len() as f64;
            for (v, &c) in (0..5).zip(row) {
                let want = if near.contains(&v) { p } else { 0.0 };
                assert!(
                    (c / n - want).abs() <= 4.0 * (want * (1.0 - want) / n).sqrt(),
                    "{u} to {v}: {} of {want}",
                    c / n
                );
            }
        }
        let lone = Graph::new("g", &[], vec![None]).unwrap();
        assert_eq!(lone.walk(0, 9, &mut Draws::at(0, 0, 0, Stream::Own)), [0]);
    }

    #[test]
    fn blocks_have_the_density_they_are_given() {
        let g = Graph::blocks("b", 3, 60, [0.3, 0.02], 5).unwrap();
        let (mut within, mut across) = (0.0_f64, 0.0_f64);
        for u in 0..180 {
            for v in g.neighbours(u) {
                *(if g.labels[u as usize] == g.labels[*v as usize] { &mut within } else { &mut across }) += 0.5;
            }
        }
        let (a, b) = (within / (3.0 * 1770.0), across / 10_800.0);
        assert!((a - 0.3).abs() < 0.03 && (b - 0.02).abs() < 0.006, "{a} {b}");
    }
}
