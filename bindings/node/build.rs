//! Links the addon so that it loads in Node, and stays.

fn main() {
    napi_build::setup();
    // The core has registered fork handlers, and its thread may run: Node unloads an addon when the
    // last worker thread that loaded it ends, and their code must stay.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
