//! Sets the flag that turns the shim into shuttle's, for this crate alone.

fn main() {
    println!("cargo:rustc-cfg=vellum_shuttle");
    println!("cargo:rerun-if-changed=build.rs");
}
