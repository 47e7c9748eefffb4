//! Data that cannot be used is named before training, and `pentimento data` says what is there.

use crate::scratch::{Scratch, names, read_png, write_png};
use flate2::{Compression, write::GzEncoder};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::thread::JoinHandle;
use zip::write::SimpleFileOptions;

/// An IDX file of bytes.
fn idx(dims: &[u32], bytes: &[u8]) -> Vec<u8> {
    let mut file = vec![0, 0, 8, u8::try_from(dims.len()).unwrap()];
    dims.iter().for_each(|d| file.extend(d.to_be_bytes()));
    [file, bytes.to_vec()].concat()
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Twenty pictures of 8 x 8 without pattern, and their labels, as MNIST has them.
fn write_mnist(folder: &Path, cut: usize) {
    fs::create_dir_all(folder).unwrap();
    let images = gz(&idx(&[20, 8, 8], &noise(20 * 64)));
    fs::write(folder.join("train-images-idx3-ubyte.gz"), &images[..images.len() - cut]).unwrap();
    fs::write(folder.join("train-labels-idx1-ubyte.gz"), gz(&idx(&[20], &[1; 20]))).unwrap();
}

/// Bytes that do not compress (SplitMix64's additive part, mixed once).
fn noise(n: usize) -> Vec<u8> {
    (0..n as u64).map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8 ^ (i * i) as u8).collect()
}

/// Nine good pictures in two classes and a broken one.
fn write_folder(t: &Scratch) {
    for i in 0..9 {
        write_png(&t.path(&format!("mixed/{}/{i}.png", ["cat", "dog"][i % 2])), u8::try_from(20 * i).unwrap());
    }
    let good = fs::read(t.path("mixed/dog/7.png")).unwrap();
    fs::write(t.path("mixed/dog/broken.png"), &good[..good.len() - 30]).unwrap();
}

#[test]
fn bad_data_is_named_by_every_command_that_reads_it() {
    let t = Scratch::new();
    write_mnist(&t.path("cut"), 200);
    write_mnist(&t.path("magic"), 0);
    fs::write(t.path("magic/train-images-idx3-ubyte.gz"), gz(b"no idx file at all")).unwrap();
    fs::create_dir(t.path("empty")).unwrap();
    write_png(&t.path("labels/a.png"), 9);
    write_png(&t.path("labels/b.png"), 90);
    fs::write(t.path("labels/metadata.csv"), "file_name,label\na.png,0\nb.png,-3\n").unwrap();
    let mut zip = zip::ZipWriter::new(fs::File::create(t.path("bomb.zip")).unwrap());
    let deflated =
        SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated).compression_level(Some(1));
    zip.start_file("00000/img00000000.png", deflated).unwrap();
    let zeros = vec![0; 1 << 20];
    (0..300).for_each(|_| zip.write_all(&zeros).unwrap());
    zip.finish().unwrap();
    fs::write(t.path("huge.idx"), idx(&[4_000_000_000, 1000, 1000], &[0; 100])).unwrap();
    let cases: [(&str, &[&str]); 6] = [
        ("cut", &["cut/train-images-idx3-ubyte.gz"]),
        ("magic", &["magic/train-images-idx3-ubyte.gz"]),
        ("empty", &["empty"]),
        ("labels", &["labels/b.png", "label -3"]),
        ("bomb.zip", &["bomb.zip", "img00000000.png", "limit"]),
        ("huge.idx", &["huge.idx"]),
    ];
    for (name, words) in cases {
        t.run(&format!("train tiny.toml --set data.name={name}")).refused(2, words);
        // One picture of two can be used there: `check` says which, and that the result is negative.
        if name != "labels" {
            t.run(&format!("data check {name}")).refused(2, words);
        }
    }
    assert!(!t.path("runs").exists() && names(&t.path("")).iter().all(|n| !n.ends_with(".png")));
}

#[test]
fn one_broken_picture_is_named_and_can_be_left_out() {
    let t = Scratch::new();
    write_folder(&t);
    let train = "train tiny.toml --set data.name=mixed --set data.limit=0 --set train.images=16 --set train.batch=4";
    t.run(train).refused(2, &["mixed/dog/broken.png"]);
    t.run(&format!("{train} --skip-bad")).weights();
    let said = t.run("data check mixed --out grids/mixed.png");
    assert_eq!(said.code, Some(1), "{said:?}");
    for line in [
        "mixed: 9 usable items, 1 unusable",
        "1 x 8 x 8",
        "labels    cat 5, dog 4",
        "unusable  item 9: mixed/dog/broken.png",
    ] {
        assert!(said.out.contains(line), "{line}: {}", said.out);
    }
    let grid = read_png(&t.path("grids/mixed.png"));
    assert_eq!((grid.width, grid.height), (8 * 10 - 2, 2 * 10 - 2));
    let said = t.run("data check mixed --skip-bad --json --px 4");
    assert_eq!(said.code, Some(0), "{said:?}");
    let found: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((&found["good"], &found["bad"][0]["item"]), (&9.into(), &9.into()));
    assert_eq!((&found["shape"], &found["histogram"]), (&serde_json::json!([1, 4, 4]), &serde_json::json!([5, 4])));
    assert!(t.path("mixed-grid.png").exists());
    fs::remove_dir_all(t.path("mixed/cat")).unwrap();
    for i in [1, 3, 5, 7] {
        fs::write(t.path(&format!("mixed/dog/{i}.png")), "no picture").unwrap();
    }
    t.run("data check mixed").refused(2, &["mixed/dog/1.png: byte 0: "]);
}

