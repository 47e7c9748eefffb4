//! Row 7, reading: the logistic probe and the Frechet distance, on features that both sides read from one file.

use crate::ask::{self, Ask, Work};
use anyhow::{Context, Result, bail};
use pentimento_io::{Array, Values};
use pentimento_measure::{Features, FitOptions, Gaussian, LogisticProblem, frechet};
use std::collections::BTreeMap;

/// As in `benches/peers/reading.py`.
const OPTIONS: FitOptions = FitOptions { tolerance: 1e-6, iterations: 5000 };
const STRENGTH: f64 = 0.01;

fn shared(ask: &Ask) -> Result<BTreeMap<String, Array>> {
    ask::read(&ask.folder.join(format!("features-{}x{}.safetensors", ask.size.items, ask.size.width)))
}

fn features(all: &BTreeMap<String, Array>, name: &str) -> Result<Features> {
    let array = all.get(name).with_context(|| format!("the shared features hold no {name}"))?;
    match (array.shape(), array.values()) {
        ([_, d], Values::F32(values)) => Ok(Features::new(*d, values.clone())?),
        (shape, _) => bail!("the shared features {name} are not a matrix of f32: {shape:?}"),
    }
}

/// A logistic regression with scikit-learn's objective, stopped where scikit-learn stops.
pub struct Probe {
    x: Features,
    labels: Vec<u32>,
}

impl Probe {
    /// On the first set of the shared features.
    pub fn new(ask: &Ask) -> Result<Self> {
        let all = shared(ask)?;
        let Some(Values::I64(labels)) = all.get("labels").map(Array::values) else {
            bail!("the shared features hold no labels");
        };
        let labels = labels.iter().map(|&y| u32::try_from(y)).collect::<Result<_, _>>()?;
        Ok(Self { x: features(&all, "a")?, labels })
    }

    fn fit(&self) -> Result<Vec<f64>> {
        let problem = LogisticProblem::new(&self.x, &self.labels)?;
        Ok(problem.fit(STRENGTH, None, &OPTIONS)?.coefficients)
    }
}

impl Work for Probe {
    fn run(&mut self) -> Result<()> {
        self.fit().map(drop)
    }

    /// The coefficients, class by class.
    fn check(&mut self) -> Result<Vec<f64>> {
        self.fit()
    }
}

/// The Frechet distance of two sets, moments included.
pub struct Distance {
    a: Features,
    b: Features,
}

impl Distance {
    /// Between the two sets of the shared features.
    pub fn new(ask: &Ask) -> Result<Self> {
        let all = shared(ask)?;
        Ok(Self { a: features(&all, "a")?, b: features(&all, "b")? })
    }

    fn value(&self) -> Result<f64> {
        Ok(frechet(&Gaussian::of(&self.a)?, &Gaussian::of(&self.b)?)?.value)
    }
}

impl Work for Distance {
    fn run(&mut self) -> Result<()> {
        self.value().map(drop)
    }

    fn check(&mut self) -> Result<Vec<f64>> {
        Ok(vec![self.value()?])
    }
}
