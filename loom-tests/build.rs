//! Sets the flag that turns the shim into loom's, for this crate alone.

fn main() {
    println!("cargo:rustc-cfg=vellum_loom");
    println!("cargo:rerun-if-changed=build.rs");
}
