//! Runs the C and C++ programs in `c/` against the library as `make build` leaves it and as
//! `make install` puts it, and compares the header, the symbol map and the library.
//!
//! What cannot run here is skipped by name, and fails if `SENDFD_TEST_REQUIRE` has that name
//! (`asan`, `clang`, `cmake`, `gcc`, `mandoc`, `pidfd`, `valgrind`). An argument picks the tests whose
//! names contain it. What passes is said with `V=1`.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Output, Stdio};
use std::time::Duration;

use sendfd_core::{SendOptions, Wait};

/// How a program says that it was skipped. Its output says why.
const SKIPPED: i32 = 77;
const WARNINGS: [&str; 4] = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"];
const PATIENCE: Duration = Duration::from_secs(30);

/// A failure is a panic; a skip begins with the name of what is missing.
enum Outcome {
    Passed,
    Skipped(String),
}
use Outcome::{Passed, Skipped};

type Test = (&'static str, fn() -> Outcome);

const TESTS: &[Test] = &[
    ("header_is_current", header_is_current),
    ("compiles_with_gcc", || compiles_with("gcc", "g++")),
    ("compiles_with_clang", || compiles_with("clang", "clang++")),
    ("names_have_the_prefix", names_have_the_prefix),
    ("map_header_and_library_agree", map_header_and_library_agree),
    ("library_is_hardened", library_is_hardened),
    (
        "every_function_has_the_boundary",
        every_function_has_the_boundary,
    ),
    ("errno_tables_agree", errno_tables_agree),
    ("examples_of_readmes_compile", examples_of_readmes_compile),
    ("bad_input", || program("bad_input.c", &[])),
    ("older_caller", || program("older_caller.c", &[])),
    ("newer_caller", || program("newer_caller.c", &[])),
    ("retire", || program("retire.c", &[])),
    ("two_copies", || {
        let library = library().display().to_string();
        program("two_copies.c", &[&library])
    }),
    ("fork_handlers", || program("fork_handlers.c", &[])),
    ("fork_in_close", || program("fork_in_close.c", &[])),
    ("data", || program("data.c", &[])),
    ("flat", || program("flat.c", &[])),
    ("two_processes", || program("two_processes.c", &[])),
    ("recv_many_pidfd", || program("recv_many.c", &["pidfd"])),
    ("recv_many_name", || program("recv_many.c", &["name"])),
    ("too_small", || program("too_small.c", &[])),
    ("errors", || program("errors.c", &[])),
    ("listen_handler", || program("listen.c", &["handler"])),
    ("listen_sigwaitinfo", || {
        program("listen.c", &["sigwaitinfo"])
    }),
    ("listen_signalfd", || program("listen.c", &["signalfd"])),
    ("owners", || program("owners.cpp", &[])),
    ("allocations", || program("cost.c", &["allocations"])),
    ("calls", || program("cost.c", &["calls"])),
    ("no_memory_left", || program("no_memory.c", &["left"])),
    ("no_memory_at_once", || program("no_memory.c", &["nth"])),
    ("no_memory_for_a_moment", || {
        program("no_memory.c", &["once"])
    }),
    ("bad_input_by_name", || by_name("bad_input.c", &[])),
    ("older_caller_by_name", || by_name("older_caller.c", &[])),
    ("newer_caller_by_name", || by_name("newer_caller.c", &[])),
    ("retire_by_name", || by_name("retire.c", &[])),
    ("data_by_name", || by_name("data.c", &[])),
    ("flat_by_name", || by_name("flat.c", &[])),
    ("nothing_grows", || program("million.c", &["100000"])),
    ("fuzz", || program("fuzz.c", &["1", "60000"])),
    ("fuzz_by_name", || by_name("fuzz.c", &["2", "60000"])),
    ("memory_fuzz", || memory("fuzz.c", &["3", "3000"])),
    ("sanitized_bad_input", || sanitized("bad_input.c", &[])),
    ("sanitized_older_caller", || {
        sanitized("older_caller.c", &[])
    }),
    ("sanitized_too_small", || sanitized("too_small.c", &[])),
    ("sanitized_errors", || sanitized("errors.c", &[])),
    ("sanitized_two_processes", || {
        sanitized("two_processes.c", &[])
    }),
    ("sanitized_owners", || sanitized("owners.cpp", &[])),
    ("sanitized_fuzz", || sanitized("fuzz.c", &["4", "20000"])),
    ("older_programs_newer_library", older_programs_newer_library),
    ("newer_programs_older_library", newer_programs_older_library),
    ("too_small_by_name", || by_name("too_small.c", &[])),
    ("errors_by_name", || by_name("errors.c", &[])),
    ("listen_by_name", || by_name("listen.c", &["sigwaitinfo"])),
    ("owners_by_name", || by_name("owners.cpp", &[])),
    ("allocations_by_name", || {
        by_name("cost.c", &["allocations"])
    }),
    ("no_memory_by_name", || by_name("no_memory.c", &["nth"])),
    ("calls_by_name", || by_name("cost.c", &["calls"])),
    ("memory_bad_input", || memory("bad_input.c", &[])),
    ("memory_older_caller", || memory("older_caller.c", &[])),
    ("memory_newer_caller", || memory("newer_caller.c", &[])),
    ("memory_retire", || memory("retire.c", &[])),
    ("memory_data", || memory("data.c", &[])),
    ("memory_flat", || memory("flat.c", &[])),
    ("memory_too_small", || memory("too_small.c", &[])),
    ("memory_recv_many", || memory("recv_many.c", &["name"])),
    ("memory_owners", || memory("owners.cpp", &[])),
    ("worker_answers_http", worker_answers_http),
    ("examples_in_cpp", examples_in_cpp),
    ("installed_in_a_prefix", installed_in_a_prefix),
    ("found_by_cmake", found_by_cmake),
    ("installed_without_rights", installed_without_rights),
    ("staged_for_a_distribution", staged_for_a_distribution),
    ("pages_are_clean", pages_are_clean),
    ("pages_name_every_function", pages_name_every_function),
    ("examples_of_pages_compile", examples_of_pages_compile),
];

fn main() -> ExitCode {
    let wanted = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with('-'));
    // `V=1` and a test picked by its name say what goes well, too.
    let loud = wanted.is_some() || std::env::var("V").is_ok_and(|value| value == "1");
    make(&["build", "examples"]);
    let (mut passed, mut skipped, mut failed) = (0, Vec::new(), Vec::new());
    for (name, test) in TESTS {
        if wanted.as_ref().is_some_and(|part| !name.contains(part)) {
            continue;
        }
        if loud {
            print!("test {name} ... ");
            let _ = std::io::stdout().flush();
        }
        match std::panic::catch_unwind(test) {
            Ok(Passed) => {
                if loud {
                    println!("ok");
                }
                passed += 1;
            }
            Ok(Skipped(reason)) if is_required(&reason) => {
                println!("{name} FAILED: SENDFD_TEST_REQUIRE asks for what is missing: {reason}");
                failed.push(*name);
            }
            Ok(Skipped(reason)) => {
                println!("{name} skipped: {reason}");
                skipped.push(*name);
            }
            Err(_) => {
                println!("{name} FAILED");
                failed.push(*name);
            }
        }
    }
    println!(
        "{passed} passed, {} skipped {skipped:?}, {} failed {failed:?}",
        skipped.len(),
        failed.len()
    );
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn is_required(reason: &str) -> bool {
    let required = std::env::var("SENDFD_TEST_REQUIRE").unwrap_or_default();
    let name = reason.split(':').next().unwrap_or(reason).trim();
    required.split(',').any(|word| word.trim() == name)
}

// The header, the map, the library

fn header_is_current() -> Outcome {
    make(&["check-header"]);
    Passed
}

/// The header by itself, and the examples.
fn compiles_with(c: &str, cpp: &str) -> Outcome {
    if !exists(c) || !exists(cpp) {
        return Skipped(format!("{c}: it is not installed, or {cpp} is not"));
    }
    let scratch = scratch();
    let check = |compiler: &str, standard: &str, header: &str, times: usize| {
        let kind = if standard.starts_with("c++") {
            "cpp"
        } else {
            "c"
        };
        let source = scratch.path().join("only").with_extension(kind);
        let include = format!("#include <{header}>\n").repeat(times);
        // An empty translation unit is not C.
        fs::write(&source, include + "int used;\n").expect("a source");
        run(Command::new(compiler)
            .arg(format!("-std={standard}"))
            .args(WARNINGS)
            .arg("-fsyntax-only")
            .arg(include_flag())
            .arg(&source));
    };
    let examples = |compiler: &str, standard: &str, names: &[&str]| {
        for name in names {
            run(Command::new(compiler)
                .arg(format!("-std={standard}"))
                .args(WARNINGS)
                .arg("-fsyntax-only")
                .arg(include_flag())
                .arg(capi().join("../examples").join(name)));
        }
    };
    // In C89, too, whose compilers take it as ISO C with not a warning.
    for standard in ["c89", "c99", "c11", "c23"] {
        run(Command::new(c)
            .arg(format!(
                "-std={}",
                if standard == "c23" { "c2x" } else { standard }
            ))
            .args(WARNINGS)
            .arg("-fsyntax-only")
            .arg(include_flag())
            .arg(capi().join("tests/c/c89.c")));
    }
    examples(c, "c11", &["pool/worker.c"]);
    examples(cpp, "c++17", &["send.cpp", "receive.cpp"]);
    for times in [1, 2] {
        for standard in ["c11", "c17"] {
            check(c, standard, "sendfd.h", times);
        }
        for standard in ["c++17", "c++20"] {
            check(cpp, standard, "sendfd.h", times);
            check(cpp, standard, "sendfd.hpp", times);
        }
    }
    Passed
}

/// Nothing of the header can collide with a program's own names, and nothing of Rust shows.
fn names_have_the_prefix() -> Outcome {
    let text = fs::read_to_string(header()).expect("the header");
    for rust in ["[`", "# Safety", "# Errors", "::", "crate"] {
        assert!(!text.contains(rust), "{rust:?} leaked into the header");
    }
    // What the compiler knows after the header and did not know before it.
    let macros = |include: &str| -> BTreeSet<String> {
        let scratch = scratch();
        let source = scratch.path().join("macros.c");
        let system = "#include <stddef.h>\n#include <stdint.h>\n#include <sys/types.h>\n";
        fs::write(&source, format!("{system}{include}")).expect("a source");
        let output = run(Command::new("cc")
            .args(["-E", "-dM"])
            .arg(include_flag())
            .arg(&source));
        let name = |line: &str| line.split([' ', '(']).nth(1).map(str::to_owned);
        stdout(&output).lines().filter_map(name).collect()
    };
    let ours = &macros("#include <sendfd.h>\n") - &macros("");
    assert!(ours.contains("SENDFD_MAX_FDS") && ours.contains("SENDFD_PATH_NAME"));
    for name in &ours {
        assert!(name.starts_with("SENDFD_"), "the macro {name}");
    }
    for name in functions().iter().chain(&types()) {
        assert!(
            name == "sendfd" || name.starts_with("sendfd_"),
            "the name {name}"
        );
    }
    Passed
}

fn map_header_and_library_agree() -> Outcome {
    let map = fs::read_to_string(capi().join("libsendfd.map")).expect("the map");
    let names: BTreeSet<String> = map
        .lines()
        .filter_map(|line| line.trim().strip_suffix(';'))
        .filter(|name| name.starts_with("sendfd"))
        .map(str::to_owned)
        .collect();
    assert_eq!(names, functions());

    let nm = run(Command::new("nm")
        .args(["-D", "--defined-only", "--with-symbol-versions"])
        .arg(library()));
    let exported: BTreeSet<String> = stdout(&nm)
        .lines()
        .filter_map(|line| line.split_whitespace().nth(2))
        .filter(|name| *name != "SENDFD_0.1")
        .map(str::to_owned)
        .collect();
    let expected = names.iter().map(|name| format!("{name}@@SENDFD_0.1"));
    assert_eq!(exported, expected.collect());

    let nm = run(Command::new("nm")
        .args(["-g", "--defined-only"])
        .arg(build().join("lib/libsendfd.a")));
    let of_archive = stdout(&nm);
    let of_archive = of_archive
        .lines()
        .filter_map(|line| line.split_whitespace().nth(2));
    assert_eq!(
        of_archive.map(str::to_owned).collect::<BTreeSet<_>>(),
        names
    );
    Passed
}

fn library_is_hardened() -> Outcome {
    let dynamic = stdout(&run(Command::new("readelf").arg("-dW").arg(library())));
    assert!(dynamic.contains("soname: [libsendfd.so.0]"), "{dynamic}");
    assert!(dynamic.contains("BIND_NOW") && dynamic.contains("NODELETE"));
    assert!(!dynamic.contains("TEXTREL"));
    let segments = stdout(&run(Command::new("readelf").arg("-lW").arg(library())));
    assert!(segments.contains("GNU_RELRO"), "{segments}");
    Passed
}

/// Each `extern "C"` function consists of the boundary and what is inside it.
fn every_function_has_the_boundary() -> Outcome {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(capi().join("src")).expect("the sources") {
        let text = fs::read_to_string(entry.expect("a source").path()).expect("a source");
        let public = text
            .split("#[unsafe(no_mangle)]")
            .skip(1)
            .map(|rest| rest.split("\n}").next().unwrap_or(rest));
        for function in public {
            let name = function
                .split("fn ")
                .nth(1)
                .and_then(|rest| rest.split('(').next())
                .expect("a name");
            let (_, body) = function.split_once("{\n").expect("a body");
            let statements = body
                .lines()
                .filter(|line| line.starts_with("    ") && !line[4..].starts_with([' ', '}']));
            let body = body.trim();
            assert!(
                (body.starts_with("status(||") || body.starts_with("boundary("))
                    && body.ends_with(')')
                    && statements.count() == 1,
                "{name} does more than its boundary"
            );
            found.insert(name.to_owned());
        }
    }
    assert_eq!(found, functions());
    Passed
}

/// The names in `text` that are an errno's after one of `starts`.
fn errnos(text: &str, starts: &[&str]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for start in starts {
        for rest in text.split(start).skip(1) {
            let name = rest.split(|c: char| !c.is_ascii_uppercase()).next();
            let name = name.filter(|name| name.len() > 2);
            found.extend(name.map(|name| format!("E{name}")));
        }
    }
    found
}

/// The header, the README, the pages and `sendfd_strerror` know the same errors, and no less than the
/// library answers with.
fn errno_tables_agree() -> Outcome {
    let text = |path: &str| fs::read_to_string(capi().join(path)).expect("a text");
    let header = errnos(&text("../include/sendfd.h"), &[" -E"]);
    let readme = text("../README.md");
    let (_, table) = readme.split_once("| errno | when |").expect("a table");
    let (table, _) = table.split_once("\n\n").expect("its end");
    let first = table.lines().filter_map(|line| line.split('|').nth(1));
    let readme = errnos(&first.collect::<String>(), &[" E"]);
    assert_eq!(header, readme, "the header, and the README's table");

    let described = errnos(&text("src/text.rs"), &["libc::E"]);
    let tests_own = BTreeSet::from(["ESRCH".to_owned()]);
    assert_eq!(
        &described | &tests_own,
        header,
        "sendfd_strerror, and the header"
    );

    let of_pages = pages()
        .iter()
        .flat_map(|page| errnos(&fs::read_to_string(page).expect("a page"), &["Er E", ", E"]))
        .collect();
    assert_eq!(header, of_pages, "the header, and the pages");

    let core = text("../sendfd-core/src/error.rs");
    let (_, causes) = core
        .split_once("fn errno(self)")
        .expect("the errno of a cause");
    let (causes, _) = causes.split_once("\n    }\n").expect("its end");
    let core = errnos(causes, &["Errno::"]);
    assert!(core.len() > 8, "{core:?}");
    let unknown: Vec<_> = core.difference(&header).collect();
    assert!(unknown.is_empty(), "the header does not know {unknown:?}");
    Passed
}

/// The blocks in C of the READMEs, each a whole source; what the table of languages says of C is there.
fn examples_of_readmes_compile() -> Outcome {
    let scratch = scratch();
    for readme in ["README.md", "../README.md"] {
        let text = fs::read_to_string(capi().join(readme)).expect("a README");
        for (index, block) in text.split("```c\n").skip(1).enumerate() {
            let (block, _) = block.split_once("```").expect("its end");
            let source = scratch.path().join(format!("{index}.c"));
            fs::write(&source, block).expect("a source");
            run(compiler(&source)
                .arg("-fsyntax-only")
                .arg("-D_POSIX_C_SOURCE=200809L")
                .arg(include_flag())
                .arg(&source));
        }
        let named = text.split('`').filter(|word| {
            word.starts_with("sendfd_") && word.chars().all(|c| c.is_ascii_lowercase() || c == '_')
        });
        for name in named.filter(|name| !name.ends_with('_')) {
            assert!(functions().contains(name), "{readme} names {name}");
        }
    }
    Passed
}

/// The functions that the header declares.
fn functions() -> BTreeSet<String> {
    let text = fs::read_to_string(header()).expect("the header");
    let declared = |line: &str| {
        let (before, _) = line.split_once('(')?;
        let starts_a_line = !before.starts_with([' ', '#', '/']);
        let name = before.rsplit([' ', '*']).next()?;
        (starts_a_line && before.contains(' ')).then(|| name.to_owned())
    };
    text.lines().filter_map(declared).collect()
}

/// The types that the header defines.
fn types() -> BTreeSet<String> {
    let text = fs::read_to_string(header()).expect("the header");
    let defined = |line: &str| {
        let ends = line.ends_with(';') && (line.starts_with("} ") || line.starts_with("typedef"));
        let name = line.trim_end_matches(';').rsplit(' ').next()?;
        ends.then(|| name.to_owned())
    };
    let types: BTreeSet<String> = text.lines().filter_map(defined).collect();
    assert_eq!(types.len(), 9, "{types:?}");
    types
}

// Programs and libraries of different releases

/// The structs that grow.
const GROWING: [&str; 6] = [
    "sendfd_options",
    "sendfd_receiver_options",
    "sendfd_message",
    "sendfd_sender",
    "sendfd_report",
    "sendfd_kind",
];

/// What is run across releases, in this process and across two.
const ACROSS: [(&str, &[&str]); 7] = [
    ("older_caller.c", &[]),
    ("newer_caller.c", &[]),
    ("two_processes.c", &[]),
    ("recv_many.c", &["name"]),
    ("too_small.c", &[]),
    ("errors.c", &[]),
    ("flat.c", &[]),
];

/// The text of a source with `field` at the end of each of `GROWING` in it.
fn grown(text: &str, start: &str, field: &str) -> String {
    let mut text = text.to_owned();
    for name in GROWING {
        if let Some(start) = text.find(&format!("{start} {name} {{\n")) {
            let end = start + text[start..].find("\n}").expect("its end") + 1;
            text.insert_str(end, field);
        }
    }
    text
}

/// The library of a release in which every struct has one field more, built from these sources.
fn older_programs_newer_library() -> Outcome {
    let newer = build().join("newer");
    let top = capi().join("..").canonicalize().expect("the top");
    fs::create_dir_all(newer.join("src")).expect("a directory");
    let mut changed = 0;
    for entry in fs::read_dir(capi().join("src")).expect("the sources") {
        let source = entry.expect("a source");
        let text = fs::read_to_string(source.path()).expect("a source");
        let text = grown(&text, "pub struct", "    pub added: u64,\n");
        changed += text.matches("pub added: u64,\n}").count();
        // What constructs one names its fields; the new one is zero.
        fs::write(newer.join("src").join(source.file_name()), text).expect("a copy");
    }
    assert_eq!(changed, GROWING.len());
    let manifest = format!(
        "[workspace]\n[package]\nname = \"sendfd-capi\"\nversion = \"{}\"\nedition = \"2024\"\n\
         [lib]\ncrate-type = [\"cdylib\"]\n\
         [dependencies]\nlibc = \"0.2\"\nsendfd-core = {{ path = \"{}\" }}\n",
        env!("CARGO_PKG_VERSION"),
        top.join("sendfd-core").display()
    );
    fs::write(newer.join("Cargo.toml"), manifest).expect("a manifest");
    fs::copy(top.join("Cargo.lock"), newer.join("Cargo.lock")).expect("the lock file");
    run(Command::new(env!("CARGO"))
        .args(["build", "-q", "--offline", "--manifest-path"])
        .arg(newer.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(newer.join("target")));
    let lib = newer.join("lib");
    fs::create_dir_all(&lib).expect("a directory");
    fs::copy(
        newer.join("target/debug/libsendfd_capi.so"),
        lib.join("libsendfd.so.0"),
    )
    .expect("the library");

    for (source, arguments) in ACROSS {
        let scratch = scratch();
        let binary = compile(source, scratch.path());
        outcome(
            Command::new(binary)
                .args(arguments)
                .env("LD_LIBRARY_PATH", &lib)
                .env_remove("SENDFD_PATHS"),
        );
    }
    Passed
}

/// Programs that were built with the header of such a release, and run with this library.
fn newer_programs_older_library() -> Outcome {
    let include = scratch();
    let text = fs::read_to_string(header()).expect("the header");
    let text = grown(&text, "typedef struct", "    uint64_t added;\n");
    assert_eq!(text.matches("uint64_t added;\n}").count(), GROWING.len());
    fs::write(include.path().join("sendfd.h"), text).expect("a header");
    for (source, arguments) in ACROSS {
        let scratch = scratch();
        let binary = compile_with(
            source,
            scratch.path(),
            &format!("-I{}", include.path().display()),
            // The initialisers are of this release and leave the new field out.
            "-Wno-missing-field-initializers",
        );
        outcome(
            Command::new(binary)
                .args(arguments)
                .env_remove("SENDFD_PATHS"),
        );
    }
    Passed
}

// The programs

fn program(source: &str, arguments: &[&str]) -> Outcome {
    let scratch = scratch();
    let binary = compile(source, scratch.path());
    outcome(
        Command::new(binary)
            .args(arguments)
            .env_remove("SENDFD_PATHS"),
    )
}

/// The same where only the `name` path is allowed, as in a container.
fn by_name(source: &str, arguments: &[&str]) -> Outcome {
    let scratch = scratch();
    let binary = compile(source, scratch.path());
    outcome(
        Command::new(binary)
            .args(arguments)
            .env("SENDFD_PATHS", "name"),
    )
}

/// Once more under valgrind: nothing is read or written that was not lent, nothing is leaked.
/// (Where valgrind does not know the calls of the `pidfd` path, this goes by `name`.)
fn memory(source: &str, arguments: &[&str]) -> Outcome {
    if !exists("valgrind") {
        return Skipped("valgrind: it is not installed".into());
    }
    let scratch = scratch();
    let binary = compile(source, scratch.path());
    let suppressions = format!(
        "--suppressions={}",
        capi().join("tests/valgrind.supp").display()
    );
    // The cache of targets lives as long as the process and is reachable to its end.
    outcome(
        Command::new("valgrind")
            .args(["-q", "--error-exitcode=99", "--leak-check=full"])
            .args(["--show-leak-kinds=definite,indirect,possible"])
            .arg("--errors-for-leak-kinds=definite,indirect,possible")
            .arg(suppressions)
            .arg(binary)
            .args(arguments)
            .env_remove("SENDFD_PATHS"),
    )
}

/// Once more under the compiler's sanitizers, which see what the library does to the program's memory
/// through libc, and what nobody frees.
fn sanitized(source: &str, arguments: &[&str]) -> Outcome {
    let scratch = scratch();
    let empty = scratch.path().join("empty.c");
    fs::write(&empty, "int main(void) { return 0; }\n").expect("a source");
    let flags = "-fsanitize=address,undefined -fno-sanitize-recover=all";
    let works = Command::new("cc")
        .args(flags.split(' '))
        .arg(&empty)
        .arg("-o")
        .arg(scratch.path().join("empty"))
        .output();
    if !works.is_ok_and(|output| output.status.success()) {
        return Skipped("asan: the compiler has no AddressSanitizer".into());
    }
    let binary = compile_with(source, scratch.path(), "", flags);
    outcome(
        Command::new(binary)
            .args(arguments)
            .env_remove("SENDFD_PATHS"),
    )
}

fn outcome(command: &mut Command) -> Outcome {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    match output.status.code() {
        Some(0) => Passed,
        Some(SKIPPED) => Skipped(stdout(&output).trim().to_owned()),
        _ => panic!("{}", told(command, &output)),
    }
}

fn compile(source: &str, into: &Path) -> PathBuf {
    compile_with(source, into, "", "")
}

/// As the Makefile builds programs of this repository. A header that `include` leads to is taken
/// instead of ours.
fn compile_with(source: &str, into: &Path, include: &str, flags: &str) -> PathBuf {
    let name = Path::new(source).with_extension("");
    let binary = into.join("sendfd-capi/tests/c").join(name);
    make(&[
        &format!("PROGRAMS={}", into.display()),
        &format!("CPPFLAGS={include}"),
        &format!("CFLAGS=-g -Werror {flags}"),
        &format!("CXXFLAGS=-g -Werror {flags}"),
        &binary.display().to_string(),
    ]);
    binary
}

fn compiler(source: &Path) -> Command {
    let (compiler, standard) = if source.extension() == Some(OsStr::new("cpp")) {
        ("c++", "-std=c++17")
    } else {
        ("cc", "-std=c11")
    };
    let mut command = Command::new(compiler);
    command.arg(standard).arg("-g").args(WARNINGS);
    command
}

// The examples

/// Killed when the test is over, however it ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    fn pid(&self) -> u32 {
        self.0.id()
    }
}

