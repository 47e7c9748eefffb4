//! What each fused layer of the shim gains over libtorch's own operations, at the sizes of the DiT of row 1 and the U-Net of row 2.

use pentimento_torch_shim as shim;
use std::fmt::Write;
use std::time::Instant;
use tch::{Device, Kind, Tensor};

/// Batch, tokens, width and heads of row 1.
const SIZES: [i64; 4] = [64, 64, 256, 8];

/// Batch, channels, edge and groups of row 2.
const MAPS: [i64; 4] = [32, 64, 32, 32];

/// Tokens, width and heads of row 2's attention.
const MIDDLE: [i64; 3] = [256, 128, 2];

/// Turns of each side, ours and libtorch's by turns.
const TURNS: usize = 15;

type Layer = fn(&[Tensor]) -> Tensor;

/// A layer in both forms, with the shapes of its inputs and what kind they are of under autocast.
#[derive(Clone)]
struct Row {
    name: &'static str,
    /// Whether it multiplies, so that autocast has a say in it.
    multiplies: bool,
    inputs: Vec<(Vec<i64>, Kind)>,
    fused: Layer,
    composed: Layer,
}

fn rows() -> Vec<Row> {
    let [b, t, d, _] = SIZES;
    let (half, single) = (Kind::BFloat16, Kind::Float);
    let (tokens, row) = (vec![b, t, d], (vec![b, 1, d], half));
    let channels = (vec![1, MAPS[1]], single);
    let maps = vec![(vec![MAPS[0], MAPS[2], MAPS[2], MAPS[1]], half), channels.clone(), channels];
    let channel = MAPS[1];
    let own = [
        Row {
            name: "linear layer",
            multiplies: true,
            inputs: layers([vec![b * t, d], vec![4 * d, d], vec![4 * d]]),
            fused: |x| took(shim::linear(&x[0], &x[1], &x[2])),
            composed: |x| x[0].linear(&x[1], Some(&x[2])),
        },
        Row {
            name: "layers of row 5's encoder",
            multiplies: true,
            inputs: layers([
                vec![256, 784],
                vec![512, 784],
                vec![512],
                vec![256, 512],
                vec![256],
                vec![64, 256],
                vec![64],
            ]),
            fused: |x| {
                let layers = [[&x[1], &x[2]], [&x[3], &x[4]], [&x[5], &x[6]]];
                took(shim::perceptron(&x[0], &layers, shim::Squash::Relu))
            },
            composed: |x| {
                let h = x[0].linear(&x[1], Some(&x[2])).relu().linear(&x[3], Some(&x[4])).relu();
                h.linear(&x[5], Some(&x[6]))
            },
        },
        Row {
            name: "likelihood of binary pixels",
            multiplies: false,
            inputs: vec![(vec![256, 784], single); 2],
            fused: |x| took(shim::bernoulli(&x[0], &x[1])),
            composed: |x| (&x[0] * &x[1] - x[1].softplus()).sum_dim_intlist(1, false, Kind::Float),
        },
        Row {
            name: "draws and divergence of row 5's encoder",
            multiplies: false,
            inputs: [vec![256, 64], vec![256, 32]].map(|size| (size, single)).into(),
            fused: |x| {
                let q = x[0].chunk(2, 1);
                took(shim::gaussian_at(&q[0], &q[1], &x[1])) + took(shim::gaussian_kl(&q[0], &q[1])).unsqueeze(1)
            },
            composed: |x| {
                let q = x[0].chunk(2, 1);
                let divergence = (q[0].square() + q[1].exp() - 1.0 - &q[1]) * 0.5;
                &q[0] + (&q[1] * 0.5).exp() * &x[1] + divergence.sum_dim_intlist(1, true, Kind::Float)
            },
        },
    ];
    let own = own.into_iter().filter(|_| shim::own_products());
    let convolution = [vec![MAPS[0], MAPS[2], MAPS[2], channel], vec![channel, 3, 3, channel], vec![channel]];
    let all = [
        Row {
            name: "GELU, tanh form",
            multiplies: false,
            inputs: vec![(vec![b, t, 4 * d], half)],
            fused: |x| took(shim::gelu_tanh(&x[0])),
            composed: |x| x[0].gelu("tanh"),
        },
        Row {
            name: "adaLN",
            multiplies: false,
            inputs: vec![(tokens.clone(), single), row.clone(), row.clone()],
            fused: |x| took(shim::adaln(&x[0], &x[1], &x[2], 1e-6)),
            composed: |x| {
                let normal = x[0].layer_norm([SIZES[2]], None::<&Tensor>, None::<&Tensor>, 1e-6, true);
                x[1].addcmul(&normal, &(&x[2] + 1.0)).to_kind(x[1].kind())
            },
        },
        Row {
            name: "gated sum",
            multiplies: false,
            inputs: vec![(tokens.clone(), single), row, (tokens, half)],
            fused: |x| took(shim::gated(&x[0], &x[1], &x[2])),
            composed: |x| x[0].addcmul(&x[1], &x[2]),
        },
        Row {
            name: "group norm and SiLU, both channels-last",
            multiplies: false,
            inputs: maps.clone(),
            fused: |x| took(shim::group_norm(&last(&x[0]), &x[1], &x[2], MAPS[3], 1e-5, true)),
            composed: |x| normal_silu(&last(&x[0]), x),
        },
        Row {
            name: "group norm and SiLU, libtorch contiguous",
            multiplies: false,
            inputs: maps,
            fused: |x| took(shim::group_norm(&last(&x[0]), &x[1], &x[2], MAPS[3], 1e-5, true)),
            composed: |x| normal_silu(&x[0].view([MAPS[0], MAPS[1], MAPS[2], MAPS[2]]), x),
        },
        Row {
            name: "convolution of kernel 3, both channels-last",
            multiplies: true,
            inputs: layers(convolution),
            fused: |x| {
                let own = shim::conv3(&last(&x[0]), &last(&x[1]), &x[2], 1);
                // Where nothing learns and products are not our own, it is libtorch's.
                let ours = shim::grad_enabled() || shim::own_products();
                if ours { took(own) } else { convolved(&last(&x[0]), &last(&x[1]), &x[2]) }
            },
            composed: |x| convolved(&last(&x[0]), &last(&x[1]), &x[2]),
        },
        Row {
            name: "perceptron with a GELU",
            multiplies: true,
            inputs: layers([vec![b, t, d], vec![4 * d, d], vec![4 * d], vec![d, 4 * d], vec![d]]),
            fused: |x| took(shim::mlp_gelu(&x[0], [&x[1], &x[2]], [&x[3], &x[4]])),
            composed: |x| x[0].linear(&x[1], Some(&x[2])).gelu("tanh").linear(&x[3], Some(&x[4])),
        },
        Row {
            name: "attention of 64 tokens",
            multiplies: false,
            inputs: vec![(vec![b, t, 3 * d], half)],
            fused: |x| took(shim::attention(&x[0], SIZES[3], false)),
            composed: |x| attention(&x[0], SIZES[3]),
        },
        Row {
            name: "attention of 256 tokens",
            multiplies: false,
            inputs: vec![(vec![MAPS[0], MIDDLE[0], 3 * MIDDLE[1]], half)],
            fused: |x| took(shim::attention(&x[0], MIDDLE[2], false)),
            composed: |x| attention(&x[0], MIDDLE[2]),
        },
    ];
    all.into_iter().chain(own).collect()
}

