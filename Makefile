# Every command a person needs; `make` alone lists them.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help build wasm binary test-modules check tools-wasm test test-tools test-unit test-wasm \
	test-vm parts test-e2e test-matrix test-compose test-fresh images compose-demo bench-modules demo bench clean

TARGET := $(or $(CARGO_TARGET_DIR),target)
DIST := target/dist
WASM := wasm32-unknown-unknown
# What rustc may use of WebAssembly, and every Envoy since 1.30 knows.
WASM_FEATURES := --enable-bulk-memory --enable-multivalue --enable-mutable-globals \
	--enable-nontrapping-float-to-int --enable-reference-types --enable-sign-ext
# Always selected together: Cargo unites the features of what is selected, so with every other
# selection it would compile all dependencies once more.
RELEASE := cargo build --release -p pointsman -p e2e
TESTS := cargo test -p pointsman-filter -p pointsman -p e2e --no-fail-fast
PYTHON := PYTHONDONTWRITEBYTECODE=1 python3
FETCH := $(PYTHON) tests/tools/fetch.py
DEBIAN := $(PYTHON) tests/tools/debian.py
PROGRESS := $(PYTHON) tests/tools/progress.py

help: ## list these targets
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | \
		while IFS='|' read -r name what; do printf '%-20s %s\n' "$$name" "$$what"; done

build: wasm binary ## build pointsman.wasm and pointsman into target/dist, print their sizes
	@for file in pointsman.wasm pointsman; do \
		echo "$(DIST)/$$file: $$(($$(wc -c < $(DIST)/$$file) / 1000)) kB"; done

# One crate type on the command line: with the manifest's two, Cargo would skip LTO.
wasm: tools-wasm
	@cargo rustc -p pointsman-filter --lib --profile wasm --target $(WASM) --crate-type cdylib \
		-- -C linker="$(CURDIR)/filter/linker.py"
	@mkdir -p $(DIST)
	@[ $(DIST)/pointsman.wasm -nt $(TARGET)/$(WASM)/wasm/pointsman_filter.wasm ] || { \
		opt=$$($(FETCH) wasm-opt) && "$${opt:-wasm-opt}" -Os --debuginfo $(WASM_FEATURES) \
			$(TARGET)/$(WASM)/wasm/pointsman_filter.wasm --output $(DIST)/pointsman.wasm; }

binary:
	@$(RELEASE) --bin pointsman
	@mkdir -p $(DIST)
	@install -C -m 755 $(TARGET)/release/pointsman $(DIST)/pointsman

test-modules: tools-wasm ## build the wasm modules that the stories load into target/dist
	@cargo build -p test-modules --profile wasm --target $(WASM)
	@mkdir -p $(DIST)
	@install -C -m 644 $(TARGET)/$(WASM)/wasm/test_modules.wasm $(DIST)/faulty.wasm

# Linked as the shipped module is: the host calls what is exported.
bench-modules: tools-wasm
	@mkdir -p $(DIST)
	@for module in noop picker; do \
		cargo rustc -p $$module-module --profile wasm --target $(WASM) \
			-- -C linker="$(CURDIR)/filter/linker.py" && \
		install -C -m 644 $(TARGET)/$(WASM)/wasm/$${module}_module.wasm $(DIST)/$$module.wasm || exit 1; \
	done

check: tools-wasm ## formatting and lints, native and wasm, licences, shell and Python
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy -p pointsman-filter -p test-modules -p noop-module -p picker-module --target $(WASM) -- -D warnings
	cargo clippy -p pointsman-filter --no-default-features --tests --target $(WASM) -- -D warnings
	@$(PYTHON) tests/tools/lints.py

# REQUIRE=docker,kubernetes lets what needs them fail where it would be skipped.
# What waits runs beside what computes; the stories on Envoy have the machine to themselves.
test: ## check and every test below, then a summary of what ran on what
	@$(PYTHON) tests/tools/run_tests.py 'parts|check,test-tools,build' \
		'test-compose|test-unit,test-wasm,test-vm' test-e2e

test-tools: ## test the scripts of tests/tools, and the linker of the module
	@$(PYTHON) -m unittest discover --start-directory tests/tools --pattern '*_test.py'
	@$(PYTHON) -m unittest discover --start-directory filter --pattern '*_test.py'

test-unit: ## test the crates on this machine
	$(TESTS) --lib --bins --test layers --test parsers --test properties \
		--test simulation

# Never with -q: the runner does not know it. Optimised a little, because Node runs one test at a time.
test-wasm: tools-wasm ## test the routing core on wasm32 under Node
	@$(FETCH) node wasm-bindgen >/dev/null
	CARGO_PROFILE_TEST_OPT_LEVEL=1 cargo test -p pointsman-filter --no-default-features --target $(WASM) \
		--lib --tests --no-fail-fast

test-vm: wasm ## test the module in an interpreter: host calls, costs, a hostile host
	@export POINTSMAN_DIST="$(CURDIR)/$(DIST)" RECORD="$(RECORD)"; $(TESTS) --test vm

parts: ## fetch what the stories run on: Envoy, Redis, Prometheus; build the API server
	@$(FETCH) envoy >/dev/null
	@$(DEBIAN) --unpack redis-server prometheus:promtool prometheus >/dev/null
	@[ -n "$$KUBECONFIG" ] || $(FETCH) kubernetes >/dev/null || :