fn worker_answers_http() -> Outcome {
    let sig = sendfd_core::rtmin() + 7;
    let worker = Command::new(build().join("examples/pool/worker"))
        .env("SENDFD_PORT", sig.to_string())
        .env_remove("SENDFD_PATHS")
        .spawn();
    let mut worker = Running(worker.expect("the worker"));
    let port = sendfd_core::Port::from_signal(sig).expect("a port");
    let patient = SendOptions::new().wait(Wait::For(PATIENCE));
    let hand_over = |connections: &[TcpStream]| {
        let fds: Vec<_> = connections.iter().map(|one| one.as_fd()).collect();
        sendfd_core::send_with(worker.pid(), port, &fds, &patient).expect("it is sent");
    };

    // One that has gone away before it was served, and one that never asked: neither is fatal.
    let (client, server) = connection();
    drop(client);
    hand_over(&[server]);
    let (client, server) = connection();
    client.shutdown(Shutdown::Write).expect("a half close");
    hand_over(&[server]);

    // In two parts, on a connection that the front has made non-blocking; then two in one message.
    let (mut client, server) = connection();
    server.set_nonblocking(true).expect("non-blocking");
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n")
        .expect("a request");
    hand_over(&[server]);
    client.write_all(b"\r\n").expect("the rest of it");
    let expected = answer(&worker);
    assert_eq!(response(client), expected);

    let (mut first, one) = connection();
    let (mut second, other) = connection();
    for client in [&mut first, &mut second] {
        client
            .write_all(b"GET / HTTP/1.1\r\n\r\n")
            .expect("a request");
    }
    hand_over(&[one, other]);
    assert_eq!(response(first), expected);
    assert_eq!(response(second), expected);

    run(Command::new("kill").arg(worker.pid().to_string()));
    let status = worker.0.wait().expect("its status");
    assert_eq!(status.code(), Some(0), "SIGTERM is a good end");
    Passed
}

