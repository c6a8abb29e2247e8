# The habits of this repository. `make` alone says what there is.

CARGO ?= cargo
PREFIX ?= /usr/local
DESTDIR ?=
PYTHON ?= python3
REQUESTS ?= 5000

export PREFIX DESTDIR

# V=1 shows what is done and every test; without it, what failed.
override V := $(filter-out 0,$(V))
export V
Q := $(if $(V),,@)

# The oldest Rust that builds the library, the command and the Python package.
rust_oldest := $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)

target := $(abspath $(or $(CARGO_TARGET_DIR),target))

# The workers of the demo: NAME=COMMAND. One more language is one more line.
WORKERS = \
    "rust=$(target)/release/pool-worker" \
    "c=build/examples/pool/worker" \
    "python=.venv/bin/python examples/pool/worker.py" \
    "python-asyncio=.venv/bin/python examples/pool/worker_asyncio.py" \
    "node=node bindings/node/examples/pool/worker.mjs"

# The evidence: what is not a matter of seconds, and what needs every language at once.
EVIDENCE = conformance faults chaos model sanitize fuzz-parsers

.PHONY: $(EVIDENCE) bindings dist help demo demo-parts test fuzz test-core test-cli test-c test-python test-node test-go test-pool test-kernel lint \
    bench bench-pool bench-kernel servers header oldest install uninstall install-cli uninstall-cli clean need-rust need-cc need-python need-node

help:
	@echo 'make demo        hand real TCP connections to workers in several languages'
	@echo 'make demo SERVE=1    the same, and stay up until Ctrl-C'
	@echo 'make test        all tests that need no kernel build'
	@echo 'make test-go     the Go module, which needs Go'
	@echo 'make conformance     every language to every language, also with something taken from them'
	@echo 'make faults      every system call of the library fails once at each place'
	@echo 'make chaos SECS=60   processes killed, stopped, forked, retired at random moments; nothing is lost'
	@echo 'make sanitize    Miri, AddressSanitizer, ThreadSanitizer, a million hand-offs; PARTS=miri one of them'
	@echo 'make model       the protocol of retire, reopen, fork and full tables, in every order of events'
	@echo 'make test-kernel     build kernels with sendfd(2), and test it and the library in them'
	@echo 'make lint        formatting, clippy, and what else reads code'
	@echo 'make oldest      what is published, checked with the oldest Rust that it is said to need'
	@echo 'make fuzz SECS=60    random sequences of calls of the C library'
	@echo 'make fuzz-parsers SECS=60    whatever others may write, read by each parser, by libFuzzer'
	@echo 'make bench       timings against other ways, as ratios'
	@echo 'make bench-pool  the pool against other ways to have several workers'
	@echo 'make servers     real servers restarted under load, and a control: the table of docs/servers.md'
	@echo 'make bench-kernel    the system call against SCM_RIGHTS, in instructions'
	@echo 'make install     the command and the C library with its headers, with PREFIX and DESTDIR'
	@echo 'make install-cli     the command alone, its man pages and completions'
	@echo 'make header      generate include/sendfd.h anew'
	@echo 'make dist        what would be uploaded for a release, tried, into dist/ (docs/releasing.md)'
	@echo 'make clean       remove all that was built'
	@echo
	@echo 'V=1 beside any of them shows the commands and every test.'

# need PROGRAM,WHAT FOR: says what is missing instead of failing somewhere later.
need = @command -v $(1) >/dev/null 2>&1 || { echo 'missing: $(1), $(2)' >&2; exit 1; }

