//! Real data sets, and files written by other programs, through every reader.
//!
//! The data sets are looked for in `PENTIMENTO_DATA`, else in `../shared/data` beside the repository; a test whose files
//! are not there says so and passes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::float_cmp,
    clippy::cast_possible_truncation,
    reason = "a test may stop at the first surprise, says what it skips, and compares exactly"
)]

use std::path::{Path, PathBuf};

use pentimento_io::detect::{self, Format};
use pentimento_io::limits::Limits;
use pentimento_io::picture::Picture;
use pentimento_io::{Array, Values, cifar, dsprites, idx, npy, npz};

fn data(file: &str) -> Option<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = std::env::var_os("PENTIMENTO_DATA").map_or_else(|| here.join("../../../shared/data"), PathBuf::from);
    let path = root.join(file);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: {} is not there", path.display());
    None
}

fn seed(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(file)
}

fn bytes(array: &Array) -> &[u8] {
    match array.values() {
        Values::U8(v) => v,
        other => panic!("bytes expected, not {other:?}"),
    }
}

#[test]
fn mnist() {
    let Some(images) = data("mnist/train-images-idx3-ubyte.gz") else { return };
    assert_eq!(detect::sniff(&images).unwrap(), Format::Idx);
    let labels = idx::labels_beside(&images).unwrap();
    let (pictures, labels) = idx::read_pair(&images, &labels).unwrap();
    assert_eq!((pictures.shape(), &labels[..5]), (&[60_000, 28, 28][..], &[5, 0, 4, 1, 9][..]));
    assert_eq!(labels.iter().filter(|&&l| l == 1).count(), 6742);
}

#[test]
fn digits_and_emoji() {
    let Some(images) = data("digits/digits-images-idx3-ubyte.gz") else { return };
    let (pictures, labels) = idx::read_pair(&images, &idx::labels_beside(&images).unwrap()).unwrap();
    assert_eq!((pictures.shape(), bytes(&pictures).iter().max()), (&[1797, 8, 8][..], Some(&16)));
    let histogram: Vec<_> = (0..10).map(|k| labels.iter().filter(|&&l| l == k).count()).collect();
    assert_eq!(histogram, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]);
    let Some(emoji) = data("emoji/emoji64-rgba-idx4-ubyte.gz") else { return };
    assert_eq!(idx::read(&emoji).unwrap().shape(), [2008, 64, 64, 4]);
}

#[test]
fn cifar10() {
    let Some(batch) = data("cifar10/data_batch_1.bin.gz") else { return };
    assert_eq!(detect::sniff(&batch).unwrap(), Format::Cifar10);
    let batch = cifar::read(&batch).unwrap();
    let histogram: Vec<_> = (0..10).map(|k| batch.labels.iter().filter(|&&l| l == k).count()).collect();
    assert_eq!(histogram, [1005, 974, 1032, 1016, 999, 937, 1030, 1001, 1025, 981]);
    // Channel means as the data's README gives them, to four digits.
    let mean = |c: usize| {
        let of_picture = |p: &[u8]| p[c * 1024..(c + 1) * 1024].iter().map(|&v| u64::from(v)).sum::<u64>();
        let sum: u64 = bytes(&batch.images).chunks_exact(3072).map(of_picture).sum();
        sum as f64 / (255.0 * 1024.0 * 10_000.0)
    };
    for (c, want) in [0.4935, 0.4834, 0.4472].into_iter().enumerate() {
        assert!((mean(c) - want).abs() < 5e-5, "channel {c}: {} against {want}", mean(c));
    }
    let folder = data("cifar10").unwrap();
    assert_eq!(detect::sniff(&folder).unwrap(), Format::Cifar10);
    assert_eq!(cifar::files(&folder, cifar::Split::Test).unwrap().len(), 1);
    assert_eq!(cifar::class_names(&folder).unwrap()[9], "truck");
}

#[test]
fn dsprites_grid() {
    let Some(path) = data("dsprites/dsprites_grid_46080.npz") else { return };
    assert_eq!(detect::sniff(&path).unwrap(), Format::DSprites);
    let all = dsprites::read(&path).unwrap();
    assert_eq!((all.images.shape(), all.values.shape()), (&[46_080, 64, 64][..], &[46_080, 6][..]));
    let Values::I64(classes) = all.classes.values() else { panic!("integers") };
    let shapes: Vec<_> = (0..3).map(|k| classes.chunks_exact(6).filter(|c| c[1] == k).count()).collect();
    assert_eq!(shapes, [15_360; 3]);
}

#[test]
fn kodak() {
    let Some(path) = data("kodak/kodim01.png") else { return };
    assert_eq!(detect::sniff(&path).unwrap(), Format::Picture);
    let picture = Picture::decode(&path, &std::fs::read(&path).unwrap(), &Limits::STANDARD).unwrap();
    assert_eq!((picture.width, picture.height, picture.channels), (768, 512, 3));
    let set = detect::open_items(path.parent().unwrap()).unwrap();
    assert_eq!((set.len(), set.name(23).as_str()), (24, "kodim24.png"));
}

