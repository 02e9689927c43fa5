//! Runs the application: `cargo run -p ride-sharing`, in this folder.

fn main() -> statefun::Exit {
    ride_sharing::app().main()
}
