//! Every method shows its claim: arms trained under the same budget over paired seeds, one predicate fixed beforehand, a
//! verdict that can be negative, and a file of evidence that nobody writes by hand.
//!
//! [`Method`] is what a page of the catalogue gives; [`Claim`] its arms; [`Case::run`] runs them until the rule of
//! [`verdict`] has decided and writes the [`Evidence`].

#![cfg_attr(
    test,
    allow(
        clippy::float_cmp,
        clippy::cast_possible_truncation,
        reason = "exact checks compare exactly, on numbers they chose"
    )
)]

#[cfg(test)]
mod checks;
mod context;
mod error;
mod evidence;
mod factors;
mod harness;
mod judge;
mod lesson;
mod method;
mod page;
mod recipe;
pub mod revision;
mod sets;
#[cfg(test)]
mod simulation;
mod store;
mod testing;
pub mod verdict;

pub use context::{Context, features, labels, probe_batches, probe_codes};
pub use error::Error;
pub use evidence::{Cell, Evidence, FORMAT_VERSION, Found};
pub use factors::{FACTORS, FactorCodes, FactorTests};
pub use harness::{Case, Estimate, Options, Outcome, Trial, Watch, picture_path};
pub use judge::{Judge, JudgeConfig, Seen};
pub use lesson::{LearnedModel, Lesson, Trainable, Trainer, middle, parameters};
pub use method::{Arm, Card, Claim, HEADINGS, Method, Metrics, Picture, Run};
pub use page::{gallery, page, summary};
pub use recipe::{Budget, Predicate, Recipe, Setting, settings};
pub use revision::Fixed;
pub use sets::{Opened, Sets, part};
pub use store::{Store, key};
pub use testing::{noised, noisy, try_run, try_step};
pub use verdict::{Direction, Interval, Judgement, Kind, LOOKS, Rule, Scale, Verdict};
