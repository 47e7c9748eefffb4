use crate::{Error, Result};

/// A cheapest one-to-one matching of rows to columns.
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    /// Column of each row; `None` where there are more rows than columns and the row went without.
    pub column: Vec<Option<usize>>,
    /// Sum of the costs of the matched pairs.
    pub cost: f64,
}

/// Matches rows to columns one to one at the least total cost; min(rows, columns) pairs are made.
///
/// Rows are added one by one along a shortest augmenting path over reduced costs, with dual prices kept feasible.
///
/// # Shapes
/// - `costs`: `[R * columns]`, row after row; negate to find the dearest matching
///
/// # Errors
/// No costs, a last row that is cut short, a cost that is not finite.
///
/// # Cost
/// O(min(R, C)^2 max(R, C)).
///
/// # Source
/// Kuhn 1955; the successive shortest paths are those of Jonker and Volgenant 1987.
pub fn assignment(costs: &[f64], columns: usize) -> Result<Assignment> {
    if costs.is_empty() || columns == 0 {
        return Err(Error::TooFew { what: "costs to assign", need: 1, got: 0 });
    }
    let rows = costs.chunks(columns).len();
    if rows * columns != costs.len() {
        return Err(Error::LengthMismatch { what: "costs to assign", want: rows * columns, got: costs.len() });
    }
    if let Some(place) = costs.iter().position(|c| !c.is_finite()) {
        let (row, column) = (place.div_euclid(columns), place % columns);
        return Err(Error::NotFinite { what: "costs to assign", row, column });
    }
    let mut column = vec![None; rows];
    if rows <= columns {
        let matched = shortest_paths(rows, columns, &|i, j| costs[i * columns + j]);
        matched.into_iter().enumerate().for_each(|(i, j)| column[i] = Some(j));
    } else {
        let matched = shortest_paths(columns, rows, &|j, i| costs[i * columns + j]);
        matched.into_iter().enumerate().for_each(|(j, i)| column[i] = Some(j));
    }
    let cost = column.iter().enumerate().filter_map(|(i, j)| j.map(|j| costs[i * columns + j])).sum();
    Ok(Assignment { column, cost })
}

/// Column of every row, for at most as many rows as columns.
fn shortest_paths(rows: usize, columns: usize, cost: &dyn Fn(usize, usize) -> f64) -> Vec<usize> {
    let (mut row_price, mut column_price) = (vec![0.0; rows], vec![0.0; columns]);
    let mut owner: Vec<Option<usize>> = vec![None; columns];
    for start in 0..rows {
        // Dijkstra from the new row to the nearest column without an owner.
        let mut reach = vec![f64::INFINITY; columns];
        let mut before: Vec<Option<usize>> = vec![None; columns]; // column left to get here; None: from the new row
        let mut done = vec![false; columns];
        let (mut row, mut from, mut length) = (start, None, 0.0);
        let free = loop {
            let mut nearest: Option<usize> = None;
            for j in (0..columns).filter(|&j| !done[j]) {
                let through = length + cost(row, j) - row_price[row] - column_price[j];
                if through < reach[j] {
                    (reach[j], before[j]) = (through, from);
                }
                if nearest.is_none_or(|best| reach[j] < reach[best]) {
                    nearest = Some(j);
                }
            }
            let Some(j) = nearest else { unreachable!("no more rows than columns: one is free") };
            (done[j], length, from) = (true, reach[j], Some(j));
            match owner[j] {
                Some(next) => row = next,
                None => break j,
            }
        };
        row_price[start] += length;
        for j in (0..columns).filter(|&j| done[j] && j != free) {
            column_price[j] -= length - reach[j];
            if let Some(i) = owner[j] {
                row_price[i] += length - reach[j];
            }
        }
        // Hand the columns along the path on, from its end.
        let mut j = free;
        while let Some(previous) = before[j] {
            owner[j] = owner[previous];
            j = previous;
        }
        owner[j] = Some(start);
    }
    let mut column = vec![0; rows];
    owner.iter().enumerate().for_each(|(j, i)| i.iter().for_each(|&i| column[i] = j));
    column
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::unit;
    use crate::fixture::{Fixture, assert_close};

    /// Least cost over all ways, by recursion over the rows.
    fn by_hand(costs: &[f64], columns: usize, taken: u32, spare: usize) -> f64 {
        let Some((row, rest)) = costs.split_at_checked(columns) else { return 0.0 };
        let skip = if spare > 0 { by_hand(rest, columns, taken, spare - 1) } else { f64::INFINITY };
        let free = (0..columns).filter(|j| taken & (1 << j) == 0);
        free.map(|j| row[j] + by_hand(rest, columns, taken | 1 << j, spare)).fold(skip, f64::min)
    }

    #[test]
    fn no_way_is_cheaper() {
        for (seed, (rows, columns)) in [(1, 1), (5, 5), (6, 6), (3, 7), (7, 3), (6, 2)].into_iter().enumerate() {
            let draws = (0..(rows * columns) as u64).map(|k| unit(seed as u64, 1, k));
            // Rounded to tenths, so that ties are common; some negative.
            let costs: Vec<f64> = draws.map(|u| (10.0 * u).floor() / 10.0 - 0.3).collect();
            let got = assignment(&costs, columns).unwrap();
            assert_close(got.cost, by_hand(&costs, columns, 0, rows.saturating_sub(columns)), 1e-12);
            let mut used: Vec<usize> = got.column.iter().flatten().copied().collect();
            assert_eq!(used.len(), rows.min(columns));
            used.sort_unstable();
            used.dedup();
            assert_eq!(used.len(), rows.min(columns));
        }
    }

    #[test]
    fn equals_scipy() {
        let file = Fixture::open("measure_representations/numbers.safetensors");
        let shape = file.shape("assignment.costs");
        let got = assignment(&file.f64s("assignment.costs"), shape[1]).unwrap();
        let columns: Vec<u32> = got.column.iter().map(|j| j.unwrap() as u32).collect();
        assert_eq!(columns, file.labels("assignment.columns"));
    }

    #[test]
    fn bad_costs_are_named() {
        assert!(assignment(&[], 3).is_err());
        assert!(assignment(&[1.0; 5], 3).is_err());
        let error = assignment(&[0.0, 1.0, 2.0, f64::NAN], 2).unwrap_err();
        assert_eq!(error, Error::NotFinite { what: "costs to assign", row: 1, column: 1 });
    }
}
