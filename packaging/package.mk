# Packages, and installing from source: packaging/README.md.

DOCDIR ?= /usr/share/doc/ngx_http_px_module
MODULESCONFDIR ?=
VERSION := $(shell sed -n '/^\[workspace.package\]/,/^$$/s/^version = "\(.*\)"/\1/p' Cargo.toml)

# Packages say the same whoever builds them, whenever, and wherever the sources are.
SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || stat -c %Y CHANGELOG.md)
PACKAGE_TARGET := target/package
package-build = RUSTFLAGS="$(RUSTFLAGS) --remap-path-prefix=$${CARGO_HOME:-$$HOME/.cargo}=/cargo --remap-path-prefix=$(CURDIR)=/px" \
	$(CARGO) build --quiet --release --locked --target-dir $(PACKAGE_TARGET)

.PHONY: install uninstall package-binaries sbom dist deb rpm test-deb test-packages test-docker

install: build ## Install the module to MODULESDIR, by default /usr/lib/nginx/modules
	@DESTDIR="$(DESTDIR)" MODULESDIR="$(MODULESDIR)" DOCDIR="$(DOCDIR)" MODULESCONFDIR="$(MODULESCONFDIR)" \
	  packaging/install $(MODULE)
	@$(if $(MODULESCONFDIR),,echo "add to nginx.conf, before events: load_module $(MODULESDIR)/ngx_http_px_module.so;")

uninstall: ## Take away what install put there
	@DESTDIR="$(DESTDIR)" MODULESDIR="$(MODULESDIR)" DOCDIR="$(DOCDIR)" MODULESCONFDIR="$(MODULESCONFDIR)" \
	  packaging/install --uninstall

# One by one: built together, each would have the features that only the other asks for.
package-binaries: $(HEADERS)
	@$(package-build) --package ngx-http-px-module --lib
	@$(package-build) --package pxctl --bin pxctl

sbom: ## What is linked into the module and pxctl: target/sbom, CycloneDX and licences
	@command -v python3 >/dev/null || $(MAKE) --no-print-directory deps PACKAGES=python3
	@export SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH); \
	for package in ngx-http-px-module pxctl; do packaging/sbom $$package target/sbom/$$package; done

deb: package-binaries sbom ## Debian packages for the installed nginx: target/deb
	@rm -rf target/deb
	@SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH) packaging/deb/build

test-deb: deb ## Install, upgrade, remove and purge the Debian package in a throw-away root
	@t/deb.sh

dist: sbom ## Tarball of the sources with the crates they need: target/dist
	@SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH) packaging/dist $(VERSION)

rpm: $(HEADERS) dist ## RPM package (on Debian a trial of the spec): target/rpm
	@command -v rpmbuild >/dev/null || $(MAKE) --no-print-directory deps PACKAGES=rpm
	@packaging/rpm/build target/dist/ngx_http_px_module-$(VERSION).tar.xz

# As test-deb, but with the module of the behaviour tests, which is there already.
test-packages: $(HEADERS) sbom ## SBOM, make install and the Debian package
	@$(CARGO) build --quiet --locked --lib -p ngx-http-px-module
	@t/sbom.py target/debug/libngx_http_px_module.so
	@t/install.sh target/debug/libngx_http_px_module.so
	@rm -rf target/deb-debug
	@DPKG_DEB_COMPRESSOR_TYPE=none packaging/deb/build --module target/debug/libngx_http_px_module.so --pxctl '' \
	  --out target/deb-debug >/dev/null
	@t/deb.sh target/deb-debug || [ $$? = 77 ]

test-docker: ## What the Dockerfile runs to build the module, with this machine's nginx
	@t/docker_build.sh
