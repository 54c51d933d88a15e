# Weftnet: `make lab` and `make test` do everything on a fresh machine. `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -uo pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
TARGET := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
OUT ?= target/$(TARGET)/debug
LAB := $(OUT)/weft-lab
RELEASE := target/$(TARGET)/release
SCENARIOS ?= lab/scenarios/network-model

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

.PHONY: prerequisites
prerequisites: ## install what is missing: compilers, nft, headers
	@scripts/prerequisites

.PHONY: build
build: prerequisites ## build all programs (debug)
	$(CARGO) build --workspace --bins

.PHONY: release
release: prerequisites ## build all programs, optimised
	$(CARGO) build --release --workspace --bins

.PHONY: assets
assets: build ## find or build Kubernetes, etcd, containerd and the rest for the lab
	$(LAB) assets

.PHONY: images
images: build ## make the images as OCI archives
	$(LAB) images

.PHONY: lab
lab: assets ## a three-node Kubernetes with Weftnet, scenarios run on it, left up to use
	@$(LAB) status >/dev/null 2>&1 && echo "the lab is up already; make down takes it down" || $(LAB) up --nodes 3
	$(LAB) run $(SCENARIOS)
	@$(LAB) status

.PHONY: down
down: ## take the lab down
	$(LAB) down

.PHONY: lint
lint: prerequisites ## formatting, lints, spelling, shell scripts
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	scripts/spelling
	shellcheck scripts/prerequisites scripts/spelling scripts/test .ci/run

.PHONY: test
test: prerequisites ## everything that CI checks, in about 40 minutes without caches
	scripts/test

.PHONY: unit
unit: prerequisites ## what needs no cluster
	$(CARGO) test --workspace

.PHONY: scenarios
scenarios: assets ## the long set: every scenario in full, Kubernetes' own tests, with reports
	$(LAB) up --name scenarios --nodes 3
	$(LAB) run --name scenarios --full --report lab/reports/all lab/scenarios; code=$$?; \
	  $(LAB) upstream-e2e --name scenarios --report lab/reports/upstream-e2e.txt \
	    --focus '\[sig-network\] (Services|Networking Granular Checks)' || code=$$?; \
	  $(LAB) down --name scenarios; exit $$code

.PHONY: conformance
conformance: build ## all conformance suites of Services and policies, by rules and by packets
	$(LAB) conformance --packets tests/conformance/services/*.yaml tests/conformance/policy/*.yaml tests/conformance/policy/*.gz

.PHONY: bench
bench: release ## benchmarks against the reference plugins
	$(RELEASE)/weft-lab bench cni
	$(RELEASE)/weft-lab bench datapath
	$(RELEASE)/weft-lab bench services
	$(RELEASE)/weft-lab bench policy
	$(RELEASE)/weft-lab bench dns

.PHONY: generate
generate: ## write the CustomResourceDefinitions and other generated files
	$(CARGO) run -q -p weft-crds --bin weft-crds helm/weftnet-crds/templates

.PHONY: clean
clean: ## remove what was built here; caches elsewhere stay
	$(CARGO) clean
