//! Downloads that resume, are checked, and appear under their name only when they are right.
//!
//! Bytes collect in `NAME.part` beside the target. An interrupted download goes on from there; a finished one is checked
//! against its size and SHA-256, then renamed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// What to fetch and how to know that it is right.
#[derive(Clone, Debug)]
pub struct Download<'a> {
    /// The official address.
    pub url: &'a str,
    /// Where the file goes; its folder is made if need be.
    pub to: &'a Path,
    /// The SHA-256 of the whole file in hexadecimal.
    pub sha256: &'a str,
    /// Its size in bytes, where it is published.
    pub size: Option<u64>,
}

/// How far a download is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that are there.
    pub done: u64,
    /// Bytes of the whole file, where the server says.
    pub total: Option<u64>,
}

/// What [`download`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The right file was there; the network was not touched.
    Present,
    /// It was fetched from this byte on.
    Fetched {
        /// 0 for a fresh download.
        from: u64,
    },
}

/// Fetches a file unless the right one is there. `progress` is called after every piece.
///
/// # Errors
/// When the server cannot be reached or answers with an error (what is there stays for the next try), when the body ends
/// early (same), or when the finished file has the wrong size or checksum (it is removed). A file that stands at the
/// target with another checksum is refused, not replaced.
pub fn download(what: &Download, progress: &mut dyn FnMut(Progress)) -> Result<Outcome> {
    if what.to.exists() {
        let found = hash(what.to)?;
        if found.eq_ignore_ascii_case(what.sha256) {
            return Ok(Outcome::Present);
        }
        let found = format!("SHA-256 {found}, expected {}", what.sha256);
        return Err(Error::bad(what.to, "whole file", found, "remove it and fetch it again"));
    }
    if let Some(folder) = what.to.parent() {
        fs::create_dir_all(folder).map_err(|e| Error::os(folder, "create", e))?;
    }
    let part = part_of(what.to);
    let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&part);
    let mut file = open.map_err(|e| Error::os(&part, "open", e))?;
    file.try_lock().map_err(|e| Error::Os {
        path: part.clone(),
        what: "lock",
        source: e.into(),
        advice: "another process is fetching this file: wait for it".to_owned(),
    })?;
    let from = fetch(what, &mut file, progress)?;
    finish(what, file, &part)?;
    Ok(Outcome::Fetched { from })
}

fn part_of(to: &Path) -> PathBuf {
    let mut name = to.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    to.with_file_name(name)
}

fn agent(url: &str) -> ureq::Agent {
    let host = url.split("://").nth(1).unwrap_or(url);
    let mut config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .accept_encoding("identity")
        .timeout_connect(Some(Duration::from_secs(30)))
        .timeout_recv_response(Some(Duration::from_secs(60)))
        .timeout_per_read(Some(Duration::from_secs(60)));
    if ["127.0.0.1", "localhost", "[::1]"].iter().any(|local| host.starts_with(local)) {
        config = config.proxy(None);
    }
    config.build().into()
}

fn unreachable(url: &str, source: io::Error) -> Error {
    let advice = "check the network and the address, then run it again: it goes on where it stopped";
    Error::Os { path: PathBuf::from(url), what: "download", source, advice: advice.to_owned() }
}

/// Brings the part file to its full length; returns the byte from which it was fetched.
fn fetch(what: &Download, file: &mut File, progress: &mut dyn FnMut(Progress)) -> Result<u64> {
    let part = part_of(what.to);
    let os = |verb| move |e| Error::os(&part, verb, e);
    let have = file.seek(SeekFrom::End(0)).map_err(os.clone()("read"))?;
    if have > 0 && what.size == Some(have) {
        return Ok(have);
    }
    let mut request = agent(what.url).get(what.url);
    if have > 0 {
        request = request.header("Range", format!("bytes={have}-"));
    }
    let response = request.call().map_err(|e| unreachable(what.url, e.into_io()))?;
    let header = |name: &str| response.headers().get(name).and_then(|v| v.to_str().ok());
    let (from, total) = match response.status().as_u16() {
        200 => (0, response.body().content_length()),
        206 => {
            let range = header("content-range").and_then(content_range);
            match range {
                Some((start, total)) if start == have => (have, total),
                _ => return Err(answered(what, "206 with another range than was asked for")),
            }
        }
        // Nothing lies beyond what is there: it is complete, or it is not the same file. The checksum tells.
        416 if have > 0 => return Ok(have),
        status => return Err(answered(what, &status.to_string())),
    };
    file.set_len(from).and_then(|()| file.seek(SeekFrom::Start(from))).map_err(os.clone()("write"))?;
    let limit = what.size.or(total);
    let mut body = response.into_body().into_reader();
    let mut buffer = vec![0; 1 << 16];
    let mut done = from;
    loop {
        let n = match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(unreachable(what.url, e)),
        };
        file.write_all(&buffer[..n]).map_err(os.clone()("write"))?;
        done += n as u64;
        progress(Progress { done, total: limit });
        if limit.is_some_and(|limit| done > limit) {
            break;
        }
    }
    match limit {
        Some(limit) if done < limit => {
            let ended = format!("the connection ended after {done} of {limit} bytes");
            Err(unreachable(what.url, io::Error::new(io::ErrorKind::UnexpectedEof, ended)))
        }
        _ => Ok(from),
    }
}

