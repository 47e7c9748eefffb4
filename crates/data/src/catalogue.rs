//! The data sets that are known by name: where they come from, how their files are known to be right, and what may be
//! done with them. Nothing is fetched unless [`get`] is called.

use crate::Error;
use pentimento_core::choose;
use pentimento_io::http::{Download, Progress, download};
use std::path::{Path, PathBuf};

/// One file of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct File {
    /// Its name in the set's folder.
    pub name: &'static str,
    /// The official address.
    pub url: &'static str,
    /// The SHA-256 in hexadecimal. None: not known to us, so [`get`] asks for it.
    pub sha256: Option<&'static str>,
    /// Its size in bytes, where it is known.
    pub size: Option<u64>,
}

/// Where a data set comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Generated; there is no file.
    Procedural,
    /// Part of this program.
    Embedded,
    /// Files to be fetched.
    Files(&'static [File]),
    /// A tar.gz to be fetched, and the members of it that [`get`] puts into the folder.
    Archive(File, &'static [&'static str]),
}

/// One data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name on the command line, also that of its folder.
    pub name: &'static str,
    /// What it holds, in one line.
    pub what: &'static str,
    /// Where it comes from.
    pub origin: Origin,
    /// Licence and authors, in one line.
    pub licence: &'static str,
}

