# Everything runs on a fresh Debian machine with Rust: `make demo`, `make test`.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# The nginx to build for: its sources, and the directory `configure` wrote to. By default those of
# the distribution's own nginx, prepared from its nginx-dev package.
BUILD ?= build
ifeq ($(origin NGINX_BUILD_DIR), undefined)
  NGINX_SOURCE_DIR := $(CURDIR)/$(BUILD)/nginx-src
  NGINX_BUILD_DIR := $(CURDIR)/$(BUILD)/nginx-objs
  HEADERS := $(NGINX_BUILD_DIR)/ngx_auto_config.h
endif
export NGINX_SOURCE_DIR NGINX_BUILD_DIR

CARGO ?= cargo
DESTDIR ?=
MODULESDIR ?= /usr/lib/nginx/modules
MODULE := target/release/libngx_http_px_module.so

PACKAGES := build-essential pkg-config libclang-dev libpcre2-dev zlib1g-dev libssl-dev \
            ca-certificates nginx nginx-dev curl openssl
# What the behaviour tests need besides: the Lua module, and a browser, unless CHROMIUM names one.
TEST_PACKAGES := libnginx-mod-http-lua $(if $(CHROMIUM),,chromium)

.PHONY: help deps build demo demo-node test test-matrix lint msrv unit vectors behaviour faults http3 abi memcheck budget \
        bench bench-micro sizing deny fuzz fuzz-briefly clean

help: ## This text
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

deps: ## Install what building and testing need (Debian and its relatives)
	@missing=""; \
	for package in $(PACKAGES); do \
	  dpkg-query -W -f='$${db:Status-Status}' $$package 2>/dev/null | grep -qx installed \
	    || missing="$$missing $$package"; \
	done; \
	if [ -n "$$missing" ]; then \
	  echo "installing:$$missing"; \
	  sudo=""; [ "$$(id -u)" = 0 ] || sudo=sudo; \
	  $$sudo apt-get update -qq; \
	  DEBIAN_FRONTEND=noninteractive $$sudo apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	fi

# nginx-dev ships sources that were never configured: configure a copy as the package was.
$(CURDIR)/$(BUILD)/nginx-objs/ngx_auto_config.h: | deps
	@echo "configuring the sources of $$(nginx -v 2>&1 | sed 's/.*: //')"
	@rm -rf $(BUILD)/nginx-src $(BUILD)/nginx-objs
	@mkdir -p $(BUILD)
	@cp -a /usr/share/nginx/src $(BUILD)/nginx-src
	@cd $(BUILD)/nginx-src && . ./conf_flags && \
	  ./configure "$${NGX_CONF_FLAGS[@]}" --builddir=$(NGINX_BUILD_DIR) > ../configure.log 2>&1 \
	  || { tail -20 ../configure.log; exit 1; }

build: $(HEADERS) ## Build the module for the installed nginx, in target/release
	@$(CARGO) build --release --locked
	@echo "built $(MODULE)"

demo: $(HEADERS) ## Show the module at work against the sandbox; needs no account
	@$(CARGO) run --quiet --locked --example demo

demo-node: $(HEADERS) ## Show the connector to a traffic-analysis node against the sandbox's
	@$(CARGO) run --quiet --locked --example demo_node

test: lint msrv unit behaviour http3 abi test-packages budget fuzz-briefly deny ## Everything: lints, unit and vector tests, behaviour under a real nginx

lint: $(HEADERS) ## rustfmt and clippy
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

# rust-version in Cargo.toml is a promise: kept where that Rust is at hand, and it is that of CI.
msrv: $(HEADERS) ## Builds with the oldest supported Rust, where it is installed
	@oldest=$$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml); \
	if rustc --version | grep -q "^rustc $$oldest\."; then cargo="$(CARGO)"; \
	elif rustup run $$oldest rustc --version >/dev/null 2>&1; then cargo="rustup run $$oldest $(CARGO)"; \
	else echo "Rust $$oldest is not installed: skipped (rustup toolchain install $$oldest)"; exit 0; fi; \
	$$cargo check --quiet --workspace --locked && echo "ok: builds with Rust $$oldest, the oldest supported"

unit: $(HEADERS) ## Tests of the enforcer, the sandbox and pxctl, with the oracle vectors
	$(CARGO) test --locked -p px-core -p px-sandbox -p pxctl