fn answer(worker: &Running) -> String {
    let body = format!("c {}\n", worker.pid());
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = listener.local_addr().expect("its address");
    let client = TcpStream::connect(address).expect("a connection");
    client
        .set_read_timeout(Some(PATIENCE))
        .expect("a read timeout");
    (client, listener.accept().expect("its other end").0)
}

fn response(mut client: TcpStream) -> String {
    let mut text = String::new();
    client.read_to_string(&mut text).expect("a response");
    text
}

fn examples_in_cpp() -> Outcome {
    let receiver = Command::new(build().join("examples/receive"))
        .stdout(Stdio::piped())
        .env_remove("SENDFD_PATHS")
        .spawn();
    let mut receiver = Running(receiver.expect("the receiver"));
    let sig = (sendfd_core::rtmin() + 1).to_string();
    let sender = run(Command::new(build().join("examples/send"))
        .args([&receiver.pid().to_string(), &sig])
        .env_remove("SENDFD_PATHS"));
    assert_eq!(receiver.0.wait().expect("its status").code(), Some(0));
    // The receiver held the sender's output open; it wrote before it exited.
    assert!(
        stdout(&sender).ends_with("take my standard output\n"),
        "{}",
        stdout(&sender)
    );
    Passed
}

// The installation

fn installed_in_a_prefix() -> Outcome {
    let scratch = scratch();
    let prefix = scratch.path().join("prefix");
    make(&["install", &format!("PREFIX={}", prefix.display())]);
    let pkg_config = |flags: &[&str]| {
        let output = run(Command::new("pkg-config")
            .args(flags)
            .arg("sendfd")
            .env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig")));
        stdout(&output).trim().to_owned()
    };
    let version = pkg_config(&["--modversion"]);
    assert_eq!(version, env!("CARGO_PKG_VERSION"));

    let dynamic = pkg_config(&["--cflags", "--libs"]);
    let static_too = pkg_config(&["--static", "--cflags", "--libs"]);
    assert!(static_too.contains("-lpthread"), "{static_too}");
    let archive = prefix.join("lib/libsendfd.a").display().to_string();
    // The library from its archive and libc shared; both from archives.
    let from_archive = static_too.replace("-lsendfd", &archive);
    let all_static = format!("-static {static_too}");
    for source in ["app.c", "app.cpp"] {
        for (flags, needs_library) in [
            (&dynamic, true),
            (&from_archive, false),
            (&all_static, false),
        ] {
            let source = capi().join("tests/c").join(source);
            let binary = scratch.path().join("app");
            run(compiler(&source)
                .arg(&source)
                .arg("-o")
                .arg(&binary)
                .args(flags.split_whitespace()));
            let mut app = Command::new(&binary);
            app.env_remove("SENDFD_PATHS").env_remove("LD_LIBRARY_PATH");
            if needs_library {
                app.env("LD_LIBRARY_PATH", prefix.join("lib"));
            }
            assert_eq!(
                stdout(&run(&mut app)),
                format!("sendfd {version}\n"),
                "{flags}"
            );
            let needed = stdout(&run(Command::new("readelf").arg("-dW").arg(&binary)));
            assert_eq!(needed.contains("[libsendfd.so.0]"), needs_library);
        }
    }
    make(&["uninstall", &format!("PREFIX={}", prefix.display())]);
    assert_eq!(files(&prefix), Vec::<String>::new());
    Passed
}

fn found_by_cmake() -> Outcome {
    if !exists("cmake") {
        return Skipped("cmake: it is not installed".into());
    }
    let scratch = scratch();
    let prefix = scratch.path().join("prefix");
    make(&["install", &format!("PREFIX={}", prefix.display())]);
    let project = format!(
        "cmake_minimum_required(VERSION 3.10)\nproject(app C CXX)\n\
         find_package(sendfd {} EXACT REQUIRED)\nset(CMAKE_CXX_STANDARD 17)\n\
         add_executable(shared app.c)\ntarget_link_libraries(shared sendfd::sendfd)\n\
         add_executable(static app.cpp)\ntarget_link_libraries(static sendfd::static)\n",
        env!("CARGO_PKG_VERSION")
    );
    fs::write(scratch.path().join("CMakeLists.txt"), project).expect("a project");
    for source in ["app.c", "app.cpp"] {
        fs::copy(
            capi().join("tests/c").join(source),
            scratch.path().join(source),
        )
        .expect("a copy");
    }
    let built = scratch.path().join("built");
    run(Command::new("cmake")
        .arg("-S")
        .arg(scratch.path())
        .arg("-B")
        .arg(&built)
        .arg(format!("-DCMAKE_PREFIX_PATH={}", prefix.display())));
    run(Command::new("cmake").arg("--build").arg(&built));
    for app in ["shared", "static"] {
        let output = run(Command::new(built.join(app))
            .env_remove("SENDFD_PATHS")
            .env_remove("LD_LIBRARY_PATH"));
        assert_eq!(
            stdout(&output),
            format!("sendfd {}\n", env!("CARGO_PKG_VERSION"))
        );
    }
    Passed
}

/// Who may not write there is told so before anything is built, with what to do.
fn installed_without_rights() -> Outcome {
    let output = Command::new("make")
        .arg("-C")
        .arg(capi())
        // Nobody can make a directory there, root neither.
        .args(["install", "PREFIX=/proc/self/nowhere"])
        .env_remove("MAKEFLAGS")
        .env_remove("MAKELEVEL")
        .output()
        .expect("make");
    assert!(!output.status.success());
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("PREFIX=$HOME/.local"), "{told}");
    Passed
}