const MNIST: [File; 4] = [
    File {
        name: "train-images-idx3-ubyte.gz",
        url: "https://ossci-datasets.s3.amazonaws.com/mnist/train-images-idx3-ubyte.gz",
        sha256: Some("440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
        size: Some(9_912_422),
    },
    File {
        name: "train-labels-idx1-ubyte.gz",
        url: "https://ossci-datasets.s3.amazonaws.com/mnist/train-labels-idx1-ubyte.gz",
        sha256: Some("3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
        size: Some(28_881),
    },
    File {
        name: "t10k-images-idx3-ubyte.gz",
        url: "https://ossci-datasets.s3.amazonaws.com/mnist/t10k-images-idx3-ubyte.gz",
        sha256: Some("8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
        size: Some(1_648_877),
    },
    File {
        name: "t10k-labels-idx1-ubyte.gz",
        url: "https://ossci-datasets.s3.amazonaws.com/mnist/t10k-labels-idx1-ubyte.gz",
        sha256: Some("f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
        size: Some(4_542),
    },
];

const FASHION: [File; 4] = [
    File {
        name: "train-images-idx3-ubyte.gz",
        url: "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/train-images-idx3-ubyte.gz",
        sha256: Some("3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
        size: Some(26_421_880),
    },
    File {
        name: "train-labels-idx1-ubyte.gz",
        url: "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/train-labels-idx1-ubyte.gz",
        sha256: Some("a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
        size: Some(29_515),
    },
    File {
        name: "t10k-images-idx3-ubyte.gz",
        url: "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/t10k-images-idx3-ubyte.gz",
        sha256: Some("346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
        size: Some(4_422_102),
    },
    File {
        name: "t10k-labels-idx1-ubyte.gz",
        url: "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/t10k-labels-idx1-ubyte.gz",
        sha256: Some("67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
        size: Some(5_148),
    },
];

/// The checksum is that which several independent projects pin (MLDatasets.jl and GoMLX among them).
const CIFAR10: File = File {
    name: "cifar-10-binary.tar.gz",
    url: "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    sha256: Some("c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"),
    size: Some(170_052_171),
};

/// Its SHA-256 is not published; the official repository gives the git blob d98996d3f8ee1550e06b9d4ed78d0beb478910d5.
const DSPRITES: File = File {
    name: "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz",
    url: "https://github.com/google-deepmind/dsprites-dataset/raw/master/dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz",
    sha256: None,
    size: None,
};

/// Every known data set.
pub const ENTRIES: [Entry; 9] = [
    Entry {
        name: "sprites",
        what: "one coloured shape with exact factors, any number of pictures",
        origin: Origin::Procedural,
        licence: "generated here: no conditions",
    },
    Entry {
        name: "scenes",
        what: "1 to 4 coloured shapes with caption, masks and depth order, any number of pictures",
        origin: Origin::Procedural,
        licence: "generated here: no conditions",
    },
    Entry {
        name: "bouncing",
        what: "frames of films of moving sprites with state and actions, any number of them",
        origin: Origin::Procedural,
        licence: "generated here: no conditions",
    },
    Entry {
        name: "regimes",
        what: "series of a noisy oscillator whose frequency jumps between 8 regimes, any number of them",
        origin: Origin::Procedural,
        licence: "generated here: no conditions",
    },
    Entry {
        name: "digits",
        what: "1,797 grey hand-written digits of 8 x 8",
        origin: Origin::Embedded,
        licence: "CC BY 4.0 (UCI; E. Alpaydin, C. Kaynak)",
    },
    Entry {
        name: "mnist",
        what: "60,000 + 10,000 grey hand-written digits of 28 x 28",
        origin: Origin::Files(&MNIST),
        licence: "not stated by the authors (Y. LeCun, C. Cortes, C. Burges); commonly given as CC BY-SA 3.0",
    },
    Entry {
        name: "fashion-mnist",
        what: "60,000 + 10,000 grey pictures of clothes of 28 x 28, 10 classes",
        origin: Origin::Files(&FASHION),
        licence: "MIT (Zalando SE)",
    },
    Entry {
        name: "cifar10",
        what: "50,000 + 10,000 colour photographs of 32 x 32, 10 classes",
        origin: Origin::Archive(
            CIFAR10,
            &[
                "batches.meta.txt",
                "data_batch_1.bin",
                "data_batch_2.bin",
                "data_batch_3.bin",
                "data_batch_4.bin",
                "data_batch_5.bin",
                "test_batch.bin",
            ],
        ),
        licence: "no formal licence; cite A. Krizhevsky 2009",
    },
    Entry {
        name: "dsprites",
        what: "737,280 white shapes of 64 x 64 over all combinations of 5 factors",
        origin: Origin::Files(&[DSPRITES]),
        licence: "Apache 2.0 (DeepMind; L. Matthey, I. Higgins, D. Hassabis, A. Lerchner 2017)",
    },
];

/// The data set of this name.
///
/// # Errors
/// When there is none; the sentence lists those that there are.
pub fn find(name: &str) -> Result<&'static Entry, Error> {
    ENTRIES
        .iter()
        .find(|e| e.name == name)
        .ok_or_else(|| Error::bad(name, format!("no such data set; {}", choose(name, &ENTRIES.map(|e| e.name)))))
}

/// How a data set is fetched.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fetch<'a> {
    /// Replaces the checksum of a set of one file: for sets whose checksum is not known, and for other copies.
    pub sha256: Option<&'a str>,
    /// Address of a folder that holds the files under their names, instead of the official one; the checksums stay.
    pub from: Option<&'a str>,
}

impl Fetch<'_> {
    fn check(&self, entry: &Entry, files: &[File]) -> Result<(), Error> {
        if let Some(given) = self.sha256 {
            if files.len() != 1 {
                let why = format!("has {} files, each with its own checksum; leave --sha256 away", files.len());
                return Err(Error::bad(entry.name, why));
            }
            if given.len() != 64 || !given.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(Error::bad("--sha256", format!("{given:?} is no SHA-256; it has 64 hexadecimal digits")));
            }
        }
        match self.from {
            Some(url) if !url.starts_with("http://") && !url.starts_with("https://") => {
                Err(Error::bad("--from", format!("{url:?} is no address; it begins with http:// or https://")))
            }
            _ => Ok(()),
        }
    }

    fn address(&self, file: &File) -> String {
        self.from.map_or(file.url.into(), |folder| format!("{}/{}", folder.trim_end_matches('/'), file.name))
    }
}

/// Fetches a data set into its folder below `to` and returns its files; what is there already stays and is only checked.
/// A set without files gives an empty list. `progress` is called with the file's name.
///
/// # Errors
/// An unknown name, a checksum that is missing or misplaced, a mirror that is no address, and whatever [`download`] says.
pub fn get(name: &str, to: &Path, how: Fetch, progress: &mut dyn FnMut(&str, Progress)) -> Result<Vec<PathBuf>, Error> {
    fetch(find(name)?, to, how, progress)
}

fn fetch(
    entry: &Entry,
    to: &Path,
    how: Fetch,
    progress: &mut dyn FnMut(&str, Progress),
) -> Result<Vec<PathBuf>, Error> {
    let (files, members) = match &entry.origin {
        Origin::Procedural | Origin::Embedded => return Ok(Vec::new()),
        Origin::Files(files) => (*files, None),
        Origin::Archive(file, members) => (std::slice::from_ref(file), Some(members)),
    };
    how.check(entry, files)?;
    let folder = to.join(entry.name);
    let mut paths = Vec::new();
    for file in files {
        let path = folder.join(file.name);
        let sum = how.sha256.or(file.sha256).ok_or_else(|| {
            let why =
                format!("the checksum of {} is not known; give it with --sha256, or fetch the file by hand", file.url);
            Error::bad(entry.name, why)
        })?;
        let url = how.address(file);
        let size = file.size.filter(|_| how.sha256.is_none());
        let what = Download { url: &url, to: &path, sha256: sum, size };
        download(&what, &mut |p| progress(file.name, p))?;
        paths.push(path);
    }
    match (members, paths.first()) {
        (Some(members), Some(archive)) => Ok(pentimento_io::tar_gz::unpack(archive, members, &folder)?),
        _ => Ok(paths),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;

    /// An entry whose single file one local connection serves.
    fn served(body: Vec<u8>, members: Option<&'static [&'static str]>, sum: Option<&'static str>) -> Entry {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/data.bin", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut line = String::new();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            while !line.ends_with("\r\n\r\n") && reader.read_line(&mut line).unwrap() > 0 {}
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            stream.write_all(&[head.as_bytes(), &body].concat()).unwrap();
        });
        let file = File { name: "data.bin", url: url.leak(), sha256: sum, size: None };
        let origin = match members {
            Some(members) => Origin::Archive(file, members),
            None => Origin::Files(vec![file].leak()),
        };
        Entry { name: "tiny", what: "", origin, licence: "" }
    }

    const HELLO: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

    #[test]
    fn the_table_is_sound() {
        for (i, e) in ENTRIES.iter().enumerate() {
            assert!(ENTRIES[..i].iter().all(|o| o.name != e.name) && !e.what.is_empty() && !e.licence.is_empty());
            let files = match &e.origin {
                Origin::Files(f) => *f,
                Origin::Archive(f, _) => std::slice::from_ref(f),
                _ => &[],
            };
            for f in files {
                assert!(f.url.starts_with("http") && f.url.ends_with(f.name), "{f:?}");
                assert!(f.sha256.is_none_or(|s| s.len() == 64 && s.bytes().all(|b| b.is_ascii_hexdigit())), "{f:?}");
            }
        }
        assert!(find("minst").unwrap_err().to_string().ends_with("did you mean mnist?"));
    }

    #[test]
    fn a_file_is_fetched_once_under_its_checksum() {
        let dir = tempfile::tempdir().unwrap();
        let entry = served(b"hello".to_vec(), None, Some(HELLO));
        let mut calls = Vec::new();
        let paths =
            fetch(&entry, dir.path(), Fetch::default(), &mut |name, p| calls.push((name.to_owned(), p.done))).unwrap();
        assert_eq!(paths, [dir.path().join("tiny/data.bin")]);
        assert_eq!((fs::read(&paths[0]).unwrap(), calls), (b"hello".to_vec(), vec![("data.bin".to_owned(), 5)]));
        // The server is gone: the second time needs no network.
        assert_eq!(fetch(&entry, dir.path(), Fetch::default(), &mut |_, _| {}).unwrap(), paths);
    }

    #[test]
    fn an_unknown_checksum_is_asked_for_and_a_wrong_one_refused() {
        let dir = tempfile::tempdir().unwrap();
        let said = |e: &Entry, sum: Option<&str>| {
            fetch(e, dir.path(), Fetch { sha256: sum, from: None }, &mut |_, _| {}).unwrap_err().to_string()
        };
        let entry = served(b"hello".to_vec(), None, None);
        assert!(said(&entry, None).contains("give it with --sha256"), "{}", said(&entry, None));
        assert!(said(&entry, Some("12")).contains("64 hexadecimal digits"));
        assert!(!dir.path().join("tiny").exists());
        assert!(said(&entry, Some(&"0".repeat(64))).contains("expected 000"));
        assert!(!dir.path().join("tiny/data.bin").exists());
        fetch(
            &served(b"hello".to_vec(), None, None),
            dir.path(),
            Fetch { sha256: Some(HELLO), from: None },
            &mut |_, _| {},
        )
        .unwrap();
        let mnist = get("mnist", dir.path(), Fetch { sha256: Some(HELLO), from: None }, &mut |_, _| {})
            .unwrap_err()
            .to_string();
        assert!(mnist.contains("4 files"), "{mnist}");
        assert_eq!(get("digits", dir.path(), Fetch::default(), &mut |_, _| {}).unwrap(), Vec::<PathBuf>::new());
    }

    #[test]
    fn a_mirror_holds_the_files_under_their_names() {
        let at = |from| Fetch { sha256: None, from }.address(&CIFAR10);
        assert_eq!(at(None), CIFAR10.url);
        assert_eq!(at(Some("http://mirror/sets/")), "http://mirror/sets/cifar-10-binary.tar.gz");
        let dir = tempfile::tempdir().unwrap();
        let how = Fetch { sha256: None, from: Some("mirror/sets") };
        let said = get("mnist", dir.path(), how, &mut |_, _| {}).unwrap_err().to_string();
        assert!(said.contains("begins with http:// or https://"), "{said}");
    }

    fn packed(members: &[(&str, &str)]) -> (Vec<u8>, String) {
        let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
        for (name, text) in members {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, name, text.as_bytes()).unwrap();
        }
        let bytes = tar.into_inner().unwrap().finish().unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), &bytes).unwrap();
        let sum = pentimento_io::http::hash(file.path()).unwrap();
        (bytes, sum)
    }

    #[test]
    fn an_archive_gives_its_members_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let (bytes, sum) = packed(&[("deep/a.bin", "one"), ("deep/evil.sh", "no"), ("b.txt", "two")]);
        let entry = served(bytes, Some(&["a.bin", "b.txt"]), None);
        let paths = fetch(&entry, dir.path(), Fetch { sha256: Some(&sum), from: None }, &mut |_, _| {}).unwrap();
        assert_eq!(paths.iter().map(|p| fs::read_to_string(p).unwrap()).collect::<Vec<_>>(), ["one", "two"]);
        assert_eq!(fs::read_dir(dir.path().join("tiny")).unwrap().count(), 3);
        fs::remove_file(&paths[0]).unwrap();
        assert_eq!(fetch(&entry, dir.path(), Fetch { sha256: Some(&sum), from: None }, &mut |_, _| {}).unwrap(), paths);
        assert!(paths[0].is_file());
    }

    #[test]
    fn an_archive_without_a_member_is_one_sentence() {
        let dir = tempfile::tempdir().unwrap();
        let (bytes, sum) = packed(&[("a.bin", "one")]);
        let entry = served(bytes, Some(&["a.bin", "b.txt"]), None);
        let said = fetch(&entry, dir.path(), Fetch { sha256: Some(&sum), from: None }, &mut |_, _| {})
            .unwrap_err()
            .to_string();
        assert!(said.contains("member b.txt: is not there"), "{said}");
    }
}