vectors: ## Oracle vectors alone; PX_VECTORS=dir for those of another directory
	$(CARGO) test --locked -p px-core --test vectors -- --nocapture

behaviour: $(HEADERS) ## Behaviour under a real nginx (TEST_NGINX_BINARY for another than the installed)
	@$(MAKE) --no-print-directory deps PACKAGES="$(TEST_PACKAGES)"
	$(CARGO) build --locked --lib -p ngx-http-px-module
	$(CARGO) test --locked -p ngx-http-px-module

http3: $(HEADERS) ## Behaviour over HTTP/3, under an nginx that is built for it
	@TESTS=http3 t/matrix http3

faults: $(HEADERS) ## The fault matrix alone, with its table (ROWS=word for some of its rows)
	@$(CARGO) build --quiet --locked --lib -p ngx-http-px-module
	@$(CARGO) test --quiet --locked -p ngx-http-px-module --test faults -- $(ROWS)

abi: $(HEADERS) ## What the module needs of its host, and that it refuses a host of another layout
	@$(CARGO) build --quiet --locked --lib -p ngx-http-px-module
	@t/symbols.sh target/debug/libngx_http_px_module.so
	@t/abi_guard.sh target/debug/libngx_http_px_module.so
	@t/configure_like.sh
	@t/flavour_guard.sh

test-matrix: $(HEADERS) ## Behaviour under other versions and builds of nginx (HOSTS="…": see t/host)
	@$(MAKE) --no-print-directory deps PACKAGES="$(TEST_PACKAGES)"
	@t/matrix $(HOSTS)

memcheck: $(HEADERS) ## Behaviour tests about bodies and logins, with nginx under valgrind
	@command -v valgrind >/dev/null || $(MAKE) --no-print-directory deps PACKAGES=valgrind
	@$(CARGO) build --quiet --locked --lib -p ngx-http-px-module
	@t/memcheck.sh

budget: ## Instructions the core spends on a request, against bench/budget.txt (UPDATE=1 writes it)
	@command -v valgrind >/dev/null || $(MAKE) --no-print-directory deps PACKAGES=valgrind
	@bench/budget $(if $(UPDATE),--update)

bench: build ## Benchmark under load; writes bench/RESULTS.md (see bench/README.md)
	@command -v wrk >/dev/null && command -v python3 >/dev/null || \
	  $(MAKE) --no-print-directory deps PACKAGES="wrk python3"
	@$(CARGO) build --release --locked -p px-sandbox --bin px-sandbox
	@$(CARGO) build --release --locked --manifest-path bench/micro/Cargo.toml --target-dir target/bench --bins
	@bench/run --out bench/RESULTS.md $(BENCH)

sizing: build ## CPU, memory, disk and bandwidth for operators; writes docs/sizing.md
	@command -v wrk >/dev/null && command -v python3 >/dev/null || \
	  $(MAKE) --no-print-directory deps PACKAGES="wrk python3"
	@$(CARGO) build --release --locked -p px-sandbox --bin px-sandbox
	@$(CARGO) build --release --locked --manifest-path bench/micro/Cargo.toml --target-dir target/bench --bins
	@bench/sizing --out docs/sizing.md $(SIZING)

bench-micro: ## Micro-benchmarks of the core
	@$(CARGO) bench --locked --manifest-path bench/micro/Cargo.toml --target-dir target/bench

deny: ## Licences and advisories of the dependencies, where cargo-deny is installed
	@if command -v cargo-deny >/dev/null; then $(CARGO) deny --offline check bans licenses sources; \
	else echo "cargo-deny is not installed: skipped"; fi

# So many inputs from one seed, and patience with a busy machine: a finding is not a matter of luck.
fuzz-briefly: | deps
	@PX_FUZZ_PATIENCE=5000 FUZZ_SEED=1 FUZZ_RUNS=2000 JOBS=2 fuzz/run 20

fuzz: ## Fuzz every parser for TIME (10 seconds; 30m, 2h) each, JOBS at once; TARGETS="…" for some
	@JOBS=$(or $(JOBS),1) fuzz/run $(or $(TIME),10) $(TARGETS)

include packaging/package.mk

clean: ## Remove everything that was built
	rm -rf target $(BUILD)