fn answered(what: &Download, answer: &str) -> Error {
    let found = format!("the server of {} answered {answer}", what.url);
    Error::bad(what.to, "download", found, "check the address, or fetch the file by hand and put it here")
}

/// `bytes 100-199/200`: the first byte, and the size of the whole where it is known.
fn content_range(value: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    Some((start.parse().ok()?, total.parse().ok()))
}

fn finish(what: &Download, file: File, part: &Path) -> Result<()> {
    file.sync_all().map_err(|e| Error::os(part, "sync", e))?;
    let found = hash(part)?;
    if !found.eq_ignore_ascii_case(what.sha256) {
        fs::remove_file(part).map_err(|e| Error::os(part, "remove", e))?;
        let found = format!("SHA-256 {found} of what {} sent, expected {}", what.url, what.sha256);
        return Err(Error::bad(what.to, "whole file", found, "it was removed: fetch it again or from another mirror"));
    }
    fs::rename(part, what.to).map_err(|e| Error::os(what.to, "rename", e))
}

/// The SHA-256 of a file in hexadecimal.
///
/// # Errors
/// When it cannot be read.
pub fn hash(path: &Path) -> Result<String> {
    let mut hasher = Sha256::new();
    let copy = File::open(path).and_then(|mut file| io::copy(&mut file, &mut hasher));
    copy.map_err(|e| Error::os(path, "read", e))?;
    Ok(hasher.finalize().iter().map(|b| format!("{b:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;
    use std::thread::JoinHandle;

    use super::*;

    const BODY: &[u8] = &[42; 100_000];

    /// Answers one connection each with these bytes; returns the address and the request texts.
    fn server(answers: Vec<Vec<u8>>) -> (String, JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/data.bin", listener.local_addr().unwrap());
        let serve = move || {
            let answer = |bytes: Vec<u8>| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = String::new();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                while !request.ends_with("\r\n\r\n") && reader.read_line(&mut request).unwrap() > 0 {}
                // The client may hang up early when it has been sent too much.
                let _ = stream.write_all(&bytes);
                request.to_lowercase()
            };
            answers.into_iter().map(answer).collect()
        };
        (url, std::thread::spawn(serve))
    }

    fn reply(head: &str, body: &[u8]) -> Vec<u8> {
        [format!("HTTP/1.1 {head}\r\nConnection: close\r\n\r\n").as_bytes(), body].concat()
    }

    fn sha(bytes: &[u8]) -> String {
        Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
    }

    struct Case {
        _dir: tempfile::TempDir,
        to: PathBuf,
    }

    impl Case {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            Self { to: dir.path().join("new/data.bin"), _dir: dir }
        }

        fn get(&self, url: &str, sha256: &str) -> Result<Outcome> {
            download(&Download { url, to: &self.to, sha256, size: None }, &mut |_| {})
        }

        fn part(&self) -> Option<Vec<u8>> {
            fs::read(part_of(&self.to)).ok()
        }
    }

    #[test]
    fn a_file_arrives_once_with_progress() {
        let case = Case::new();
        let (url, requests) = server(vec![reply("200 OK\r\nContent-Length: 100000", BODY)]);
        let mut seen = Vec::new();
        let what = Download { url: &url, to: &case.to, sha256: &sha(BODY).to_uppercase(), size: Some(100_000) };
        assert_eq!(download(&what, &mut |p| seen.push(p)).unwrap(), Outcome::Fetched { from: 0 });
        assert_eq!(seen.last(), Some(&Progress { done: 100_000, total: Some(100_000) }));
        assert_eq!(download(&what, &mut |_| panic!("no network")).unwrap(), Outcome::Present);
        assert_eq!((fs::read(&case.to).unwrap().as_slice(), case.part()), (BODY, None));
        let requests = requests.join().unwrap();
        assert!(requests[0].starts_with("get /data.bin ") && !requests[0].contains("range:"), "{requests:?}");
    }

    #[test]
    fn a_truncated_body_is_said_and_the_next_run_goes_on() {
        let case = Case::new();
        let rest = "206 Partial Content\r\nContent-Range: bytes 40000-99999/100000\r\nContent-Length: 60000";
        let (url, requests) =
            server(vec![reply("200 OK\r\nContent-Length: 100000", &BODY[..40_000]), reply(rest, &BODY[40_000..])]);
        let said = case.get(&url, &sha(BODY)).unwrap_err().to_string();
        assert!(said.contains("cannot download") && said.ends_with("it goes on where it stopped"), "{said}");
        assert!(!case.to.exists());
        assert_eq!(case.part().unwrap().len(), 40_000);
        assert_eq!(case.get(&url, &sha(BODY)).unwrap(), Outcome::Fetched { from: 40_000 });
        assert_eq!(fs::read(&case.to).unwrap(), BODY);
        assert!(requests.join().unwrap()[1].contains("range: bytes=40000-\r\n"));
    }

    #[test]
    fn a_server_that_cannot_resume_starts_over() {
        let case = Case::new();
        let (url, _) = server(vec![
            reply("200 OK\r\nContent-Length: 100000", &BODY[..10]),
            reply("200 OK\r\nContent-Length: 100000", BODY),
        ]);
        assert!(case.get(&url, &sha(BODY)).is_err());
        assert_eq!(case.get(&url, &sha(BODY)).unwrap(), Outcome::Fetched { from: 0 });
        assert_eq!(fs::read(&case.to).unwrap(), BODY);
    }

    #[test]
    fn a_complete_part_is_only_checked() {
        let case = Case::new();
        fs::create_dir_all(case.to.parent().unwrap()).unwrap();
        fs::write(part_of(&case.to), BODY).unwrap();
        let (url, _) = server(vec![reply("416 Range Not Satisfiable\r\nContent-Length: 0", b"")]);
        assert_eq!(case.get(&url, &sha(BODY)).unwrap(), Outcome::Fetched { from: 100_000 });
    }

    #[test]
    fn a_wrong_checksum_removes_what_came() {
        let case = Case::new();
        let (url, _) = server(vec![reply("200 OK\r\nContent-Length: 3", b"bad")]);
        let said = case.get(&url, &sha(BODY)).unwrap_err().to_string();
        assert!(said.contains(&format!("whole file: SHA-256 {} of what", sha(b"bad"))), "{said}");
        assert!(!case.to.exists() && case.part().is_none());
    }

    #[test]
    fn a_wrong_file_at_the_target_is_not_replaced() {
        let case = Case::new();
        fs::create_dir_all(case.to.parent().unwrap()).unwrap();
        fs::write(&case.to, b"mine").unwrap();
        let said = case.get("http://127.0.0.1:1/x", &sha(BODY)).unwrap_err().to_string();
        assert!(said.contains("remove it and fetch it again"), "{said}");
        assert_eq!(fs::read(&case.to).unwrap(), b"mine");
    }

    #[test]
    fn a_body_beyond_the_published_size_is_cut_off() {
        let case = Case::new();
        let (url, _) = server(vec![reply("200 OK", &[BODY, BODY, BODY].concat())]);
        let what = Download { url: &url, to: &case.to, sha256: &sha(BODY), size: Some(1000) };
        let mut most = 0;
        assert!(matches!(download(&what, &mut |p| most = p.done), Err(Error::Bad { .. })));
        assert!(most <= 1000 + (1 << 16) && !case.to.exists() && case.part().is_none());
    }

    #[test]
    fn refusals_are_one_sentence() {
        let case = Case::new();
        let (url, _) = server(vec![
            reply("404 Not Found\r\nContent-Length: 2", b"no"),
            reply("206 Partial Content\r\nContent-Range: bytes 5-9/10\r\nContent-Length: 5", b"xxxxx"),
        ]);
        let said = case.get(&url, &sha(BODY)).unwrap_err().to_string();
        assert!(said.contains(&format!("the server of {url} answered 404; check the address")), "{said}");
        let said = case.get(&url, &sha(BODY)).unwrap_err().to_string();
        assert!(said.contains("another range"), "{said}");
        // A port that was free a moment ago and has no listener now.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let url = format!("http://127.0.0.1:{port}/x");
        let said = case.get(&url, &sha(BODY)).unwrap_err().to_string();
        assert!(said.starts_with(&format!("{url}: cannot download: ")) && said.contains("refused"), "{said}");
    }
}
