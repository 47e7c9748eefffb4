//! A user's own network, saved as TorchScript: Inception, CLIP, DINO, a perceptual network, whatever says something of pictures.

use crate::Error;
use crate::read::{in_batches, to_host};
use pentimento_measure::{Layer, Pictures, lpips};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use tch::{CModule, Device, IValue, Kind, Tensor, jit};

/// How a network wants the values of pictures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Range {
    /// From -1 to 1.
    #[default]
    Signed,
    /// From 0 to 1.
    Unit,
    /// Whole numbers from 0 to 255, as floats.
    Bytes,
    /// From 0 to 1, less ImageNet's means, over its deviations.
    Imagenet,
}

impl Range {
    /// As it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Signed => "signed",
            Self::Unit => "unit",
            Self::Bytes => "bytes",
            Self::Imagenet => "imagenet",
        }
    }

    /// Pictures `[B, 3, H, W]` in [-1, 1] as the network wants them.
    fn apply(self, x: &Tensor) -> Tensor {
        match self {
            Self::Signed => x.shallow_clone(),
            Self::Unit => (x + 1.0) * 0.5,
            Self::Bytes => (x * 127.5 + 127.5).round(),
            Self::Imagenet => {
                let column = |v: [f32; 3]| Tensor::from_slice(&v).view([1, 3, 1, 1]).to_device(x.device());
                ((x + 1.0) * 0.5 - column([0.485, 0.456, 0.406])) / column([0.229, 0.224, 0.225])
            }
        }
    }
}

impl FromStr for Range {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let all = [Self::Signed, Self::Unit, Self::Bytes, Self::Imagenet];
        all.into_iter().find(|r| r.name() == s).ok_or_else(|| "write signed, unit, bytes or imagenet".into())
    }
}

/// A TorchScript file, open. Its code runs as it was saved: open none that you do not trust.
pub struct Script {
    path: PathBuf,
    module: CModule,
    range: Range,
    device: Device,
}

impl Script {
    /// Opens a file that `torch.jit.save` wrote.
    ///
    /// # Errors
    /// A file that is none.
    pub fn open(path: &Path, range: Range, device: Device) -> Result<Self, Error> {
        let bad = |why: String| Error::Script { path: path.into(), why };
        if !path.is_file() {
            return Err(bad("no such file; name what torch.jit.save wrote".into()));
        }
        // The first calls of a module would be spent on profiles of shapes that the next batch may not have.
        jit::f_set_profiling_mode(false).map_err(|e| bad(e.to_string()))?;
        let mut module = CModule::load_on_device(path, device)
            .map_err(|_| bad("is no TorchScript; save it with torch.jit.trace(model, example).save(file)".into()))?;
        module.f_set_eval().map_err(|e| bad(first_line(&e.to_string())))?;
        Ok(Self { path: path.into(), module, range, device })
    }

    /// Everything that the network says of pictures, in its order; grey pictures are given as three equal channels.
    ///
    /// # Shapes
    /// - `x`: `[B, C, H, W]` in [-1, 1]
    /// - returns: tensors `[B, ...]`
    ///
    /// # Errors
    /// A network that refuses them, or answers with something else than tensors of so many rows.
    pub fn look(&self, x: &Tensor) -> Result<Vec<Tensor>, Error> {
        let _guard = tch::no_grad_guard();
        let bad = |why: String| Error::Script { path: self.path.clone(), why };
        let rows = x.size()[0];
        let colour = if x.size()[1] == 1 { x.repeat([1, 3, 1, 1]) } else { x.shallow_clone() };
        let given = self.range.apply(&colour.to_device(self.device));
        let said = self.module.forward_is(&[IValue::Tensor(given)]).map_err(|e| {
            bad(format!(
                "refuses pictures of {:?}: {}; see --px and --extractor-input",
                colour.size(),
                first_line(&e.to_string())
            ))
        })?;
        let all = match said {
            IValue::Tensor(t) => vec![t],
            IValue::TensorList(list) => list,
            IValue::Tuple(list) | IValue::GenericList(list) => list.into_iter().filter_map(tensor).collect(),
            _ => Vec::new(),
        };
        match all.iter().find(|t| t.size().first() != Some(&rows)) {
            None if !all.is_empty() => Ok(all.into_iter().map(|t| t.to_kind(Kind::Float)).collect()),
            None => Err(bad("answers with no tensor; let forward return features, or a tuple of them".into())),
            Some(t) => Err(bad(format!("answers {rows} pictures with {:?}; the first axis must be theirs", t.size()))),
        }
    }

    /// One vector of each picture, `[B, D]`.
    ///
    /// # Errors
    /// As [`Script::look`], and a network that answers with several tensors.
    pub fn features(&self, x: &Tensor) -> Result<Tensor, Error> {
        let all = self.look(x)?;
        let [one] = all.as_slice() else {
            let why = format!("answers with {} tensors; features are one", all.len());
            return Err(Error::Script { path: self.path.clone(), why });
        };
        Ok(one.reshape([x.size()[0], -1]))
    }