/// Kinds under autocast of what enters and of weights and biases.
fn layers<const N: usize>(sizes: [Vec<i64>; N]) -> Vec<(Vec<i64>, Kind)> {
    let kind = |i| if i == 0 { Kind::BFloat16 } else { Kind::Float };
    sizes.into_iter().enumerate().map(|(i, size)| (size, kind(i))).collect()
}

/// libtorch's own, on fused queries, keys and values `[B, T, 3 D]`.
fn attention(x: &Tensor, heads: i64) -> Tensor {
    let (b, t, d) = (x.size()[0], x.size()[1], x.size()[2].div_euclid(3));
    let parts = x.view([b, t, 3, heads, d.div_euclid(heads)]).permute([2, 0, 3, 1, 4]).unbind(0);
    Tensor::scaled_dot_product_attention(&parts[0], &parts[1], &parts[2], None::<&Tensor>, 0.0, false, None, false)
        .transpose(1, 2)
        .reshape([b, t, d])
}

/// libtorch's own, on maps `[B, C, H, W]`, with gain and offset behind the input.
fn normal_silu(maps: &Tensor, x: &[Tensor]) -> Tensor {
    let (weight, bias) = (x[1].flatten(0, 1), x[2].flatten(0, 1));
    maps.group_norm(MAPS[3], Some(&weight), Some(&bias), 1e-5, true).silu()
}

