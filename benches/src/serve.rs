//! The line protocol, as `benches/peers/serve.py` speaks it: one command a line, one answer a line.

use crate::ask::{Ask, Least, Work};
use crate::{autoencoder, contrast, loading, networks, program, reading, sampling};
use anyhow::{Context, Result, bail};
use pentimento_io::{atomic, system};
use pentimento_torch_shim::{Bf16, bf16};
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;

/// Answers until `quit` or the end of the input. What goes wrong is an answer too, and the process lives on.
pub fn run(commands: impl BufRead, mut answers: impl Write) -> Result<()> {
    let mut work = None;
    for line in commands.lines() {
        let line = line?;
        if line.trim() == "quit" {
            break;
        }
        let answer = answer(line.trim(), &mut work).unwrap_or_else(|e| {
            let sentence: Vec<String> = format!("{e:#}").split_whitespace().map(String::from).collect();
            format!("error {}", sentence.join(" "))
        });
        writeln!(answers, "{answer}")?;
        answers.flush()?;
    }
    Ok(())
}

fn answer(line: &str, work: &mut Option<Box<dyn Work>>) -> Result<String> {
    let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
    match command {
        "setup" => {
            *work = None;
            let ask = serde_json::from_str::<Ask>(rest).context("setup")?.checked()?;
            tch::set_num_threads(ask.threads);
            *work = Some(make(&ask)?);
            let faster = bf16(ask.device()?) == Bf16::Faster;
            Ok(format!("ready {}", serde_json::json!({ "bf16_is_faster": faster })))
        }
        "least" => Ok(match work.as_ref().context("least before setup")?.least() {
            Some(Least { macs, bytes }) => format!("least {macs} {bytes}"),
            None => "least unknown".into(),
        }),
        "memory" => {
            let mib = work.as_ref().map_or_else(|| system::memory().peak_mib, |w| w.peak_mib());
            Ok(format!("peak {:.0}", mib * 1024.0))
        }
        "check" => {
            let values = work.as_mut().context("check before setup")?.check()?;
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            atomic::write_bytes(Path::new(rest), &bytes)?;
            Ok(format!("checked {}", values.len()))
        }
        "run" => {
            let work = work.as_mut().context("run before setup")?;
            let n: usize = rest.parse().with_context(|| format!("run {rest}: a number of iterations is needed"))?;
            let start = Instant::now();
            for _ in 0..n {
                work.run()?;
            }
            Ok(format!("seconds {}", start.elapsed().as_secs_f64()))
        }
        other => bail!("no command is called {other}"),
    }
}

fn make(ask: &Ask) -> Result<Box<dyn Work>> {
    Ok(match ask.work.as_str() {
        "dit_forward" => Box::new(networks::Forward::new(ask, networks::dit)?),
        "dit_train" => Box::new(networks::Train::new(ask, networks::dit)?),
        "unet_forward" => Box::new(networks::Forward::new(ask, networks::unet)?),
        "unet_train" => Box::new(networks::Train::new(ask, networks::unet)?),
        "ddim" => Box::new(sampling::Drawing::new(ask)?),
        "vae_train" | "pythae_train" => Box::new(autoencoder::Train::new(ask)?),
        "png_loader" => Box::new(loading::Loading::new(ask, "png")?),
        "idx_loader" => Box::new(loading::Loading::new(ask, "idx/MNIST/raw")?),
        "program_train" => Box::new(program::Program::new(ask, true)?),
        "program_picture" => Box::new(program::Program::new(ask, false)?),
        "view_loader" => Box::new(contrast::Seeing::new(ask)?),
        "byol_train" => Box::new(contrast::Byol::new(ask)?),
        "logistic" => Box::new(reading::Probe::new(ask)?),
        "frechet" => Box::new(reading::Distance::new(ask)?),
        other => bail!("no work is called {other}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn say(commands: &str) -> Vec<String> {
        let mut out = Vec::new();
        run(commands.as_bytes(), &mut out).unwrap();
        String::from_utf8(out).unwrap().lines().map(String::from).collect()
    }

    #[test]
    fn mistakes_are_answered_and_survived() {
        let said = say("run 1\nsetup {\"work\":\"x\"}\nwhat\nmemory\nquit\nmemory\n");
        assert_eq!(said.len(), 4, "{said:?}");
        assert_eq!(said[0], "error run before setup");
        assert!(said[1].starts_with("error setup: missing field `folder`"), "{}", said[1]);
        assert_eq!(said[2], "error no command is called what");
        let peak: f64 = said[3].strip_prefix("peak ").unwrap().parse().unwrap();
        assert!(peak > 1000.0);
    }

    /// A Frechet distance of two sets of features that differ by a shift of 2 in every column.
    #[test]
    fn a_work_is_set_up_checked_and_timed() {
        let folder = tempfile::tempdir().unwrap();
        let rows: Vec<f32> = (0..40).map(|i| ((i * 37 % 41) as f32).sin()).collect();
        let moved = rows.iter().map(|v| v + 2.0).collect();
        let array = |v| pentimento_io::Array::new(vec![10, 4], pentimento_io::Values::F32(v));
        let (a, b) = (array(rows), array(moved));
        let file = folder.path().join("features-10x4.safetensors");
        pentimento_io::safetensors::write(&file, &[("a", &a), ("b", &b)], &Default::default()).unwrap();
        let out = folder.path().join("checked");
        let ask = serde_json::json!({"work": "frechet", "folder": folder.path(), "size": {"items": 10, "width": 4}});
        let said = say(&format!("setup {ask}\ncheck {}\nrun 2\nleast\n", out.display()));
        assert_eq!(said[3], "least unknown");
        assert!(said[0].starts_with("ready {"), "{said:?}");
        assert_eq!(said[1], "checked 1");
        assert!(said[2].strip_prefix("seconds ").unwrap().parse::<f64>().unwrap() > 0.0);
        let value = f64::from_le_bytes(std::fs::read(out).unwrap().try_into().unwrap());
        assert!((value - 16.0).abs() < 1e-5, "{value}");
    }
}