    /// Perceptual distances of pairs of pictures, in the form of LPIPS over the maps `[B, C, H, W]` that the network answers with.
    /// `weights` of the channels, a list for each map; ones if absent.
    ///
    /// # Errors
    /// As [`Script::look`]; an answer that is no map, and what [`lpips`] refuses.
    pub fn perceptual(
        &self,
        [a, b]: [&Pictures; 2],
        weights: Option<&[Vec<f32>]>,
        observe: &mut dyn FnMut(u64, u64),
    ) -> Result<Vec<f64>, Error> {
        let [a, b] = [self.maps(a, observe)?, self.maps(b, observe)?];
        let ones: Vec<Vec<f32>> = a.iter().map(|m| vec![1.0; m.shape()[0]]).collect();
        let weights = weights.unwrap_or(&ones);
        if weights.len() != a.len() {
            let why = format!("answers with {} maps, and there are weights for {}", a.len(), weights.len());
            return Err(Error::Script { path: self.path.clone(), why });
        }
        let layers = a.iter().zip(&b).zip(weights).map(|((a, b), weights)| Layer { a, b, weights });
        Ok(lpips(&layers.collect::<Vec<_>>())?.values)
    }

    fn maps(&self, pictures: &Pictures, observe: &mut dyn FnMut(u64, u64)) -> Result<Vec<Pictures>, Error> {
        let mut maps: Vec<([usize; 3], Vec<f32>)> = Vec::new();
        in_batches(pictures, self.device, observe, &mut |x, _| {
            for (i, map) in self.look(x)?.iter().enumerate() {
                let [_, c, h, w] = map.size()[..] else {
                    let why = format!("answers with {:?}; LPIPS compares maps [B, C, H, W]", map.size());
                    return Err(Error::Script { path: self.path.clone(), why });
                };
                if maps.len() <= i {
                    maps.push(([c, h, w].map(|n| usize::try_from(n).unwrap_or(0)), Vec::new()));
                }
                maps[i].1.extend(to_host(map));
            }
            Ok(())
        })?;
        maps.into_iter().map(|(shape, values)| Ok(Pictures::new(shape, values)?)).collect()
    }

    /// The file and the range, as results name it.
    pub fn name(&self) -> String {
        format!("{} ({})", self.path.display(), self.range.name())
    }
}

fn tensor(value: IValue) -> Option<Tensor> {
    if let IValue::Tensor(t) = value { Some(t) } else { None }
}

/// libtorch appends where in its sources it failed.
fn first_line(text: &str) -> String {
    let last = text.lines().rev().find(|l| l.contains("Error")).or_else(|| text.lines().next());
    last.unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pentimento_core::Noise;

    fn saved(f: &mut dyn FnMut(&Tensor) -> Vec<Tensor>) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("net.pt");
        let example = Tensor::zeros([2, 3, 4, 4], (Kind::Float, Device::Cpu));
        let module = CModule::create_by_tracing("net", "forward", &[example], &mut |xs: &[Tensor]| f(&xs[0])).unwrap();
        module.save(&path).unwrap();
        (dir, path)
    }

    fn pictures(n: usize, channels: i64) -> Tensor {
        let noise = Noise::new(1, (0..n as u64).collect());
        noise.uniform(&[noise.rows(), channels, 4, 4], Device::Cpu, pentimento_core::Stream::Own) * 2.0 - 1.0
    }

    #[test]
    fn a_saved_network_gives_features_in_its_own_range() {
        let (_dir, path) = saved(&mut |x| vec![x.mean_dim([2, 3].as_slice(), false, Kind::Float)]);
        let x = pictures(5, 3);
        let mean = x.mean_dim([2, 3].as_slice(), false, Kind::Float);
        let gap = |a: &Tensor, b: &Tensor| (a - b).abs().max().double_value(&[]);
        for (range, want) in [(Range::Signed, mean.shallow_clone()), (Range::Unit, (&mean + 1.0) * 0.5)] {
            let got = Script::open(&path, range, Device::Cpu).unwrap().features(&x).unwrap();
            assert!(got.size() == [5, 3] && gap(&got, &want) < 1e-6, "{range:?}");
        }
        let grey = pictures(2, 1);
        let got = Script::open(&path, Range::Bytes, Device::Cpu).unwrap().features(&grey).unwrap();
        let want = (grey * 127.5 + 127.5).round().mean_dim([2, 3].as_slice(), false, Kind::Float).repeat([1, 3]);
        assert!(gap(&got, &want) < 1e-4);
        // ImageNet's own mean colour is its zero.
        let mean = Tensor::from_slice(&[0.485_f32, 0.456, 0.406]).view([1, 3, 1, 1]).expand([2, 3, 4, 4], true);
        let zero = Script::open(&path, Range::Imagenet, Device::Cpu).unwrap().features(&(mean * 2.0 - 1.0)).unwrap();
        assert!(gap(&zero, &zero.zeros_like()) < 1e-6);
    }

    #[test]
    fn what_is_no_network_is_one_sentence() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.pt");
        std::fs::write(&file, b"not a zip").unwrap();
        let say = |path: &Path| Script::open(path, Range::Signed, Device::Cpu).err().map(|e| e.to_string()).unwrap();
        assert!(say(&file).contains("is no TorchScript"), "{}", say(&file));
        assert!(say(&dir.path().join("none.pt")).contains("no such file"));
        // A number for each picture is one column.
        let (_dir, path) = saved(&mut |x| vec![x.sum_dim_intlist([1, 2, 3].as_slice(), false, Kind::Float)]);
        let script = Script::open(&path, Range::Signed, Device::Cpu).unwrap();
        assert_eq!(script.features(&pictures(3, 3)).unwrap().size(), [3, 1]);
        let (_dir, path) = saved(&mut |x| vec![x.sum(Kind::Float)]);
        let said =
            Script::open(&path, Range::Signed, Device::Cpu).unwrap().look(&pictures(3, 3)).unwrap_err().to_string();
        assert!(said.contains("the first axis must be theirs") && !said.contains('\n'), "{said}");
    }
}
