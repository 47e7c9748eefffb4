//! Between tensors and host arrays, in both directions.

use crate::Error;
use pentimento_core::{Params, Role};
use pentimento_io::{Array, Values};
use tch::{Device, Kind, Tensor};

fn bytes16(v: &[u16]) -> Vec<u8> {
    v.iter().flat_map(|x| x.to_ne_bytes()).collect()
}

/// A host array as a tensor on the host, of the same element type.
///
/// # Errors
/// [`Error::Unsupported`] for element types that libtorch lacks.
pub fn tensor_from_array(a: &Array) -> Result<Tensor, Error> {
    let size: Vec<i64> = a.shape().iter().map(|n| i64::try_from(*n).unwrap_or(i64::MAX)).collect();
    Ok(match a.values() {
        Values::U8(v) => Tensor::from_slice(v).view(size.as_slice()),
        Values::I16(v) => Tensor::from_slice(v).view(size.as_slice()),
        Values::I32(v) => Tensor::from_slice(v).view(size.as_slice()),
        Values::I64(v) => Tensor::from_slice(v).view(size.as_slice()),
        Values::F32(v) => Tensor::from_slice(v).view(size.as_slice()),
        Values::F64(v) => Tensor::from_slice(v).view(size.as_slice()),
        Values::F16(v) => Tensor::from_data_size(&bytes16(v), &size, Kind::Half),
        Values::Bf16(v) => Tensor::from_data_size(&bytes16(v), &size, Kind::BFloat16),
        other => {
            let what = format!("{other:?}");
            let short = what.split('(').next().unwrap_or_default().to_owned();
            return Err(Error::unsupported("the element type", short, "tensors hold u8, i16-i64, f16, bf16, f32, f64"));
        }
    })
}

fn copied<T: tch::kind::Element + Default + Clone>(t: &Tensor) -> Vec<T> {
    let mut v = vec![T::default(); t.numel()];
    t.copy_data(&mut v, t.numel());
    v
}

fn bits16(t: &Tensor) -> Vec<u16> {
    let mut bytes = vec![0; 2 * t.numel()];
    t.copy_data_u8(&mut bytes, t.numel());
    bytes.chunks_exact(2).map(|b| u16::from_ne_bytes([b[0], b[1]])).collect()
}

/// A tensor as a host array, row-major whatever its layout in memory. Booleans become bytes.
///
/// # Errors
/// [`Error::Unsupported`] for complex, quantised and 8-bit floating kinds.
pub fn array_from_tensor(t: &Tensor) -> Result<Array, Error> {
    let t = t.detach().to_device(Device::Cpu).contiguous();
    let values = match t.kind() {
        Kind::Uint8 => Values::U8(copied(&t)),
        Kind::Bool => Values::U8(copied(&t.to_kind(Kind::Uint8))),
        Kind::Int16 => Values::I16(copied(&t)),
        Kind::Int => Values::I32(copied(&t)),
        Kind::Int64 => Values::I64(copied(&t)),
        Kind::Float => Values::F32(copied(&t)),
        Kind::Double => Values::F64(copied(&t)),
        Kind::Half => Values::F16(bits16(&t)),
        Kind::BFloat16 => Values::Bf16(bits16(&t)),
        kind => {
            return Err(Error::unsupported("the kind", format!("{kind:?}"), "files hold real numbers and integers"));
        }
    };
    Ok(Array::new(t.size().iter().map(|n| usize::try_from(*n).unwrap_or(0)).collect(), values))
}

/// Every tensor of a network by name, buffers included, in order of creation.
///
/// # Errors
/// As [`array_from_tensor`].
pub fn params_to_arrays(params: &Params) -> Result<Vec<(String, Array)>, Error> {
    params.entries().into_iter().map(|e| Ok((e.name, array_from_tensor(&e.tensor)?))).collect()
}

