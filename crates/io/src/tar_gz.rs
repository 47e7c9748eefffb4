//! Known members out of a tar.gz.

use crate::atomic::write_bytes;
use crate::limits::Limits;
use crate::{Error, Result};
use flate2::read::GzDecoder;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Puts members, known by the last part of their name, into a folder; nothing else of the archive is written. Members that
/// are there already are left as they are.
///
/// # Errors
/// An archive that cannot be read, lacks a member, or declares one beyond the limit for arrays.
pub fn unpack(archive: &Path, members: &[&str], folder: &Path) -> Result<Vec<PathBuf>> {
    let paths: Vec<PathBuf> = members.iter().map(|m| folder.join(m)).collect();
    if paths.iter().all(|p| p.is_file()) {
        return Ok(paths);
    }
    let os = |e| Error::os(archive, "read", e);
    let mut tar = tar::Archive::new(GzDecoder::new(File::open(archive).map_err(os)?));
    for member in tar.entries().map_err(os)? {
        let member = member.map_err(os)?;
        let name = member.path().map_err(os)?.file_name().map(|n| n.to_string_lossy().into_owned());
        let Some(place) = members.iter().position(|m| name.as_deref() == Some(m)) else { continue };
        let (asked, limit) = (member.size(), Limits::STANDARD.array_bytes);
        if asked > limit {
            let (place, advice) = (format!("member {}", members[place]), "fetch the archive again".into());
            return Err(Error::TooLarge { path: archive.into(), place, asked, limit, advice });
        }
        let mut bytes = Vec::new();
        member.take(asked).read_to_end(&mut bytes).map_err(os)?;
        write_bytes(&paths[place], &bytes)?;
    }
    match members.iter().zip(&paths).find(|(_, p)| !p.is_file()) {
        Some((m, _)) => {
            Err(Error::bad(archive, format!("member {m}"), "is not there", "remove the archive and fetch it again"))
        }
        None => Ok(paths),
    }
}
