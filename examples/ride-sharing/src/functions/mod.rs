//! The functions, a file each.

pub mod cell;
pub mod city;
pub mod driver;
pub mod journal;
pub mod passenger;
pub mod ride;
