//! Scaled dot-product attention over fused queries, keys and values: of few tokens on the CPU by our kernel, else by libtorch's
//! memory-saving ones.

use pentimento_torch_shim as shim;
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// How the fused projection is cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeadOrder {
    /// All queries, all keys, all values, each cut into heads: DiT, diffusers, ADM's "new attention order".
    #[default]
    QkvFirst,
    /// Heads, each with its query, key and value: ADM's legacy order.
    HeadsFirst,
}

/// softmax(q k^T / sqrt(d)) v, each head apart.
///
/// # Shapes
/// - `qkv`: `[B, T, 3 D]`
/// - returns: `[B, T, D]`
///
/// # Cost
/// 2 T^2 D multiply-adds; memory O(T).
pub fn attend(qkv: &Tensor, heads: i64, order: HeadOrder) -> Tensor {
    if let Some(mixed) = shim::attention(qkv, heads, order == HeadOrder::HeadsFirst) {
        return mixed;
    }
    let (batch, tokens, width) = qkv.size3().unwrap_or_else(|e| panic!("attention input: {e}"));
    let width = width.div_euclid(3);
    let head = width.div_euclid(heads);
    let parts = match order {
        HeadOrder::QkvFirst => qkv.view([batch, tokens, 3, heads, head]).permute([2, 0, 3, 1, 4]),
        HeadOrder::HeadsFirst => qkv.view([batch, tokens, heads, 3, head]).permute([3, 0, 2, 1, 4]),
    };
    let parts = parts.unbind(0); // three of [B, heads, T, head]
    let mixed =
        Tensor::scaled_dot_product_attention(&parts[0], &parts[1], &parts[2], None::<&Tensor>, 0.0, false, None, false);
    mixed.transpose(1, 2).reshape([batch, tokens, width])
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    /// Against the textbook form, one head at a time.
    #[test]
    fn both_orders_equal_the_textbook() {
        let qkv = (Tensor::arange(2 * 5 * 24, (Kind::Double, Device::Cpu)) * 0.7).sin().view([2, 5, 24]);
        for order in [HeadOrder::QkvFirst, HeadOrder::HeadsFirst] {
            let got = attend(&qkv, 2, order);
            for head in 0..2 {
                let part = |i: i64| match order {
                    HeadOrder::QkvFirst => qkv.narrow(2, 8 * i + 4 * head, 4),
                    HeadOrder::HeadsFirst => qkv.narrow(2, 12 * head + 4 * i, 4),
                };
                let weights = (part(0).matmul(&part(1).transpose(1, 2)) / 2.0).softmax(-1, Kind::Double);
                let want = weights.matmul(&part(2));
                let error = (got.narrow(2, 4 * head, 4) - want).abs().max().double_value(&[]);
                assert!(error < 1e-12, "{order:?} head {head}: {error}");
            }
        }
    }
}
