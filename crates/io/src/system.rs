//! What the machine says of itself (memory, free disk, processor), and what the program asks of it.

use std::path::Path;

/// Memory of this process in MiB.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Memory {
    /// Resident now.
    pub now_mib: f64,
    /// The most that was ever resident.
    pub peak_mib: f64,
}

/// Memory of this process; zeros where the system does not tell.
pub fn memory() -> Memory {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mib = |key: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(key)).unwrap_or("");
        line.split_whitespace().next().and_then(|n| n.parse::<f64>().ok()).map_or(0.0, |kib| kib / 1024.0)
    };
    Memory { now_mib: mib("VmRSS:"), peak_mib: mib("VmHWM:") }
}

/// The most MiB that any one program launched from here, or from there in turn, ever held resident, of those that have ended.
pub fn launched_peak_mib() -> f64 {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: `usage` has the size that the call fills in when it returns 0.
    let kib = unsafe {
        if libc::getrusage(libc::RUSAGE_CHILDREN, usage.as_mut_ptr()) != 0 {
            return 0.0;
        }
        usage.assume_init().ru_maxrss
    };
    kib as f64 / 1024.0
}

/// Lets the allocator keep what large arrays free instead of returning it to the system page by page: every step of training
/// allocates the same sizes again, and page faults would cost a large share of it. For the start of a program.
pub fn keep_freed_memory() {
    // SAFETY: sets two tunables of the allocator; it locks itself.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 30);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
    }
}

/// Memory of the whole machine in MiB: (installed, available).
pub fn machine_memory() -> (f64, f64) {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let mib = |key: &str| {
        let line = info.lines().find_map(|l| l.strip_prefix(key)).unwrap_or("");
        line.split_whitespace().next().and_then(|n| n.parse::<f64>().ok()).map_or(0.0, |kib| kib / 1024.0)
    };
    (mib("MemTotal:"), mib("MemAvailable:"))
}

/// Name of the processor, or "unknown".
pub fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find(|l| l.starts_with("model name")).and_then(|l| l.split_once(':'));
    name.map_or("unknown".into(), |(_, n)| n.trim().into())
}

/// Free bytes on the file system of a path (or of its nearest existing parent); None where the system does not tell.
pub fn free_bytes(path: &Path) -> Option<u64> {
    use std::os::unix::ffi::OsStrExt;
    let existing = path.ancestors().find(|p| p.exists()).unwrap_or(Path::new("."));
    let existing = if existing.as_os_str().is_empty() { Path::new(".") } else { existing };
    let name = std::ffi::CString::new(existing.as_os_str().as_bytes()).ok()?;
    let mut stat = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: `name` is NUL-terminated and `stat` has the size that the call fills in when it returns 0.
    let stat = unsafe {
        if libc::statvfs(name.as_ptr(), stat.as_mut_ptr()) != 0 {
            return None;
        }
        stat.assume_init()
    };
    Some(stat.f_bavail * stat.f_frsize)
}

/// Path of a shared library of this process whose file name starts with `name`.
pub fn loaded_library(name: &str) -> Option<String> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let path = |l: &str| l.split_whitespace().last().map(str::to_owned);
    maps.lines().filter_map(path).find(|p| p.rsplit('/').next().is_some_and(|f| f.starts_with(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_answers() {
        assert!(std::process::Command::new("true").status().unwrap().success());
        assert!((0.1..1000.0).contains(&launched_peak_mib()), "{}", launched_peak_mib());
        let m = memory();
        assert!(m.now_mib > 0.5 && m.peak_mib >= m.now_mib * 0.9, "{m:?}");
        assert!(machine_memory().0 > 100.0);
        assert!(free_bytes(&std::env::temp_dir().join("not/there")).is_some_and(|b| b > 0));
    }
}