/// Fills a network by name, converting element types; its layout in memory stays. Either everything is loaded or
/// nothing changes. A buffer that the file lacks keeps its value: it is computed, not learned.
///
/// # Errors
/// Missing names, other shapes, element types without a tensor.
pub fn load_params(params: &Params, mut find: impl FnMut(&str) -> Option<Array>) -> Result<(), Error> {
    let mut made: std::collections::HashMap<String, Tensor> = std::collections::HashMap::new();
    for e in params.entries() {
        match find(&e.name) {
            Some(a) => made.insert(e.name, tensor_from_array(&a)?),
            None if e.role == Role::Buffer => made.insert(e.name, e.tensor),
            None => None,
        };
    }
    Ok(params.load(|name| made.remove(name))?)
}

/// Changes the kind of every tensor in place: f64 to check gradients, bf16 or f16 to halve what inference keeps.
pub fn cast(params: &Params, kind: Kind) {
    for e in params.entries() {
        let (mut tensor, value) = (e.tensor.shallow_clone(), e.tensor.detach().to_kind(kind));
        tensor.set_data(&value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::{Conv2d, Init, Layout};
    use pentimento_torch_shim as shim;

    #[test]
    fn every_element_type_survives_both_directions() {
        let cases = [
            Values::U8(vec![0, 7, 255]),
            Values::I16(vec![-3, 0, 9]),
            Values::I32(vec![-3, 0, i32::MAX]),
            Values::I64(vec![-3, 0, i64::MAX]),
            Values::F16(vec![0x3C00, 0xC000, 0x0001]),
            Values::Bf16(vec![0x3F80, 0xC000, 0x0001]),
            Values::F32(vec![1.5, -0.0, f32::MIN_POSITIVE]),
            Values::F64(vec![1.5, -0.0, f64::MIN_POSITIVE]),
        ];
        for values in cases {
            let a = Array::new(vec![3, 1], values);
            let t = tensor_from_array(&a).unwrap();
            assert_eq!(t.size(), [3, 1]);
            assert_eq!(array_from_tensor(&t).unwrap(), a);
        }
        let half = tensor_from_array(&Array::new(vec![2], Values::F16(vec![0x3C00, 0xC000]))).unwrap();
        assert_eq!(Vec::<f64>::try_from(half.to_kind(Kind::Double)).unwrap(), [1.0, -2.0]);
        let brain = tensor_from_array(&Array::new(vec![2], Values::Bf16(vec![0x3F80, 0xC000]))).unwrap();
        assert_eq!(Vec::<f64>::try_from(brain.to_kind(Kind::Double)).unwrap(), [1.0, -2.0]);
        let scalar = Array::new(vec![], Values::F32(vec![2.0]));
        assert_eq!(array_from_tensor(&tensor_from_array(&scalar).unwrap()).unwrap(), scalar);
    }

    #[test]
    fn files_are_row_major_and_loading_keeps_the_layout() {
        let p = Params::new(Device::Cpu, 1);
        let _ = Conv2d::new(&p.root().sub("c"), [3, 4, 3], 1, Init::Torch, Layout::ChannelsLast);
        let saved = params_to_arrays(&p).unwrap();
        let weight = &p.entries()[0].tensor;
        let rows: Vec<f32> = Vec::try_from(weight.contiguous().view(-1)).unwrap();
        assert_eq!(saved[0], ("c.weight".into(), Array::new(vec![4, 3, 3, 3], Values::F32(rows))));
        let q = Params::new(Device::Cpu, 2);
        let _ = Conv2d::new(&q.root().sub("c"), [3, 4, 3], 1, Init::Torch, Layout::ChannelsLast);
        load_params(&q, |name| saved.iter().find(|(n, _)| n == name).map(|(_, a)| a.clone())).unwrap();
        assert_eq!(q.entries()[0].tensor, *weight);
        assert!(shim::is_channels_last(&q.entries()[0].tensor));
        assert!(load_params(&q, |_| None).unwrap_err().to_string().contains("2 of 2 weights are missing"));
        cast(&q, Kind::Double);
        assert!(q.entries().iter().all(|e| e.tensor.kind() == Kind::Double && e.tensor.requires_grad()));
    }
}
