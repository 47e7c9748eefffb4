//! From recipe to plan to run: what is typed is checked once, before the first tensor; the loop trains any `Learner`,
//! averages, logs, draws, saves, and continues bit for bit after an interruption.

#![cfg_attr(
    test,
    allow(
        clippy::float_cmp,
        clippy::cast_possible_truncation,
        reason = "exact checks compare exactly, on numbers they chose"
    )
)]

mod checkpoint;
mod course;
mod draw;
mod ema;
mod error;
mod folder;
mod import;
mod judge;
mod model;
mod monitor;
mod plan;
mod probe;
mod read;
mod recipe;
mod report;
mod schedule;
mod script;
mod table;
mod training;

pub use checkpoint::{Checkpoint, FORMAT_VERSION, Meta, Window, machine, migrate};
pub use course::{Course, Diary, State, Walked, walk};
pub use draw::{Drawing, Drawn, Lowered, Model, PictureText, bytes, class_of, default_out, is_run};
pub use ema::Ema;
pub use error::Error;
pub use folder::{Kept, RunFolder};
pub use import::{Classes, Imported, InputTable, Sheet, import};
pub use judge::{Judgement, SweepPoint, judge, read_judgement};
pub use model::{Learned, learner};
pub use monitor::{Monitor, Progress, Silent};
pub use plan::{Options, Parts, Plan, Signature, class_named, parse_device};
pub use probe::{Place, ProbeReport, ProbeRow, probe_features, probe_run, resolve, usual};
pub use read::{Ask, Pool, ReadOptions, Readings, encode, features_of, open_fitted, open_for};
pub use recipe::{DataTable, DiffusionTable, JudgeTable, Precision, Recipe, SampleTable, Schedule, TrainTable, apply};
pub use report::{read_probes, write_report};
pub use schedule::{ema_weight, learning_rate};
pub use script::{Range, Script};
pub use table::{Beside, features_table, learner_table, untrained};
pub use training::{Ending, Job, Painter, train};