#[test]
fn mnist1d_holds_doubles_and_integers() {
    let Some(path) = data("mnist1d/mnist1d.npz") else { return };
    let arrays = npz::Npz::open(&path).unwrap();
    assert_eq!(arrays.array("x").unwrap().shape(), [4000, 40]);
    assert!(matches!(arrays.array("y").unwrap().values(), Values::I64(v) if v.len() == 4000));
}

#[test]
fn arrays_that_numpy_wrote() {
    let fortran = npy::read(&seed("npy/fortran.npy")).unwrap();
    assert_eq!(fortran, Array::new(vec![3, 4], Values::I32((0..12).collect())));
    assert!(matches!(npy::read(&seed("npy/big.npy")).unwrap().values(), Values::F64(v) if v.len() == 12));
    assert_eq!(npy::read(&seed("npy/bool.npy")).unwrap(), Array::new(vec![3], Values::U8(vec![1, 0, 1])));
    assert_eq!(npy::read(&seed("npy/u8.npy")).unwrap(), Array::new(vec![3], Values::I64(vec![1, 2, 3])));
    assert_eq!(npy::read(&seed("npy/scalar.npy")).unwrap(), Array::new(vec![], Values::F64(vec![2.5])));
    for file in ["npz/adm.npz", "npz/adm_deflated.npz"] {
        let (images, labels) = npz::Npz::open(&seed(file)).unwrap().batch().unwrap();
        assert_eq!((images.shape(), labels), (&[2, 8, 8, 3][..], Some(vec![0, 1])));
    }
    assert_eq!(dsprites::read(&seed("dsprites/deflated.npz")).unwrap().images.shape(), [3, 8, 8]);
}

/// The first digit of the seeds, as every archive below holds it: 8 x 8, grey, 15 times the value of the data set.
fn first_digit() -> Vec<u8> {
    let digits = idx::read(&seed("idx/digits.idx")).unwrap();
    bytes(&digits)[..64].iter().map(|v| v * 15).collect()
}

#[test]
fn archives_that_python_wrote() {
    for file in ["edm_zip/stored.zip", "edm_zip/deflated.zip"] {
        let set = detect::open_items(&seed(file)).unwrap();
        let item = set.read(0).unwrap();
        assert_eq!((set.len(), item.label, item.picture.pixels), (3, Some(0), first_digit()));
    }
    for file in ["shards/gnu.tar", "shards/pax.tar"] {
        let set = detect::open_items(&seed(file)).unwrap();
        let (first, second) = (set.read(0).unwrap(), set.read(1).unwrap());
        assert_eq!((set.len(), first.label, first.picture.pixels), (2, Some(0), first_digit()));
        assert_eq!((second.name, second.label), ("d".repeat(120) + "/x", Some(1)));
        assert_eq!((first.caption.as_deref(), second.factors), (Some("digit"), vec![1.5]));
    }
    for file in ["snappy", "gzip", "zstd", "none", "delta_v2"] {
        let set = detect::open_items(&seed(&format!("hf_parquet/{file}.parquet"))).unwrap();
        let item = set.read(0).unwrap();
        assert_eq!((set.len(), set.classes().len(), set.factor_names()), (3, 10, &["x".to_owned()][..]), "{file}");
        assert_eq!((item.name.as_str(), item.label, item.picture.pixels), ("0.png", Some(0), first_digit()), "{file}");
        assert_eq!((item.caption.as_deref(), item.factors), (Some("zero"), vec![0.5]), "{file}");
        assert_eq!((set.read(1).unwrap().caption, set.read(2).unwrap().label), (None, Some(2)), "{file}");
    }
}

#[test]
fn pictures_that_pillow_wrote() {
    let read = |name: &str| {
        let path = seed("picture").join(name);
        Picture::decode(&path, &std::fs::read(&path).unwrap(), &Limits::STANDARD).unwrap()
    };
    let channels = [
        ("grey.png", 1),
        ("rgb.png", 3),
        ("rgba.png", 4),
        ("deep.png", 1),
        ("palette.png", 3),
        ("bits.png", 1),
        ("grey.jpg", 1),
        ("rgb.jpg", 3),
        ("progressive.jpg", 3),
        ("cmyk.jpg", 3),
        ("lossy.webp", 3),
        ("lossless.webp", 3),
    ];
    for (name, want) in channels {
        let got = read(name);
        assert_eq!((got.width, got.height, got.channels), (8, 8, want), "{name}");
        assert_eq!(got.pixels.len(), 64 * usize::from(want), "{name}");
    }
    assert_eq!(read("grey.png").pixels, first_digit());
    // grey.jpg holds the seventh digit (index 6) at Pillow's standard quality; its first row is mostly ground.
    let grey = read("grey.jpg").pixels;
    assert!(grey[0] < 32 && grey.iter().any(|&v| v > 192), "{grey:?}");
}
