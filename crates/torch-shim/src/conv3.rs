//! Convolutions of kernel 3 over channels-last pictures; `None` where one is better left to libtorch. Second derivatives always run through
//! its operations.

use crate::fused::{made, takes};
use crate::products::own_kind;
use std::ffi::c_int;
use tch::{Kind, Tensor};
use torch_sys::C_tensor;

unsafe extern "C" {
    fn pshim_conv3_takes(x: *mut C_tensor, w: *mut C_tensor, stride: i64) -> c_int;
    fn pshim_conv3(x: *mut C_tensor, w: *mut C_tensor, b: *mut C_tensor, stride: i64, y: *mut *mut C_tensor) -> c_int;
}

/// A convolution of kernel 3 and padding 1, of weights that lie channels-last; in f32, or in bf16 under autocast.
///
/// Of stride 1, where products are our own: Winograd's F(2 x 2, 3 x 3), which multiplies sixteen numbers where a sum over the kernel
/// multiplies thirty-six, there and back. Elsewhere, if the weights learn: libtorch's own, but for the slopes of its weights, which oneDNN
/// takes much more slowly than all else there, in f32 alone. `None` also for strides above 2, where channels do not fill vectors, and for
/// pictures so small that the weights would take longer than they do.
///
/// # Shapes
/// - `x`: `[B, C, H, W]`; `weight`: `[O, C, 3, 3]` stored channels-last; `bias`: `[O]`
/// - returns: `[B, O, H / stride, W / stride]`, rounded up, stored channels-last
///
/// # Source
/// Lavin and Gray 2016 (arXiv 1509.09308), section 4.1.
pub fn conv3(x: &Tensor, weight: &Tensor, bias: &Tensor, stride: i64) -> Option<Tensor> {
    let all = [x, weight, bias];
    let ([_, c, h, w], o) = (<[i64; 4]>::try_from(x.size()).ok()?, *bias.size().first()?);
    let fits = weight.size() == [o, c, 3, 3]
        && weight.numel() > 0
        && bias.dim() == 1
        && h > 0
        && w > 0
        && (1..=2).contains(&stride);
    let single = [weight, bias].iter().all(|t| t.kind() == Kind::Float);
    let kinds = single && (x.kind() == Kind::Float || Some(x.kind()) == own_kind());
    let [x, weight, bias] = all.map(|t| t.as_ptr().cast_mut());
    // SAFETY: live tensors borrowed for the call, the first two of four sides.
    if !fits || !kinds || !takes(&all) || unsafe { pshim_conv3_takes(x, weight, stride) } == 0 {
        return None;
    }
    // SAFETY: live tensors borrowed for the call, of the shapes and layout the function reads.
    Some(made(|y| unsafe { pshim_conv3(x, weight, bias, stride, y) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fused::tests::{agree, leaf};
    use tch::Device;

    #[test]
    fn conv3_equals_libtorch_with_two_derivatives() {
        let last = |x: &Tensor| crate::channels_last(x).unwrap();
        // One pixel, a line and a column; outputs that fill no block; odd sides under both strides; more rows than pass at a time.
        let shapes = [
            (2, 16, 5, 1, 1),
            (1, 16, 4, 1, 3),
            (2, 16, 4, 3, 1),
            (2, 32, 12, 5, 4),
            (2, 16, 9, 6, 5),
            (1, 48, 17, 19, 20),
            // Enough tiles of two by two pixels for Winograd's way: whole and cut ones, several blocks of outputs, pieces and parts.
            (2, 16, 48, 11, 12),
            (3, 48, 32, 8, 13),
            (5, 128, 112, 14, 10),
        ];
        for ((b, c, o, h, w), stride) in shapes.iter().flat_map(|s| [(*s, 1), (*s, 2)]) {
            let inputs = [leaf(&[b, c, h, w], 0.7), last(&leaf(&[o, c, 3, 3], 1.3)) * 0.1, leaf(&[o], 2.1)];
            let plain = |v: &[Tensor]| v[0].conv2d(&v[1], Some(&v[2]), [stride; 2], [1; 2], [1; 2], 1);
            let fused = |v: &[Tensor]| {
                let own = conv3(&v[0], &v[1], &v[2], stride);
                assert!(own.is_some() || !crate::grad_enabled());
                own.unwrap_or_else(|| plain(v))
            };
            agree(&format!("convolution of {b} {c} {h} {w} by {stride}"), &inputs, &fused, &plain);
        }
    }

    #[test]
    fn winograds_way_depends_neither_on_other_pictures_nor_on_what_learns() {
        let w = crate::channels_last(&(leaf(&[32, 48, 3, 3], 1.3) * 0.1).detach()).unwrap().set_requires_grad(true);
        let inputs = [leaf(&[3, 48, 12, 13], 0.7), w, leaf(&[32], 2.1)];
        let y = conv3(&inputs[0], &inputs[1], &inputs[2], 1).unwrap();
        {
            let _guard = tch::no_grad_guard();
            let alone = |i| conv3(&inputs[0].narrow(0, i, 1), &inputs[1], &inputs[2], 1);
            assert_eq!(alone(0).is_some(), crate::own_products());
            for (i, picture) in (0..3).filter_map(|i| Some((i, alone(i)?))) {
                assert_eq!(picture, y.narrow(0, i, 1));
            }
            assert!(conv3(&inputs[0].narrow(2, 0, 2), &inputs[1], &inputs[2], 1).is_none(), "few tiles");
            let apart = inputs[2].unsqueeze(1).expand([32, 2], true).contiguous().select(1, 0);
            assert_eq!(conv3(&inputs[0], &inputs[1], &apart, 1).unwrap_or_else(|| y.shallow_clone()), y);
        }
        let slope = |of: &[&Tensor]| Tensor::run_backward(&[y.square().sum(Kind::Float)], of, true, false);
        for (x, beside) in inputs.iter().zip(slope(&inputs.each_ref())) {
            assert_eq!(slope(&[x])[0], beside);
        }
    }

    #[test]
    fn what_convolutions_do_not_reach_is_left_to_libtorch() {
        let last = |x: &Tensor| crate::channels_last(x).unwrap();
        let (x, b) = (leaf(&[1, 16, 4, 4], 0.7), leaf(&[8], 1.0));
        let w = last(&leaf(&[8, 16, 3, 3], 1.3).detach()).set_requires_grad(true);
        assert!(conv3(&x, &w, &b, 1).is_some() && conv3(&x, &w, &b, 3).is_none());
        assert!(conv3(&x, &w.detach(), &b, 1).is_none(), "weights that do not learn");
        assert!(conv3(&x, &w.contiguous(), &b, 1).is_none() && conv3(&x.narrow(1, 0, 3), &w, &b, 1).is_none());
        let _bf16 = crate::Autocast::new(Device::Cpu, Kind::BFloat16).unwrap();
        assert!(conv3(&x, &w, &b, 1).is_none(), "few tiles");
        let (x, w) = (leaf(&[2, 32, 9, 9], 0.7), last(&leaf(&[16, 32, 3, 3], 1.3)));
        let taken = |stride| conv3(&x, &w, &leaf(&[16], 1.0), stride).is_some();
        assert_eq!([taken(1), taken(2)], [crate::own_bf16(), false]);
    }

    #[test]
    fn convolutions_in_bf16_are_near_those_of_their_numbers() {
        if !crate::own_bf16() {
            return;
        }
        let double = |t: &Tensor| t.detach().to_kind(Kind::Double).set_requires_grad(true);
        // Odd numbers of tiles, cut ones, several panels, blocks, pieces and parts.
        for (batch, c, o, h, w) in [(2, 16, 48, 11, 12), (3, 48, 32, 7, 13), (5, 128, 112, 14, 10)] {
            // As good as random.
            let rough = |size: &[i64], f| (leaf(size, f).detach() * 5000.0).sin();
            let weights = crate::channels_last(&(rough(&[o, c, 3, 3], 1.3) * 0.1)).unwrap();
            let inputs =
                [rough(&[batch, c, h, w], 0.7), weights, leaf(&[o], 2.1).detach()].map(|t| t.set_requires_grad(true));
            let plain = |v: &[Tensor]| v[0].conv2d(&v[1], Some(&v[2]), [1; 2], [1; 2], [1; 2], 1);
            let low = |f: &dyn Fn() -> Tensor| {
                let _low = crate::Autocast::new(Device::Cpu, Kind::BFloat16).unwrap();
                f()
            };
            let y = low(&|| conv3(&inputs[0], &inputs[1], &inputs[2], 1).unwrap());
            assert_eq!(y.kind(), Kind::BFloat16);
            let with_slopes = |y: &Tensor, of: &[Tensor]| {
                let wide = if y.kind() == Kind::BFloat16 { y.to_kind(Kind::Float) } else { y.shallow_clone() };
                let slopes = Tensor::run_backward(&[wide.square().sum(wide.kind())], of, true, false);
                std::iter::once(y.detach()).chain(slopes).collect::<Vec<_>>()
            };
            let exact = inputs.each_ref().map(double);
            let want = with_slopes(&plain(&exact), &exact);
            let libtorchs = with_slopes(&low(&|| plain(&inputs)), &inputs);
            for (i, (own, (theirs, want))) in
                with_slopes(&y, &inputs).iter().zip(libtorchs.iter().zip(want)).enumerate()
            {
                let off = |t: &Tensor| (double(t) - &want).square().mean(Kind::Double).sqrt().double_value(&[]);
                // What the transforms make of roundings of a factor is 5/3 of them on the mean.
                let (own, theirs) = (off(own), off(theirs));
                assert!(own < 3.0 * theirs, "{batch} {c} {o} {h} {w}, output {i}: {own}, libtorch's {theirs}");
            }
            let _low = crate::Autocast::new(Device::Cpu, Kind::BFloat16).unwrap();
            let alone = tch::no_grad(|| conv3(&inputs[0].narrow(0, 1, 1), &inputs[1], &inputs[2], 1));
            assert!(alone.is_none_or(|alone| alone == y.narrow(0, 1, 1)), "a picture does not depend on others");
        }
    }
}