need-rust:
	$(call need,$(CARGO),which builds the library (https://rustup.rs))
	@have=$$($(CARGO) --version | sed -n '1s/^cargo \([0-9.]*\).*/\1/p'); \
	printf '%s\n' $(rust_oldest) "$$have" | sort -V -c 2>/dev/null || \
	    { echo "missing: Rust $(rust_oldest) or later; $(CARGO) is $$have (https://rustup.rs)" >&2; exit 1; }
need-cc:
	$(call need,$(or $(CC),cc),a C compiler)
	$(call need,$(or $(CXX),c++),a C++ compiler)
	$(call need,$(LD),which links the C library (package binutils on Debian))
	$(call need,$(AR),for libsendfd.a (package binutils on Debian))
	$(call need,$(or $(OBJCOPY),objcopy),for the C library (package binutils on Debian))

need-python:
	$(call need,$(PYTHON),for the Python package)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	    { echo 'missing: Python 3.10 or later, for the Python package' >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	    { echo 'missing: the venv module of Python (package python3-venv on Debian)' >&2; exit 1; }
need-node:
	$(call need,node,for the Node package)
	$(call need,npm,for the Node package)
	@node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' || \
	    { echo 'missing: Node 20 or later, for the Node package' >&2; exit 1; }

# What is built is said only if it fails; V=1 shows all of it.
demo: need-rust need-cc need-python need-node
	@command -v ab >/dev/null 2>&1 || command -v curl >/dev/null 2>&1 || [ -n "$(SERVE)" ] || \
	    { echo 'missing: ab (package apache2-utils) or curl, which makes the requests of the demo' >&2; exit 1; }
	@echo '== building the library, the pool and the workers (some minutes at first; V=1 shows it)'
	@mkdir -p build
	@$(MAKE) --no-print-directory demo-parts $(if $(V),,>build/demo.log 2>&1) || \
	    { $(if $(V),,tail -n 40 build/demo.log >&2;) echo 'the demo could not be built$(if $(V),,: all of it is in build/demo.log)' >&2; exit 1; }
	@echo '== running the demo'
	@exec .venv/bin/python examples/pool/demo.py --sendfd $(target)/release/sendfd --with $$PPID --kill c \
	    $(if $(SERVE),--serve,--requests $(REQUESTS)) $(WORKERS)

demo-parts:
	$(CARGO) build --release -p sendfd-cli -p sendfd-examples
	$(MAKE) --no-print-directory -C sendfd-capi examples
	$(MAKE) --no-print-directory -C bindings/python setup
	$(MAKE) --no-print-directory -C bindings/node setup

test: test-core test-cli test-c test-python test-node test-pool

test-core: need-rust
	@echo '== the library, across processes and users'
	$(Q)tests/quietly core $(CARGO) test -p sendfd-core -p sendfd-tests -p sendfd-examples

test-cli: need-rust
	@echo '== the command sendfd'
	$(Q)$(CARGO) build $(if $(V),,--quiet) -p sendfd-examples
	$(Q)tests/quietly command $(CARGO) test -p sendfd-cli

test-c: need-rust need-cc
	@echo '== the C library, its headers and its installation'
	@$(MAKE) --no-print-directory -C sendfd-capi check-header test

test-python: need-rust need-python
	@echo '== the Python package'
	$(Q)$(MAKE) --no-print-directory -C bindings/python test

test-node: need-rust need-node
	@echo '== the Node package'
	$(Q)$(MAKE) --no-print-directory -C bindings/node test

# One pool with a worker in each language.
test-pool: need-rust need-cc bindings
	@echo '== the pool, with workers in every language'
	$(Q)$(CARGO) build $(if $(V),,--quiet) -p sendfd-examples
	@$(MAKE) --no-print-directory -C sendfd-capi examples
	$(Q)SENDFD_TEST_WORKERS="$$(printf '%s\n' $(subst /release/,/debug/,$(WORKERS)))" \
	    tests/quietly pool $(CARGO) test -p sendfd-cli --test languages

# Not in `test`, for Go is not needed for anything else.
test-go: need-rust need-cc
	$(call need,$(or $(GO),go),for the Go module)
	$(call need,pkg-config,by which the Go module finds the C library)
	@echo '== the Go module'
	@$(MAKE) --no-print-directory -C bindings/go test

bindings: need-python need-node
	$(MAKE) --no-print-directory -C bindings/python setup
	$(MAKE) --no-print-directory -C bindings/node setup

conformance chaos: bindings
$(EVIDENCE): need-rust need-cc
	@$(MAKE) --no-print-directory -C tests $@

# Programs of ours in C: sendfd-capi knows how they are built.
build/tests/%: need-rust need-cc
	@$(MAKE) --no-print-directory -C sendfd-capi $(abspath $@)

# kernel/build says what it needs, and as root installs it.
test-kernel: need-rust need-cc bindings build/tests/senders/send
	@echo '== sendfd(2)'
	kernel/test
	@echo '== the library, in kernels with sendfd(2) and in one without'
	@$(MAKE) --no-print-directory -C tests kernel

bench-kernel:
	kernel/bench

fuzz: need-rust need-cc
	@$(MAKE) --no-print-directory -C sendfd-capi fuzz

bench: need-rust need-cc need-python need-node build/tests/bench/handoff build/tests/bench/contact
	@echo '== one hand-off, against sendmsg and recvmsg by hand'
	build/tests/bench/handoff
	@echo '== first contact, and what a target and a receiver cost'
	build/tests/bench/contact
	@echo '== Python, against its standard library'
	$(MAKE) --no-print-directory -C bindings/python bench
	@echo '== Node, against child.send and a unix socket'
	$(MAKE) --no-print-directory -C bindings/node bench

bench-pool: demo-parts
	.venv/bin/python -m pip --quiet install uvicorn-worker
	$(CARGO) build --release -p sendfd-cli --example bench-server
	.venv/bin/python tests/bench/pool/bench.py --sendfd $(target)/release/sendfd \
	    --server $(target)/release/examples/bench-server $(if $(SVG),--svg $(SVG))

servers: bindings
	.venv/bin/python tests/bench/servers/servers.py --write docs/servers.md

lint: need-rust need-python need-node
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(MAKE) --no-print-directory -C bindings/python lint
	$(MAKE) --no-print-directory -C bindings/node lint

# What is published builds with the oldest Rust that it says: `rustup toolchain install $(rust_oldest)` brings it.
oldest:
	$(call need,rustup,which keeps the oldest Rust (https://rustup.rs))
	@rustup run $(rust_oldest) rustc --version >/dev/null 2>&1 || \
	    { echo 'missing: Rust $(rust_oldest): rustup toolchain install $(rust_oldest) --profile minimal' >&2; exit 1; }
	@echo '== Rust $(rust_oldest)'
	$(Q)CARGO_TARGET_DIR=$(target)/oldest rustup run $(rust_oldest) cargo check --quiet --locked \
	    -p sendfd-core -p sendfd-capi -p sendfd-cli -p sendfd-python --features sendfd-core/tokio

# packaging/dist PART makes one of its parts.
dist: need-rust need-cc need-python
	@packaging/dist

header: need-rust
	$(MAKE) --no-print-directory -C sendfd-capi header

# Both may be installed before either is built.
install: need-rust need-cc
	@$(MAKE) --no-print-directory -C sendfd-capi may-install
	@$(MAKE) --no-print-directory -C sendfd-cli install
	@$(MAKE) --no-print-directory -C sendfd-capi install

uninstall:
	@$(MAKE) --no-print-directory -C sendfd-cli uninstall
	@$(MAKE) --no-print-directory -C sendfd-capi uninstall

# The command alone: it needs no C compiler and no library.
install-cli: need-rust
	@$(MAKE) --no-print-directory -C sendfd-cli install

uninstall-cli:
	@$(MAKE) --no-print-directory -C sendfd-cli uninstall

clean:
	rm -rf build dist .venv $(target)
	@$(MAKE) --no-print-directory -C bindings/node clean
