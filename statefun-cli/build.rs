//! Templates are embedded by a macro, which does not see that a file was added or removed.

fn main() {
    #[expect(
        clippy::print_stdout,
        reason = "this is how a build script speaks to cargo"
    )]
    {
        println!("cargo::rerun-if-changed=templates");
    }
}
