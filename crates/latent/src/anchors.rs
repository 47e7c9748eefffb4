//! Coordinates relative to anchors: a representation that forgets the rotation and the scale of a latent space.

use pentimento_core::{Draws, Stream};
use tch::{Kind, Tensor};

/// Guards the division by a norm; far below any latent that carries something.
const EPS: f64 = 1e-8;

/// Cosine similarities of latents to anchors.
///
/// r_j = z . a_j / (|z| |a_j|). An orthogonal map or a scaling of the whole space, anchors included, leaves r as it is.
///
/// # Shapes
/// - `z`: `[B, Z]`
/// - `anchors`: `[A, Z]`, latents of the anchors under the same encoder
/// - returns: `[B, A]` in [-1, 1]
///
/// # Source
/// Moschella et al. 2022 (arXiv 2209.15430), section 3.
pub fn relative(z: &Tensor, anchors: &Tensor) -> Tensor {
    unit(z).matmul(&unit(anchors).transpose(0, 1))
}

fn unit(x: &Tensor) -> Tensor {
    let norm = x.square().sum_dim_intlist(-1, true, Kind::Float).sqrt();
    x / norm.clamp_min(EPS)
}

/// Numbers of `count` anchors among items with these labels, as many of each class as divide evenly, drawn without
/// replacement under a seed; the rest come from the first classes.
///
/// # Panics
/// When a class has fewer items than it must give.
pub fn stratified(labels: &[i64], count: usize, seed: u64) -> Vec<u64> {
    let mut classes: Vec<i64> = labels.to_vec();
    classes.sort_unstable();
    classes.dedup();
    let (each, rest) = (count.div_euclid(classes.len()), count % classes.len());
    let mut chosen = Vec::with_capacity(count);
    for (k, class) in classes.iter().enumerate() {
        let members: Vec<u64> = (0_u64..).zip(labels).filter(|(_, l)| *l == class).map(|(i, _)| i).collect();
        let wanted = each + usize::from(k < rest);
        assert!(members.len() >= wanted, "class {class} has {} items of {wanted} anchors", members.len());
        let order = Draws::at(seed, k as u64, 0, Stream::Own).permutation(members.len());
        chosen.extend(order[..wanted].iter().map(|&i| members[i]));
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use pentimento_core::noise::init_normal;

    fn normal(name: &str, size: &[i64]) -> Tensor {
        init_normal(1, name, size).to_kind(Kind::Double)
    }

    fn gap(a: &Tensor, b: &Tensor) -> f64 {
        (a - b).abs().max().double_value(&[])
    }

    #[test]
    fn rotations_and_scalings_leave_it_and_a_shear_does_not() {
        let (z, a) = (normal("z", &[20, 8]), normal("a", &[12, 8]));
        let r = relative(&z, &a);
        let (q, _) = Tensor::linalg_qr(&normal("q", &[8, 8]), "reduced");
        assert!(gap(&relative(&(z.matmul(&q) * 3.7), &(a.matmul(&q) * 3.7)), &r) < 1e-6);
        let mut shear = Tensor::eye(8, (Kind::Double, tch::Device::Cpu));
        let _ = shear.get(0).get(1).fill_(1.5);
        shear = shear.contiguous();
        assert!(gap(&relative(&z.matmul(&shear), &a.matmul(&shear)), &r) > 0.1);
    }

    #[test]
    fn the_order_of_anchors_is_the_order_of_coordinates() {
        let (z, a) = (normal("z", &[5, 8]), normal("a", &[6, 8]));
        let order = Tensor::from_slice(&[3_i64, 0, 5, 1, 4, 2]);
        let moved = relative(&z, &a.index_select(0, &order));
        assert!(gap(&moved, &relative(&z, &a).index_select(1, &order)) < 1e-12);
    }

    /// With at least Z independent anchors r fixes the direction of z: solving for it gives the unit vector back.
    #[test]
    fn enough_anchors_determine_the_direction() {
        let (z, a) = (normal("z", &[4, 8]), normal("a", &[16, 8]));
        let r = relative(&z, &a);
        let unit_anchors = unit(&a);
        let solved = r.matmul(&unit_anchors.pinverse(1e-12).transpose(0, 1));
        assert!(gap(&solved, &unit(&z)) < 1e-6);
        let itself = relative(&a, &a);
        assert!(gap(&itself.diagonal(0, 0, 1), &Tensor::ones([16], (Kind::Double, tch::Device::Cpu))) < 1e-6);
    }

    #[test]
    fn anchors_are_spread_over_the_classes_and_never_repeat() {
        let labels: Vec<i64> = (0..200).map(|i| i % 4).collect();
        let mut chosen = stratified(&labels, 42, 3);
        let of = |c: i64| chosen.iter().filter(|&&i| labels[usize::try_from(i).unwrap()] == c).count();
        assert_eq!([of(0), of(1), of(2), of(3)], [11, 11, 10, 10]);
        assert_eq!(chosen, stratified(&labels, 42, 3));
        assert_ne!(chosen, stratified(&labels, 42, 4));
        chosen.sort_unstable();
        chosen.dedup();
        assert_eq!(chosen.len(), 42);
    }
}
