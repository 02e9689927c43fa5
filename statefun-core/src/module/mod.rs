//! module.yaml and what an application says of itself: sources with spans, the model, and the checks.

pub mod description;
