//! What codes of pictures say of the factors behind them, measured on held-out items of the world of sprites.

use crate::{Error, features};
use pentimento_data::sprites::Sprites;
use pentimento_data::{Dataset, Subset, gather};
use pentimento_measure::{BoostOptions, Dci, Factors, Features, Part, ProbeConfig, Target, dci_boosted, probe};
use std::sync::Arc;
use tch::{Device, Tensor};

/// The factors of the world, in the order of its grid.
pub const FACTORS: [&str; 6] = ["outline", "colour", "size", "rotation", "x", "y"];

/// Those that have an order, and are read as numbers.
const ORDERED: [bool; 6] = [false, false, true, false, true, true];

/// Key of the hash by which items are held out.
const KEY: u64 = 0xFAC7;

/// Held-out items of a world on its grid, in three parts: half of them to fit a probe, a fifth to choose its strength and a method's
/// settings, the rest to judge.
pub struct FactorTests {
    parts: [Held; 3],
}

struct Held {
    x: Tensor,
    /// Places on the grid of factors.
    places: Vec<[u32; 6]>,
}

/// The codes that an encoder gives the held-out items.
pub struct FactorCodes<'a> {
    tests: &'a FactorTests,
    codes: [Features; 3],
}

impl FactorTests {
    /// The items to learn from, when a share of them is held out.
    pub fn learned(world: &Arc<Sprites>, held: f64) -> Arc<dyn Dataset> {
        Arc::new(Subset::by_hash(world.clone(), KEY, held, 1.0))
    }

    /// The held-out items.
    ///
    /// # Errors
    /// An item that cannot be drawn.
    pub fn new(world: &Arc<Sprites>, held: f64, device: Device) -> Result<Self, Error> {
        let part = |from: f64, to: f64| {
            let part = Subset::by_hash(world.clone(), KEY, from * held, to * held);
            let numbers: Vec<u64> = (0..part.len()).filter_map(|i| part.number(i)).collect();
            let places = numbers.iter().map(|&i| world.places(i).map(|p| u32::try_from(p).unwrap_or(u32::MAX)));
            let x = gather(world.as_ref(), &numbers)?.upload(device).x;
            Ok::<_, Error>(Held { x, places: places.collect() })
        };
        Ok(Self { parts: [part(0.0, 0.5)?, part(0.5, 0.7)?, part(0.7, 1.0)?] })
    }

    /// The pictures on which is judged, `[N, C, H, W]`.
    pub fn judged(&self) -> &Tensor {
        &self.parts[2].x
    }

    /// Encodes all parts, without gradients.
    ///
    /// # Errors
    /// Codes that are not finite.
    pub fn read(&self, encode: &dyn Fn(&Tensor) -> Tensor) -> Result<FactorCodes<'_>, Error> {
        /// Pictures that pass through the network together: memory only.
        const TOGETHER: i64 = 500;
        let _guard = tch::no_grad_guard();
        let codes = |held: &Held| {
            let parts: Vec<Tensor> = held.x.split(TOGETHER, 0).iter().map(encode).collect();
            features(&Tensor::cat(&parts, 0))
        };
        let [fit, choose, judge] = &self.parts;
        Ok(FactorCodes { tests: self, codes: [codes(fit)?, codes(choose)?, codes(judge)?] })
    }
}