/// `[., H, W, C]` as `[., C, H, W]` stored channels-last.
fn last(x: &Tensor) -> Tensor {
    x.permute([0, 3, 1, 2])
}

/// libtorch's own.
fn convolved(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Tensor {
    x.conv2d(weight, Some(bias), [1; 2], [1; 2], [1; 2], 1)
}

fn took(y: Option<Tensor>) -> Tensor {
    y.unwrap_or_else(|| panic!("the fused layer does not take its own benchmark's inputs"))
}

/// The median.
pub fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() >> 1]
}

/// Medians in ms of both sides, and median, smallest and largest of libtorch's time over ours, turn by turn.
fn contest(ours: &dyn Fn(), theirs: &dyn Fn()) -> [f64; 5] {
    let time = |work: &dyn Fn()| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64() * 1e3
    };
    ours();
    theirs();
    let turns: Vec<(f64, f64)> = (0..TURNS).map(|_| (time(ours), time(theirs))).collect();
    let ratios: Vec<f64> = turns.iter().map(|(a, b)| b / a).collect();
    let (low, high) = ratios.iter().fold((f64::INFINITY, 0.0_f64), |(l, h), r| (l.min(*r), h.max(*r)));
    let (a, b) = turns.into_iter().unzip();
    [middle(a), middle(b), middle(ratios), low, high]
}

/// A Markdown table over kinds, one thread and two, forward alone and forward with backward.
pub fn table() -> String {
    let mut text = String::from(
        "| layer | kind | threads | pass | fused, ms | libtorch, ms | ratio | smallest | largest |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    let half = shim::bf16(Device::Cpu) != shim::Bf16::Imitated;
    let kinds: &[_] = if half { &["f32", "bf16"] } else { &["f32"] };
    for (row, kind) in rows().into_iter().flat_map(|row| kinds.iter().map(move |kind| (row.clone(), *kind))) {
        let low = kind == "bf16";
        if low && (row.inputs.iter().all(|(_, under)| *under == Kind::Float) || row.multiplies && !shim::own_bf16()) {
            continue; // in f32 alone
        }
        let wave = |(size, under): &(Vec<i64>, Kind)| {
            let x = Tensor::arange(size.iter().product::<i64>(), (Kind::Float, Device::Cpu)).sin();
            let x = x.view(size.as_slice()).to_kind(if low { *under } else { Kind::Float });
            x.set_requires_grad(true)
        };
        let inputs: Vec<Tensor> = row.inputs.iter().map(wave).collect();
        let run = |layer: Layer| {
            let asked = if low && row.multiplies { Kind::BFloat16 } else { Kind::Float };
            let _autocast = shim::Autocast::new(Device::Cpu, asked);
            layer(&inputs)
        };
        let forward = |layer: Layer| {
            let _guard = tch::no_grad_guard();
            drop(run(layer));
        };
        let both = |layer: Layer| drop(Tensor::run_backward(&[run(layer).sum(Kind::Float)], &inputs, false, false));
        for threads in [1, 2] {
            tch::set_num_threads(threads);
            for (pass, run) in [("forward", &forward as &dyn Fn(Layer)), ("and backward", &both)] {
                let [a, b, ratio, low, high] = contest(&|| run(row.fused), &|| run(row.composed));
                let _ = writeln!(
                    text,
                    "| {} | {kind} | {threads} | {pass} | {a:.2} | {b:.2} | {ratio:.2} | {low:.2} | {high:.2} |",
                    row.name
                );
            }
        }
    }
    text
}
