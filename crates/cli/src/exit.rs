//! How the program ends: one sentence on stderr and a code.

use pentimento_claims::Error as Claims;
use pentimento_train::Error;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::sync::Mutex;

/// What a sub-command returns: a code, or an error to print.
pub type Outcome = anyhow::Result<ExitCode>;

/// Done.
pub const DONE: ExitCode = ExitCode::SUCCESS;
/// The work was done and its result is negative.
pub const NEGATIVE: ExitCode = ExitCode::FAILURE;
/// Wrong usage or unusable input.
pub const USAGE_CODE: u8 = 2;
/// The machine, its disk or its devices.
pub const MACHINE_CODE: u8 = 3;
/// Interrupted in good order; the same command continues.
pub const INTERRUPTED_CODE: u8 = 4;

/// Prints an error as one line with its causes.
#[expect(clippy::print_stderr, reason = "the one place where errors reach a person")]
pub fn guard(work: impl FnOnce() -> Outcome) -> ExitCode {
    static PANIC: Mutex<String> = Mutex::new(String::new());
    std::panic::set_hook(Box::new(|info| {
        if let Ok(mut text) = PANIC.lock()
            && text.is_empty()
        {
            *text = info.to_string().lines().collect::<Vec<_>>().join(" ");
        }
    }));
    match std::panic::catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(code)) => code,
        Ok(Err(e)) => {
            eprintln!("error: {}", chain(&e));
            ExitCode::from(code_of(&e))
        }
        Err(_) => {
            let text = PANIC.lock().map(|t| t.clone()).unwrap_or_default();
            if text.contains("can't allocate memory") {
                eprintln!("error: the machine has not enough memory for this; take smaller sizes or a smaller batch");
                return ExitCode::from(MACHINE_CODE);
            }
            eprintln!("error: a defect of pentimento, please report it with the command you typed: {text}");
            ExitCode::from(MACHINE_CODE)
        }
    }
}

/// Messages from the outside in, each once.
fn chain(e: &anyhow::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    for cause in e.chain() {
        let text = cause.to_string();
        if !parts.iter().any(|p| p.contains(&text)) {
            parts.push(text);
        }
    }
    parts.join(": ")
}

/// 3 where the system refused, 2 where the input is at fault.
fn code_of(e: &anyhow::Error) -> u8 {
    let machine = e.chain().any(|cause| {
        let system = matches!(system_error(cause), Some(pentimento_io::Error::Os { source, .. }) if source.kind() != std::io::ErrorKind::NotFound);
        system || matches!(run_error(cause), Some(Error::Device { .. } | Error::NonFinite { .. }))
    });
    if machine { MACHINE_CODE } else { USAGE_CODE }
}

/// The error of a run that a cause is, or that a claim passes on.
fn run_error<'a>(cause: &'a (dyn std::error::Error + 'static)) -> Option<&'a Error> {
    match cause.downcast_ref::<Claims>() {
        Some(Claims::Train(e)) => Some(e),
        _ => cause.downcast_ref(),
    }
}

/// The file error that a cause is or passes on: errors that pass one on do not list it among their causes.
fn system_error<'a>(cause: &'a (dyn std::error::Error + 'static)) -> Option<&'a pentimento_io::Error> {
    if let Some(Claims::Io(e) | Claims::Data(pentimento_data::Error::Io(e))) = cause.downcast_ref::<Claims>() {
        return Some(e);
    }
    match run_error(cause) {
        Some(Error::Io(e) | Error::Data(pentimento_data::Error::Io(e))) => Some(e),
        _ => match cause.downcast_ref::<pentimento_data::Error>() {
            Some(pentimento_data::Error::Io(e)) => Some(e),
            _ => cause.downcast_ref(),
        },
    }
}
