//! `statefun state`, against a real application: this program plays it in a process of its own.

mod app;
mod importing;
mod kept;
mod live;
mod offline;