impl FactorCodes<'_> {
    /// Score of a linear probe for each factor, on the judged part: accuracy, or R^2 where the factor has an order.
    ///
    /// # Errors
    /// What [`probe`] meets: constant codes, a factor of a single value.
    pub fn linear(&self) -> Result<[f64; 6], Error> {
        let mut scores = [0.0; 6];
        for (factor, score) in scores.iter_mut().enumerate() {
            let labels = self.tests.parts.each_ref().map(|h| h.places.iter().map(|p| p[factor]).collect::<Vec<u32>>());
            let values = labels.each_ref().map(|l| l.iter().map(|&v| v as f32).collect::<Vec<f32>>());
            let part = |k: usize| {
                let target = if ORDERED[factor] { Target::Values(&values[k]) } else { Target::Labels(&labels[k]) };
                Part { features: &self.codes[k], target }
            };
            *score = probe(&part(0), &part(1), &part(2), &ProbeConfig::linear())?.score;
        }
        Ok(scores)
    }

    /// DCI by boosted trees over all factors: fitted on the first part, informativeness from the judged one.
    ///
    /// # Errors
    /// What [`dci_boosted`] meets: fewer than two codes, a factor of a single value.
    pub fn dci(&self) -> Result<Dci, Error> {
        self.dci_between(0, 2)
    }

    /// The same within the part on which settings are chosen: for trials.
    ///
    /// # Errors
    /// As there.
    pub fn dci_of_trial(&self) -> Result<Dci, Error> {
        self.dci_between(1, 1)
    }

    fn dci_between(&self, fit: usize, test: usize) -> Result<Dci, Error> {
        let factors =
            |k: usize| Factors::new(FACTORS.len(), self.tests.parts[k].places.iter().flatten().copied().collect());
        let part = |k: usize| Ok::<_, Error>((&self.codes[k], factors(k)?));
        let ((a, a_factors), (b, b_factors)) = (part(fit)?, part(test)?);
        Ok(dci_boosted((a, &a_factors), (b, &b_factors), &BoostOptions::default())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pentimento_core::noise::init_normal;
    use pentimento_data::sprites::{Mode, Shape, SpritesConfig};
    use tch::Kind;

    fn world() -> Arc<Sprites> {
        let shapes = vec![Shape::Square, Shape::Triangle, Shape::Cross];
        let colours = ["red", "green", "blue"].map(String::from).into();
        let sizes = SpritesConfig { px: 8, rotations: 2, steps: [2, 4, 4], ..SpritesConfig::default() };
        Arc::new(Sprites::new(SpritesConfig { mode: Mode::Grid, shapes, colours, ..sizes }).unwrap())
    }

    #[test]
    fn what_is_held_out_is_not_learned_from() {
        let tests = FactorTests::new(&world(), 0.4, Device::Cpu).unwrap();
        let learned = FactorTests::learned(&world(), 0.4);
        let held: u64 = tests.parts.iter().map(|h| h.places.len() as u64).sum();
        assert_eq!(held + learned.len(), world().len());
        assert!(tests.parts[0].places.len() > tests.parts[2].places.len());
        assert_eq!(tests.judged().size()[0], i64::try_from(tests.parts[2].places.len()).unwrap());
    }

    /// Codes that are the factors are read without a mistake and are fully disentangled; turned ones are read as well, and are not.
    #[test]
    fn planted_codes_have_known_scores() {
        let tests = FactorTests::new(&world(), 0.6, Device::Cpu).unwrap();
        let turn = Tensor::linalg_qr(&init_normal(8, "turn", &[6, 6]), "reduced").0;
        let planted = |turn: &Tensor| {
            let codes = |h: &Held| {
                let rows: Vec<f32> = h.places.iter().flatten().map(|&p| p as f32).collect();
                features(&Tensor::from_slice(&rows).view([-1, 6]).matmul(turn)).unwrap()
            };
            FactorCodes { tests: &tests, codes: tests.parts.each_ref().map(codes) }
        };
        let (plain, turned) = (planted(&Tensor::eye(6, (Kind::Float, Device::Cpu))), planted(&turn));
        for (name, score) in FACTORS.iter().zip(turned.linear().unwrap()) {
            assert!(score > 0.9, "{name}: {score}");
        }
        let [a, b] = [&plain, &turned].map(|c| c.dci().unwrap().disentanglement);
        assert!(a > 0.95 && b < 0.7, "{a} {b}");
        assert!(plain.dci_of_trial().unwrap().disentanglement > 0.95);
    }

    /// Encoding in parts is encoding the whole.
    #[test]
    fn codes_are_those_of_the_encoder() {
        let tests = FactorTests::new(&world(), 1.0, Device::Cpu).unwrap();
        let read = tests.read(&|x| x.flatten(1, -1).narrow(1, 0, 70)).unwrap();
        for (codes, held) in read.codes.iter().zip(&tests.parts) {
            let want = features(&held.x.flatten(1, -1).narrow(1, 0, 70)).unwrap();
            assert_eq!(codes.values(), want.values());
        }
    }
}