fn pages() -> Vec<PathBuf> {
    let mut pages: Vec<PathBuf> = fs::read_dir(capi().join("man"))
        .expect("the pages")
        .map(|entry| entry.expect("a page").path())
        .collect();
    pages.sort();
    pages
}

fn pages_are_clean() -> Outcome {
    if Command::new("mandoc").arg("-h").output().is_err() {
        return Skipped("mandoc: it is not installed".into());
    }
    run(Command::new("mandoc")
        .args(["-T", "lint", "-W", "warning"])
        .args(pages()));
    Passed
}

/// Each function has a page, with the prototype that the header has.
fn pages_name_every_function() -> Outcome {
    let mut named = BTreeSet::new();
    for page in pages() {
        let text = fs::read_to_string(page).expect("a page");
        let prototypes = text.lines().filter_map(|line| line.strip_prefix(".Fo "));
        named.extend(prototypes.map(str::to_owned));
    }
    assert_eq!(named, functions());
    Passed
}

/// The programs in the pages are programs.
fn examples_of_pages_compile() -> Outcome {
    let scratch = scratch();
    let mut found = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).expect("a page");
        for example in text.split(".Bd -literal").skip(1) {
            let (_, example) = example.split_once('\n').expect("a line");
            let (example, _) = example.split_once("\n.Ed").expect("its end");
            let source = scratch.path().join("example.c");
            fs::write(&source, example.replace("\\e", "\\") + "\n").expect("a source");
            run(compiler(&source)
                .arg("-fsyntax-only")
                .arg("-D_POSIX_C_SOURCE=200809L")
                .arg(include_flag())
                .arg(&source));
            found += 1;
        }
    }
    assert!(found >= pages().len(), "{found} examples");
    Passed
}

