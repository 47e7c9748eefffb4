//! How well similarity ranks what belongs together: recall, precision and mean average precision of retrieval, ROC.

mod at_k;
mod average_precision;
mod rankings;
mod roc;

pub use rankings::Rankings;
pub use roc::roc_auc;
