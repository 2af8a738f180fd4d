# The menu: `make` prints it. The doing is in hack/ and rootfs/, each of which
# runs by itself too.

TARGET := $(or $(CARGO_TARGET_DIR),target)
# .cargo/config.toml names the target, so its directory is part of the path.
CAROB  := $(TARGET)/x86_64-unknown-linux-gnu/release/carob
IMAGES := $(TARGET)/images
PREFIX ?= /usr/local

# rustup's cargo, where the login shell has not put it into PATH.
export PATH := $(PATH):$(HOME)/.cargo/bin
export CAROB IMAGES

.PHONY: help setup build images demo test lint fuzz bench install uninstall clean

help: ## this menu
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

setup: ## install what building and the demo need (apt-get; sudo if need be)
	hack/setup

build: ## the release build
	cargo build --release --locked

images: ## the demo and test images, from Debian's busybox-static
	rootfs/build $(IMAGES)

demo: ## a Pod from manifest to deletion, on this machine (4 min the first time)
	env -u CAROB -u IMAGES hack/demo

test: ## every check and test, as root (sudo if need be)
	hack/test

lint: ## formatting, clippy, shellcheck, the documents' tables
	hack/lint

fuzz: ## a minute of each fuzz target (needs cargo-fuzz, and installs it)
	hack/fuzz

bench: build images ## Pods timed beside Debian's podman (needs root)
	hack/bench pod

# What is built is not built again: root may have no cargo.
$(CAROB):
	cargo build --release --locked

install: $(CAROB) ## put carob, carob-oci and man pages below PREFIX, /usr/local by default (needs root)
	install -D -m 0755 $(CAROB) $(DESTDIR)$(PREFIX)/bin/carob
	install -D -m 0755 $(CAROB)-oci $(DESTDIR)$(PREFIX)/bin/carob-oci
	$(CAROB) man --dir $(DESTDIR)$(PREFIX)/share/man/man1
	install -d $(DESTDIR)$(PREFIX)/share/man/man8
	$(CAROB)-oci man >$(DESTDIR)$(PREFIX)/share/man/man8/carob-oci.8

uninstall: ## take it away again
	rm -f $(DESTDIR)$(PREFIX)/bin/carob $(DESTDIR)$(PREFIX)/bin/carob-oci
	rm -f $(DESTDIR)$(PREFIX)/share/man/man1/carob.1 $(DESTDIR)$(PREFIX)/share/man/man1/carob-*.1
	rm -f $(DESTDIR)$(PREFIX)/share/man/man8/carob-oci.8

clean: ## remove what was built
	cargo clean
