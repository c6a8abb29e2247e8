//! Generates `include/sendfd.h` from `sendfd-capi`; with `--check`, compares it instead.

use std::path::Path;
use std::process::ExitCode;

/// In the order in which the header shows them.
const SOURCES: [&str; 7] = [
    "port", "send", "receive", "listen", "probe", "detect", "text",
];

fn main() -> ExitCode {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let capi = top.join("sendfd-capi");
    let header = top.join("include/sendfd.h");
    let generated = match generate(&capi) {
        Ok(header) => header,
        Err(error) => {
            eprintln!("cannot generate the header: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = match std::env::args().nth(1).as_deref() {
        None => std::fs::write(&header, generated).map_err(|error| error.to_string()),
        Some("--check") => match std::fs::read(&header) {
            Ok(committed) if committed == generated.as_bytes() => Ok(()),
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

fn generate(capi: &Path) -> Result<String, String> {
    let mut config = cbindgen::Config::from_file(capi.join("cbindgen.toml"))?;
    config.after_includes = Some(macros());
    let mut builder = cbindgen::Builder::new().with_config(config);
    for source in SOURCES {
        builder = builder.with_src(capi.join("src").join(source).with_extension("rs"));
    }
    let bindings = builder.generate().map_err(|error| error.to_string())?;
    let mut header = Vec::new();
    bindings.write(&mut header);
    let header = String::from_utf8(header).map_err(|error| error.to_string())?;
    // C89 has no other comments than these.
    Ok(header
        .replace("// __cplusplus", "/* __cplusplus */")
        .replace("// extern \"C\"", "/* extern \"C\" */"))
}

/// What Rust has no words for.
fn macros() -> String {
    let version = env!("CARGO_PKG_VERSION");
    let [major, minor, patch] = [
        env!("CARGO_PKG_VERSION_MAJOR"),
        env!("CARGO_PKG_VERSION_MINOR"),
        env!("CARGO_PKG_VERSION_PATCH"),
    ];
    format!(
        r#"
/**
 * The version of this header. The library's, at run time, is sendfd_version().
 */
#define SENDFD_VERSION "{version}"
#define SENDFD_VERSION_MAJOR {major}
#define SENDFD_VERSION_MINOR {minor}
#define SENDFD_VERSION_PATCH {patch}

/**
 * A struct with its size set and all else zero, to start from:
 *     sendfd_options options = SENDFD_OPTIONS_INIT;
 */
#define SENDFD_OPTIONS_INIT {{sizeof(sendfd_options), 0, 0, 0, NULL, 0, 0, 0}}
#define SENDFD_RECEIVER_OPTIONS_INIT {{sizeof(sendfd_receiver_options), 0, 0, 0, NULL}}
#define SENDFD_MESSAGE_INIT \
    {{sizeof(sendfd_message), 0, 0, NULL, NULL, 0, 0, 0, 0, 0, 0, 0}}
#define SENDFD_SENDER_INIT {{sizeof(sendfd_sender), 0, 0, 0, 0, 0, 0}}
#define SENDFD_REPORT_INIT \
    {{sizeof(sendfd_report), 0, 0, {{{{0, 0, {{0}}}}, {{0, 0, {{0}}}}, {{0, 0, {{0}}}}}}}}
#define SENDFD_KIND_INIT {{sizeof(sendfd_kind), 0, 0, 0, 0, 0}}

/* A result that nobody looks at is a descriptor lost or an error overlooked. */
#if defined(__GNUC__)
#define SENDFD_MUST_USE __attribute__((warn_unused_result))
#else
#define SENDFD_MUST_USE
#endif"#
    )
}
