//! Templates are embedded by a macro, which does not see that a file was added or removed.

fn main() {
    println!("cargo::rerun-if-changed=templates");
}
