# The habits of this repository. `make` alone says what there is.

CARGO ?= cargo
PREFIX ?= /usr/local
DESTDIR ?=
REQUESTS ?= 2000

export PREFIX DESTDIR

target := $(abspath $(or $(CARGO_TARGET_DIR),target))

# The workers of the demo: NAME=COMMAND. One more language is one more line.
WORKERS = \
    "rust=$(target)/release/pool-worker" \
    "c=build/examples/worker-c"

.PHONY: help demo test test-core test-c lint bench header install uninstall clean need-rust need-cc need-curl

help:
	@echo 'make demo        hand real TCP connections to workers in several languages'
	@echo 'make demo SERVE=1    the same, and stay up until Ctrl-C'
	@echo 'make test        all tests that need no kernel build'
	@echo 'make lint        formatting, clippy, and what else reads code'
	@echo 'make bench       timings against other ways, as ratios'
	@echo 'make install     the C library and headers, with PREFIX and DESTDIR'
	@echo 'make header      generate include/sendfd.h anew'
	@echo 'make clean       remove all that was built'

# need PROGRAM,WHAT FOR: says what is missing instead of failing somewhere later.
need = @command -v $(1) >/dev/null 2>&1 || { echo 'missing: $(1), $(2)' >&2; exit 1; }

need-rust:
	$(call need,$(CARGO),which builds the library (https://rustup.rs))
need-cc:
	$(call need,$(or $(CC),cc),a C compiler)
	$(call need,$(or $(CXX),c++),a C++ compiler)
need-curl:
	$(call need,curl,which makes the requests of the demo)

demo: need-rust need-cc need-curl
	@echo '== building the library, the front and the workers'
	$(CARGO) build --release -p sendfd-examples
	$(MAKE) --no-print-directory -C sendfd-capi examples
	@echo '== running the demo'
	$(target)/release/pool-front $(if $(SERVE),--serve,--requests $(REQUESTS)) $(WORKERS)

test: test-core test-c

test-core: need-rust
	@echo '== the library, across processes and users'
	$(CARGO) test -p sendfd-core -p sendfd-tests -p sendfd-examples

test-c: need-rust need-cc
	@echo '== the C library, its headers and its installation'
	$(MAKE) --no-print-directory -C sendfd-capi check-header test

build/bench/%: tests/bench/%.c include/sendfd.h need-cc
	@$(MAKE) --no-print-directory -C sendfd-capi build
	@mkdir -p $(@D)
	$(or $(CC),cc) -std=c11 -O2 -g -Wall -Wextra -Iinclude $< -o $@ -Lbuild/lib -lsendfd -Wl,-rpath,$(abspath build/lib)

bench: need-rust build/bench/handoff build/bench/contact
	@echo '== one hand-off, against sendmsg and recvmsg by hand'
	build/bench/handoff
	@echo '== first contact, and what a target and a receiver cost'
	build/bench/contact

lint: need-rust
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

header: need-rust
	$(MAKE) --no-print-directory -C sendfd-capi header

install uninstall: need-rust need-cc
	$(MAKE) --no-print-directory -C sendfd-capi $@

clean:
	$(CARGO) clean
	rm -rf build .venv
