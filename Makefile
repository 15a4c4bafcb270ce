# bucket-streamer: `make demo` shows it, `make test` checks it. Nothing has to be installed before
# but Rust, make and git.
.POSIX:
.DEFAULT_GOAL := help
.PHONY: help demo test build deps tools fmt lint bench bench-peers fuzz soak clean

CARGO = cargo

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

demo: deps ## install what is missing, build, make a video, serve it, request frames (PORT=3000, KEEP_SERVING=1)
	@bash scripts/demo.sh

test: tools ## install what is missing, build, run every test
	@bash scripts/install-deps.sh tests
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

bench: tools ## measure the server and others side by side (QUICK=1, ONLY=cold,warm, MEMORY_MINUTES=30)
	@bash scripts/install-deps.sh bench
	@bash scripts/bench.sh $${QUICK:+--quick} $${ONLY:+--only "$$ONLY"} $${MEMORY_MINUTES:+--memory-minutes "$$MEMORY_MINUTES"}

bench-peers: ## install those others into a Python environment (some gigabytes)
	@bash scripts/bench-peers.sh

fuzz: deps ## fuzz what reads strangers' bytes, each target for T=60 seconds (ONLY=video,http)
	@bash scripts/install-deps.sh fuzz
	@T=$${T:-60} bash scripts/fuzz.sh

soak: tools ## the storm of docs/robustness.md for SOAK_MINUTES=10 (CHAOS_SEED=1), with its figures
	@bash scripts/soak.sh

clean: ## remove build output and the demo's files
	$(CARGO) clean
	rm -rf data/out data/demo.h265 data/demo.h265.offsets.json