fn staged_for_a_distribution() -> Outcome {
    let scratch = scratch();
    let stage = scratch.path().join("stage");
    let dirs = [
        format!("DESTDIR={}", stage.display()),
        "PREFIX=/usr".to_owned(),
        "LIBDIR=/usr/lib/x86_64-linux-gnu".to_owned(),
    ];
    let with = |target| -> Vec<&str> {
        let dirs = dirs.iter().map(String::as_str);
        std::iter::once(target).chain(dirs).collect()
    };
    make(&with("install"));
    let version = env!("CARGO_PKG_VERSION");
    let lib = "usr/lib/x86_64-linux-gnu";
    let (pages, others): (Vec<_>, Vec<_>) = files(&stage)
        .into_iter()
        .partition(|file| file.starts_with("usr/share/man/man3/"));
    for function in functions() {
        let page = format!("usr/share/man/man3/{function}.3");
        assert!(
            pages.contains(&page) && stage.join(&page).exists(),
            "{page}"
        );
    }
    assert_eq!(
        others,
        [
            "usr/include/sendfd.h".to_owned(),
            "usr/include/sendfd.hpp".to_owned(),
            format!("{lib}/cmake/sendfd/sendfd-config-version.cmake"),
            format!("{lib}/cmake/sendfd/sendfd-config.cmake"),
            format!("{lib}/libsendfd.a"),
            format!("{lib}/libsendfd.so"),
            format!("{lib}/libsendfd.so.0"),
            format!("{lib}/libsendfd.so.{version}"),
            format!("{lib}/pkgconfig/sendfd.pc"),
        ]
    );
    let pc = fs::read_to_string(stage.join(lib).join("pkgconfig/sendfd.pc")).expect("sendfd.pc");
    assert!(pc.starts_with("prefix=/usr\nlibdir=${prefix}/lib/x86_64-linux-gnu\n"));
    assert!(pc.contains(&format!("Version: {version}\n")));
    assert!(
        !pc.contains('@') && !pc.contains(&stage.display().to_string()),
        "{pc}"
    );
    make(&with("uninstall"));
    assert_eq!(files(&stage), Vec::<String>::new());
    // What was built serves the default prefix again.
    make(&["build"]);
    Passed
}

