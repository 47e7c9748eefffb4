use pentimento_core::optim::*;
use pentimento_core::*;
use pentimento_nn::*;
use pentimento_train::Ema;
use std::time::Instant;
use tch::{Device, Kind, Tensor};
fn med(mut f: impl FnMut(), n: usize) -> f64 {
    f();
    f();
    let mut v: Vec<f64> = (0..n)
        .map(|_| {
            let t = Instant::now();
            f();
            t.elapsed().as_secs_f64()
        })
        .collect();
    v.sort_by(f64::total_cmp);
    v[n / 2] * 1e3
}
fn r(s: &[i64]) -> Tensor {
    noise::init_normal(1, &format!("{s:?}"), s)
}
fn main() {
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 30);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
    }
    let th: i32 = std::env::var("TH").ok().and_then(|v| v.parse().ok()).unwrap_or(2);
    tch::set_num_threads(th);
    println!("{} threads {}", pentimento_torch_shim::cpu_capability(), tch::get_num_threads());
    let what = std::env::args().nth(1).unwrap_or("all".into());
    if what == "all" || what == "micro" {
        let _g = tch::no_grad_guard();
        for (m, k, n) in [
            (4096, 256, 768),
            (4096, 256, 256),
            (4096, 256, 1024),
            (4096, 1024, 256),
            (64, 256, 1536),
            (2048, 2048, 2048),
        ] {
            let (a, w, b) = (r(&[m, k]), r(&[n, k]), r(&[n]));
            let t = med(
                || {
                    let _ = a.linear(&w, Some(&b));
                },
                15,
            );
            println!("linear {m}x{k}x{n}: {t:.2} ms {:.0} GF/s", 2e-6 * (m * k * n) as f64 / t);
            let (am, wm) = (a.to_mkldnn(), w.to_mkldnn());
            let t = med(
                || {
                    let _ = am.mkldnn_linear(&wm, Some(&b));
                },
                15,
            );
            println!("   mkldnn {t:.2} ms {:.0} GF/s", 2e-6 * (m * k * n) as f64 / t);
            let g = r(&[m, n]);
            let t = med(
                || {
                    let _ = g.transpose(0, 1).matmul(&a);
                },
                15,
            );
            println!("   dW {t:.2} ms {:.0} GF/s", 2e-6 * (m * k * n) as f64 / t);
            let t = med(
                || {
                    let _ = g.matmul(&w);
                },
                15,
            );
            println!("   dX {t:.2} ms {:.0} GF/s", 2e-6 * (m * k * n) as f64 / t);
        }
        let x = r(&[64, 64, 256]);
        let m = r(&[64, 1, 256]);
        println!(
            "layer_norm {:.3}",
            med(
                || {
                    let _ = x.layer_norm([256i64], None::<&Tensor>, None::<&Tensor>, 1e-6, true);
                },
                15
            )
        );
        println!(
            "addcmul {:.3}",
            med(
                || {
                    let _ = m.addcmul(&x, &m);
                },
                15
            )
        );
        println!(
            "residual gate addcmul {:.3}",
            med(
                || {
                    let _ = x.addcmul(&m, &x);
                },
                15
            )
        );
        let h = r(&[64, 64, 1024]);
        println!(
            "gelu tanh {:.3}",
            med(
                || {
                    let _ = h.gelu("tanh");
                },
                15
            )
        );
        println!(
            "gelu erf {:.3}",
            med(
                || {
                    let _ = h.gelu("none");
                },
                15
            )
        );
        println!(
            "silu {:.3}",
            med(
                || {
                    let _ = h.silu();
                },
                15
            )
        );
        println!(
            "relu {:.3}",
            med(
                || {
                    let _ = h.relu();
                },
                15
            )
        );
        let qkv = r(&[64, 64, 768]);
        let parts = qkv.view([64, 64, 3, 8, 32]).permute([2, 0, 3, 1, 4]).unbind(0);
        println!(
            "sdpa {:.3}",
            med(
                || {
                    let _ = Tensor::scaled_dot_product_attention(
                        &parts[0],
                        &parts[1],
                        &parts[2],
                        None::<&Tensor>,
                        0.0,
                        false,
                        None,
                        false,
                    );
                },
                15
            )
        );
        for (c, s) in [(64i64, 32i64), (128, 16), (128, 32), (32, 16)] {
            let (x, w, b) = (r(&[32, c, s, s]), r(&[c, c, 3, 3]), r(&[c]));
            let fl = 2e-6 * (32 * c * c * 9 * s * s) as f64;
            let t = med(
                || {
                    let _ = x.conv2d(&w, Some(&b), [1, 1], [1, 1], [1, 1], 1);
                },
                9,
            );
            println!("conv3 {c}@{s}: {t:.2} ms {:.0} GF/s", fl / t);
            let (x, w) =
                (pentimento_torch_shim::channels_last(&x).unwrap(), pentimento_torch_shim::channels_last(&w).unwrap());
            let t = med(
                || {
                    let _ = x.conv2d(&w, Some(&b), [1, 1], [1, 1], [1, 1], 1);
                },
                9,
            );
            println!("   channels last {t:.2} ms {:.0} GF/s", fl / t);
            let xm = x.to_mkldnn();
            let wm = w.to_mkldnn().mkldnn_reorder_conv2d_weight([1, 1], [1, 1], [1, 1], 1, None::<&[i64]>);
            let t = med(
                || {
                    let _ = xm.mkldnn_convolution(&wm, Some(&b), [1, 1], [1, 1], [1, 1], 1);
                },
                9,
            );
            println!("   mkldnn blocked {t:.2} ms {:.0} GF/s", fl / t);
            let g = r(&[8]);
            let _ = g;
            let gw = r(&[c]);
            let xc = r(&[32, c, s, s]);
            println!(
                "   group_norm {:.2} silu {:.2}",
                med(
                    || {
                        let _ = xc.group_norm(8, Some(&gw), Some(&gw), 1e-5, true);
                    },
                    9
                ),
                med(
                    || {
                        let _ = xc.silu();
                    },
                    9
                )
            );
        }
    }
    for (name, toml, input, batch) in [
        ("dit", "[dit]\npatch=4\nwidth=256\ndepth=6\nheads=8", [3, 32, 32], 64),
        ("unet", "[unet]\nchannels=64\nmult=[1,2]\nblocks=2\nattention=[2]\nheads=4", [3, 32, 32], 32),
        (
            "unet-cl",
            "[unet]\nchannels=64\nmult=[1,2]\nblocks=2\nattention=[2]\nheads=4\nlayout=\"channels_last\"",
            [3, 32, 32],
            32,
        ),
        ("quick", "[unet]\nchannels=32\nmult=[1,2]\nblocks=1\ngroups=8\nheads=2", [3, 16, 16], 64),
        (
            "quick-cl",
            "[unet]\nchannels=32\nmult=[1,2]\nblocks=1\ngroups=8\nheads=2\nlayout=\"channels_last\"",
            [3, 16, 16],
            64,
        ),
    ] {
        if what != "all" && what != name && what != "nets" {
            continue;
        }
        let config: NetworkConfig = toml::from_str(toml).unwrap();
        let params = Params::new(Device::Cpu, 0);
        let net = config.build(&params.root(), input, 10).unwrap();
        open_gates(&params, 0);
        let x = r(&[batch, 3, input[1], input[2]]);
        let t = Tensor::linspace(0.0, 1000.0, batch, (Kind::Float, Device::Cpu));
        let y: Vec<i64> = (0..batch).map(|i| i % 10).collect();
        let c = Condition::classes(&y);
        println!("{name}: {} params, {:.2} GMAC/batch", params.count(), net.macs() as f64 * batch as f64 * 1e-9);
        let f = {
            let _g = tch::no_grad_guard();
            med(
                || {
                    let _ = net.forward(&x, &t, &c);
                },
                9,
            )
        };
        println!("   forward {f:.1} ms, {:.0} GF/s", 2e-6 * net.macs() as f64 * batch as f64 / f);
        let mut o = AdamW::new(&params, AdamWConfig { clip: 1.0, ..Default::default() });
        let ema = Ema::new(&params);
        let (mut tf, mut tb, mut to, mut te) = (0.0, 0.0, 0.0, 0.0);
        let mut k = 0.0;
        let s = med(
            || {
                let t0 = Instant::now();
                let loss = net.forward(&x, &t, &c).square().mean(Kind::Float);
                let t1 = Instant::now();
                loss.backward();
                let t2 = Instant::now();
                o.step(1e-4);
                let t3 = Instant::now();
                ema.update(0.01);
                let t4 = Instant::now();
                tf += (t1 - t0).as_secs_f64();
                tb += (t2 - t1).as_secs_f64();
                to += (t3 - t2).as_secs_f64();
                te += (t4 - t3).as_secs_f64();
                k += 1e-3;
            },
            7,
        );
        println!(
            "   step {s:.1} ms: forward {:.1} backward {:.1} adamw {:.2} ema {:.2}",
            tf / k,
            tb / k,
            to / k,
            te / k
        );
    }
}
