//! The attributes and derives of statefun.
