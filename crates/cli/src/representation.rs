//! Measures of representations for `pentimento measure`: of one table of features, of two tables of the same items, of codes against
//! the factors that a table carries.

use crate::measure::{Measured, Metric, Side};
use anyhow::{bail, ensure};
use pentimento_measure as measure;
use pentimento_measure::{
    Centring, Codes, Correlation, Estimator, Factors, Features, Fractions, Kernel, Metric as Distance, split,
};

/// Half the width of a normal 95 % interval in standard errors.
const NORMAL: f64 = 1.959_963_984_540_054;
/// Neighbours, where none are asked for.
const NEIGHBOURS: usize = 10;
/// Bins of a code, as in disentanglement_lib.
const BINS: u32 = 20;
/// A factor of more values than these is cut into so many parts of equal count.
const VALUES: [usize; 2] = [32, 10];

/// Measures of the features of the same items by two models.
pub fn of_two(metric: Metric, a: &Side, b: &Side, k: Option<usize>) -> anyhow::Result<Vec<Measured>> {
    let (x, y) = (a.features()?, b.features()?);
    let (Some((data_a, items_a)), Some((data_b, items_b))) = (&a.items, &b.items) else {
        bail!(
            "two models are compared on the same items: give tables, of one data set, that `pentimento encode` made of both"
        );
    };
    let one_set = data_a.is_none() || data_b.is_none() || data_a == data_b;
    ensure!(
        one_set && items_a == items_b,
        "{} and {} are not of the same items in the same order; encode one data set with both",
        a.name,
        b.name
    );
    let k = k.unwrap_or(NEIGHBOURS);
    let near = format!("k = {k}");
    Ok(vec![match metric {
        Metric::Cka => {
            Measured::plain("cka", measure::cka(&x, &y, Kernel::Linear, Estimator::Unbiased)?, "linear, unbiased")
        }
        Metric::Cknna => Measured::plain("cknna", measure::cknna(&x, &y, k)?, &near),
        Metric::MutualNeighbours => {
            Measured::plain("mutual-neighbours", measure::mutual_neighbours(&x, &y, k, Distance::Cosine)?, &near)
        }
        Metric::Svcca => {
            let found = measure::svcca(&x, &y, 0.99)?;
            let [p, q] = found.kept;
            Measured::plain(
                "svcca",
                found.mean(),
                &format!("mean over directions that hold 99 % of the variance: {p} and {q}"),
            )
        }
        _ => {
            Measured::plain("procrustes", measure::procrustes(&x, &y)?, "distance after the best rotation; 0 is equal")
        }
    }])
}

/// Measures of the shape of one set of features.
pub fn of_one(metric: Metric, a: &Side, k: Option<usize>) -> anyhow::Result<Vec<Measured>> {
    let x = a.features()?;
    let k = k.unwrap_or(NEIGHBOURS);
    let near = format!("k = {k}");
    Ok(match metric {
        Metric::Dimension => {
            let two = measure::two_nn(&x, 0.1)?;
            let half = NORMAL * two.standard_error;
            let interval = Some([two.likelihood - half, two.likelihood + half]);
            let note = format!("95 %, of {} items, {} copies left out", two.items, two.copies);
            let local = measure::local_dimension(&x, k)?;
            vec![
                Measured { name: "two-nn", value: two.likelihood, interval, note },
                Measured::plain("nearest", local.joint(), &format!("by likelihood, {near}")),
            ]
        }
        Metric::Rank => {
            let spectrum = measure::spectrum(&x, Centring::On)?;
            vec![
                Measured::plain("effective-rank", spectrum.effective_rank(), &format!("of {} columns", x.d())),
                Measured::plain("participation", spectrum.participation_ratio(), ""),
                Measured::plain("directions", spectrum.directions(0.99) as f64, "hold 99 % of the variance"),
            ]
        }
        Metric::Hubness => {
            let found = measure::hubness(&x, k, Distance::Cosine)?;
            let most = found.occurrence.iter().max().copied().unwrap_or(0);
            let note = format!("skewness of how often an item is among the {k} nearest; the most often {most}");
            vec![Measured::plain("hubness", found.skewness, &note)]
        }
        Metric::Uniformity => {
            vec![Measured::plain("uniformity", measure::uniformity(&x, 2.0)?, "t = 2; lower is more even")]
        }
        _ => vec![Measured::plain(
            "total-correlation",
            measure::total_correlation(&x)?,
            "nats, of a Gaussian of these moments",
        )],
    })
}

/// Measures of codes against the factors in their table.
pub fn of_factors(metric: Metric, a: &Side, seed: u64) -> anyhow::Result<Vec<Measured>> {
    let x = a.features()?;
    let columns: Vec<&(String, Vec<f64>)> =
        a.factors.iter().filter(|(_, v)| v.iter().any(|value| (value - v[0]).abs() > 0.0)).collect();
    ensure!(
        !columns.is_empty(),
        "{}: carries no factors that vary; encode a data set that has some, such as sprites",
        a.name
    );
    let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
    let columns_of: Vec<&[f64]> = columns.iter().map(|(_, v)| v.as_slice()).collect();
    let (factors, cut) = Factors::of_numbers(&columns_of, VALUES[0], VALUES[1])?;
    let cut = if cut == 0 { String::new() } else { format!("; {cut} cut into {} parts of equal count", VALUES[1]) };
    let note = format!("factors {}{cut}", names.join(", "));
    let single = |name, score: f64| vec![Measured::plain(name, score, &note)];
    Ok(match metric {
        Metric::Mig => single("mig", measure::mig(&x, &factors, BINS)?.score),
        Metric::Modularity => single("modularity", measure::modularity(&x, &factors, BINS)?.score),
        Metric::Sap => single("sap", measure::sap_values(&x, &numbers(&columns)?)?.score),
        Metric::Mcc => single("mcc", measure::mcc(&x, &numbers(&columns)?, Correlation::Pearson)?.score),
        Metric::Infomec => {
            let found = measure::infomec(&x, &factors, Codes::Continuous)?;
            vec![
                Measured::plain("modularity", found.modularity, &note),
                Measured::plain("explicitness", found.explicitness, ""),
                Measured::plain("compactness", found.compactness, &format!("{} codes in use", found.active.len())),
            ]
        }
        Metric::Dci => {
            let parts = split(x.n(), Fractions { validation: 0.0, test: 0.3 }, seed)?;
            let side = |items: &[usize]| -> anyhow::Result<(Features, Factors)> {
                Ok((x.select(items)?, factors.select(items)?))
            };
            let (fit, test) = (side(&parts.train)?, side(&parts.test)?);
            let found = measure::dci_boosted((&fit.0, &fit.1), (&test.0, &test.1), &Default::default())?;
            vec![
                Measured::plain("disentanglement", found.disentanglement, &note),
                Measured::plain("completeness", found.completeness, "boosted trees"),
                Measured::plain("informativeness", found.informativeness, "accuracy on a third held out"),
            ]
        }
        _ => bail!("no measure of factors"),
    })
}

/// Factors as numbers, `[N, F]`.
#[expect(clippy::cast_possible_truncation, reason = "features are single floats")]
fn numbers(columns: &[&(String, Vec<f64>)]) -> anyhow::Result<Features> {
    let n = columns.first().map_or(0, |(_, v)| v.len());
    let values = (0..n).flat_map(|i| columns.iter().map(move |(_, v)| v[i] as f32)).collect();
    Ok(Features::new(columns.len(), values)?)
}
