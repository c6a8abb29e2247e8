//! Generates `include/sendfd.h` from `sendfd-capi`; with `--check`, compares it instead.

use std::path::Path;
use std::process::ExitCode;

/// In the order in which the header shows them.
const SOURCES: [&str; 5] = ["send", "receive", "listen", "probe", "text"];

fn main() -> ExitCode {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let capi = top.join("sendfd-capi");
    let header = top.join("include/sendfd.h");
    let mut generated = Vec::new();
    match generate(&capi) {
        Ok(bindings) => bindings.write(&mut generated),
        Err(error) => {
            eprintln!("cannot generate the header: {error}");
            return ExitCode::FAILURE;
        }
    }
    let result = match std::env::args().nth(1).as_deref() {
        None => std::fs::write(&header, generated).map_err(|error| error.to_string()),
        Some("--check") => match std::fs::read(&header) {
            Ok(committed) if committed == generated => Ok(()),
            Ok(_) => Err("it differs from what sendfd-capi says: run `make header`".into()),
            Err(error) => Err(error.to_string()),
        },
        Some(other) => Err(format!("unknown argument {other}")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("include/sendfd.h: {error}");
            ExitCode::FAILURE
        }
    }
}

fn generate(capi: &Path) -> Result<cbindgen::Bindings, String> {
    let config = cbindgen::Config::from_file(capi.join("cbindgen.toml"))?;
    let mut builder = cbindgen::Builder::new().with_config(config);
    for source in SOURCES {
        builder = builder.with_src(capi.join("src").join(source).with_extension("rs"));
    }
    builder.generate().map_err(|error| error.to_string())
}