#[test]
fn known_sets_are_listed_checked_and_fetched_only_when_asked() {
    let t = Scratch::new();
    let said = t.run("data list");
    for line in ["digits         1,797 grey", "part of this program", "licence: CC BY 4.0", "pentimento data get mnist"]
    {
        assert!(said.out.contains(line), "{line}: {}", said.out);
    }
    let all: Value = serde_json::from_str(&t.run("data list --json").out).unwrap();
    assert_eq!(all.as_object().unwrap().len(), 9);
    let said = t.run("data check digits --json");
    let found: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((said.code, &found["good"], &found["range"]), (Some(0), &1797.into(), &serde_json::json!([-1.0, 1.0])));
    assert_eq!(found["histogram"], serde_json::json!([178, 182, 177, 183, 181, 182, 181, 179, 174, 180]));
    assert!(t.path("digits-grid.png").exists());
    assert_eq!(t.run("data get digits").code, Some(0));
    t.run("data get minst").refused(2, &["minst", "choose one of sprites", "did you mean mnist?"]);
    t.run("data get dsprites").refused(2, &["dsprites", "--sha256"]);
    t.run("data get mnist --sha256 12").refused(2, &["mnist", "4 files"]);
    t.run("data check digitz").refused(2, &["digitz: no such data set or path", "did you mean digits?"]);
    assert!(!t.path("data").exists());
}

/// A server on this machine that answers so many connections, then ends with the requests it was sent.
fn serve(answers: Vec<Vec<u8>>) -> (String, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/sets/", listener.local_addr().unwrap());
    let answer = move |bytes: Vec<u8>| {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = String::new();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while !request.ends_with("\r\n\r\n") && reader.read_line(&mut request).unwrap() > 0 {}
        stream.write_all(&bytes).unwrap();
        request.to_lowercase()
    };
    (url, std::thread::spawn(move || answers.into_iter().map(answer).collect()))
}

fn reply(head: &str, body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 {head}\r\nConnection: close\r\n\r\n").as_bytes(), body].concat()
}

#[test]
fn a_download_is_resumed_where_it_was_cut_and_then_checked() {
    let t = Scratch::new();
    let body = noise(100_000);
    fs::write(t.path("body"), &body).unwrap();
    let sum = pentimento_io::http::hash(&t.path("body")).unwrap();
    let rest = "206 Partial Content\r\nContent-Range: bytes 40000-99999/100000\r\nContent-Length: 60000";
    let (url, requests) =
        serve(vec![reply("200 OK\r\nContent-Length: 100000", &body[..40_000]), reply(rest, &body[40_000..])]);
    let get = format!("data get dsprites --to sets --sha256 {sum} --from {url}");
    let file = "sets/dsprites/dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz";
    t.run(&get).refused(3, &["dsprites_ndarray", "cannot download", "it goes on where it stopped"]);
    assert!(!t.path(file).exists());
    assert_eq!(fs::read(t.path(&format!("{file}.part"))).unwrap(), body[..40_000]);
    let said = t.run(&get);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(said.out.trim(), format!("{file}  100000 bytes, SHA-256 {sum} matches"));
    assert_eq!(fs::read(t.path(file)).unwrap(), body);
    assert_eq!(names(&t.path("sets/dsprites")).len(), 1);
    let requests = requests.join().unwrap();
    assert!(
        requests[0].starts_with("get /sets/dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz ")
            && !requests[0].contains("range:")
    );
    assert!(requests[1].contains("range: bytes=40000-\r\n"), "{requests:?}");
    // The server is gone, and not needed.
    assert_eq!(t.run(&get).code, Some(0));
    // What stands there under another checksum is not replaced.
    let other = get.replace(&sum, &"0".repeat(64));
    t.run(&other).refused(2, &[file, &sum, "remove it and fetch it again"]);
    assert_eq!(fs::read(t.path(file)).unwrap(), body);
}

#[test]
fn a_mirror_cannot_replace_the_pinned_checksum() {
    let t = Scratch::new();
    // As many bytes as the first file of MNIST has, but other ones.
    let (url, _) = serve(vec![
        reply("200 OK\r\nContent-Length: 9912422", &vec![0; 9_912_422]),
        reply("404 Not Found\r\nContent-Length: 2", b"no"),
    ]);
    let get = format!("data get mnist --to sets --from {url}");
    let pinned = "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609";
    t.run(&get).refused(2, &["sets/mnist/train-images-idx3-ubyte.gz", pinned, "it was removed"]);
    assert_eq!(names(&t.path("sets/mnist")), [""; 0]);
    t.run(&get).refused(2, &["train-images-idx3-ubyte.gz answered 404"]);
    t.run("data get mnist --from mirror").refused(2, &["--from", "http:// or https://"]);
}
