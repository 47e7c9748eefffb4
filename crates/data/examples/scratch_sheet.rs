#![allow(clippy::all, clippy::unwrap_used, clippy::print_stdout, missing_docs)]
use pentimento_data::sprites::*;
use pentimento_data::*;
use pentimento_io::png_out;
use std::time::Instant;
fn main() {
    for name in ["sprites", "scenes", "bouncing", "../shared/data/dsprites", "../shared/data/emoji/emoji64-rgba-idx4-ubyte.gz", "../shared/data/kodak"] {
      for px in [16, 32, 64] {
        let opened = open(name, &Open { px, ..Default::default() });
        let d = match opened { Ok(o) => o.data, Err(e) => { println!("{e}"); continue } };
        let r = check(&*d, Some(64), &mut |_, _| {}).unwrap();
        png_out::save(format!("/tmp/sheet_{}_{px}.png", name.split('/').nth(3).unwrap_or(name)).as_ref(), &r.grid.unwrap(), &[]).unwrap();
        let (mut x, mut f) = (vec![0.0; d.shape().iter().product()], vec![0.0; d.factors().len()]);
        let n = 20_000.min(d.len());
        let t = Instant::now();
        for i in 0..n { d.item(i, &mut x, &mut f).unwrap(); }
        println!("{name} {px}: {:.0} items/s, {} bad, {}", n as f64 / t.elapsed().as_secs_f64(), r.bad.len(), d.fingerprint());
      }
    }
    let _ = SpritesConfig::default();
}
