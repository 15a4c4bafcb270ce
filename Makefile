# bucket-streamer: `make demo` shows it, `make test` checks it. Nothing has to be installed before
# but Rust, make and git.
.POSIX:
.DEFAULT_GOAL := help
.PHONY: help demo test build deps tools fmt lint bench clean

CARGO = cargo

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

demo: deps ## install what is missing, build, make a video, serve it, request frames (PORT=3000, KEEP_SERVING=1)
	@bash scripts/demo.sh

test: deps tools ## install what is missing, build, run every test
	@bash scripts/test.sh

build: deps ## build the three programs into target/release
	$(CARGO) build --release --locked --workspace --bins

deps: ## install missing system packages (Debian, Ubuntu), or name them (Fedora, macOS)
	@bash scripts/install-deps.sh

tools: deps ## build the S3 server that tests need, once, into the user's cache folder
	@bash scripts/install-tools.sh garage

fmt: ## format the code
	$(CARGO) fmt --all

lint: deps ## formatting, clippy, licences and advisories
	@bash scripts/lint.sh

bench: deps ## run the benchmarks
	$(CARGO) bench --workspace

clean: ## remove build output and the demo's files
	$(CARGO) clean
	rm -rf data/out data/demo.h265 data/demo.h265.offsets.json