# Without an API server its stories are skipped, and the summary says why; with KUBECONFIG they run there.
# Stories wait more than they compute, so three times as many run at once as there are cores. What judges
# durations runs last and alone: no other story may slow it down.
test-e2e: build test-modules ## run the stories on a real Envoy, Redis and API server; ENVOY=/path takes another
	@envoy=$$($(FETCH) envoy) && redis=$$($(DEBIAN) --unpack redis-server) && \
	promtool=$$($(DEBIAN) --unpack prometheus:promtool) && \
	prometheus=$$($(DEBIAN) --unpack prometheus) || exit 1; \
	[ -n "$$KUBECONFIG" ] || kubernetes=$$($(FETCH) kubernetes) || kubernetes=; \
	export ENVOY="$$envoy" REDIS_SERVER="$$redis" PROMTOOL="$$promtool" PROMETHEUS="$$prometheus"; \
	export KUBERNETES="$$kubernetes" POINTSMAN_DIST="$(CURDIR)/$(DIST)"; \
	set -x; $(TESTS) --test e2e -- $(STORIES) --skip alone:: \
		--test-threads=$$(($$(nproc) * 3)) && failed=0 || failed=1; \
	$(TESTS) --test e2e -- $(or $(ALONE),alone::) --test-threads=1 && exit $$failed

# What depends on Envoy; not part of `make test`.
ROUTING := routing:: retries:: health:: fleet:: limits:: json_rpc:: deploy::bootstraps:: hostile::
test-matrix: ## run the routing stories on Envoy 1.37, 1.39 and 1.40, one after the other
	@failed=; for release in envoy-1.37 envoy-1.39 envoy; do \
		envoy=$$($(FETCH) $$release) || exit 1; \
		ENVOY="$$envoy" $(MAKE) --no-print-directory test-e2e STORIES="$(ROUTING)" \
			ALONE="alone::roles alone::route_policies alone::traps" || failed="$$failed $$release"; \
	done; echo "test-matrix: failed on:$${failed:- none}"; [ -z "$$failed" ]

test-compose: ## run the images and envoy/docker-compose.yaml on this machine's Docker engine
	@$(PYTHON) tests/tools/compose.py --stand-ins $(TESTS) --test compose

test-fresh: ## run README's commands on a fresh machine: a container, as a user without rights
	@$(PYTHON) tests/tools/fresh.py

images: ## build the images; STAND_INS=1 first makes base images for an engine without a registry
	@$(if $(STAND_INS),$(PYTHON) tests/tools/stand_ins.py make)
	docker build --file envoy/Dockerfile --target sidecar --tag pointsman .
	docker build --file envoy/Dockerfile --target module --tag pointsman-module .
	docker build --file envoy/Dockerfile --target envoy --tag pointsman-envoy .
	@docker images --filter reference='pointsman*'

compose-demo: ## up, changes and faults of envoy/docker-compose.yaml; KEEP=1, STAND_INS=1
	@$(PROGRESS) "the demo" $(RELEASE) --bin compose-demo
	@export KEEP="$(KEEP)"; $(PYTHON) tests/tools/compose.py $(if $(STAND_INS),--stand-ins) \
		$(if $(KEEP),--keep) "$(TARGET)/release/compose-demo"

# Optimised, as the sidecar is, so that what both need is compiled once.
demo: ## kill a backend under load and watch; KEEP=1 keeps everything running
	@echo "Three backends and a spare, the sidecar, and an Envoy with two workers. A backend is killed under"
	@echo "load and comes back; another is drained by an edit of the registry; then only the spare is left."
	@echo "No request may fail. That takes half a minute; to build it takes minutes, the first time."
	@echo
	@$(PROGRESS) "1 of 3, the filter" $(MAKE) --no-print-directory wasm
	@$(PROGRESS) "2 of 3, the sidecar" $(MAKE) --no-print-directory binary
	@$(PROGRESS) "3 of 3, the demo" $(RELEASE) --bin demo
	@envoy=$$($(FETCH) envoy) || exit 1; export ENVOY="$$envoy" POINTSMAN_DIST="$(CURDIR)/$(DIST)"; \
	export KEEP="$(KEEP)"; exec "$(TARGET)/release/demo"

# Optimised, because the load generator shares a core with the backends, and the core's own figures
# are of what would run natively.
bench: build bench-modules ## the figures, side by side, in target/bench; QUICK=1 takes a few minutes
	@envoy=$$($(FETCH) envoy) && valgrind=$$($(DEBIAN) --unpack valgrind) && \
		redis=$$($(DEBIAN) --unpack redis-server) || exit 1; \
	[ -n "$(QUICK)" ] || kubernetes=$$($(FETCH) kubernetes) || kubernetes=; \
	export ENVOY="$$envoy" VALGRIND="$$valgrind" REDIS_SERVER="$$redis"; \
	export KUBERNETES="$$kubernetes"; \
	export POINTSMAN_DIST="$(CURDIR)/$(DIST)"; \
	export QUICK="$(QUICK)"; $(RELEASE) --quiet --bin pointsman --bin bench && \
	exec "$(TARGET)/release/bench"

clean: ## remove what was built; fetched tools stay in .tools
	cargo clean

# rustup adds it by rust-toolchain.toml, but not to a toolchain that was there before.
tools-wasm:
	@ls "$$(rustc --print target-libdir --target $(WASM))" >/dev/null 2>&1 || rustup target add $(WASM)
