/// What a run tells whoever watches.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// Images seen and images planned.
    pub images: u64,
    /// Images planned.
    pub total: u64,
    /// Steps done.
    pub step: u64,
    /// Images per second over the last window.
    pub rate: f64,
    /// Mean loss over the last window.
    pub loss: f64,
    /// Seconds until the end at that rate.
    pub eta_s: f64,
    /// Resident memory now, MiB.
    pub memory_mib: f64,
    /// Largest resident memory so far, MiB.
    pub peak_mib: f64,
}

/// Receives progress and messages; decides whether to go on.
pub trait Monitor {
    /// Called every few steps.
    fn progress(&mut self, _p: &Progress) {}
    /// One line worth reading: a checkpoint written, a resume, a warning.
    fn say(&mut self, _line: &str) {}
    /// Asked after every step; true saves and ends the run in good order.
    fn stop(&mut self) -> bool {
        false
    }
}

/// Watches nothing.
#[derive(Debug, Default)]
pub struct Silent;

impl Monitor for Silent {}