/// All that is no directory, by its path below `top`.
fn files(top: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut dirs = vec![top.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() && !path.is_symlink() {
                dirs.push(path);
            } else {
                let below = path.strip_prefix(top).expect("below the top");
                found.push(below.display().to_string());
            }
        }
    }
    found.sort();
    found
}

// What they share

fn capi() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn build() -> PathBuf {
    capi().join("../build")
}

fn library() -> PathBuf {
    build().join("lib/libsendfd.so.0")
}

fn header() -> PathBuf {
    capi().join("../include/sendfd.h")
}

fn include_flag() -> String {
    format!("-I{}", capi().join("../include").display())
}

fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn exists(program: &str) -> bool {
    let version = Command::new(program).arg("--version").output();
    version.is_ok_and(|output| output.status.success())
}

fn make(arguments: &[&str]) {
    // Not a part of the make that may be running this.
    run(Command::new("make")
        .arg("-C")
        .arg(capi())
        .args(arguments)
        .env_remove("MAKEFLAGS")
        .env_remove("MAKELEVEL"));
}

/// Runs what must succeed.
fn run(command: &mut Command) -> Output {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{}", told(command, &output));
    output
}

fn told(command: &Command, output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    format!("{command:?}: {}\n{}{errors}", output.status, stdout(output))
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}
