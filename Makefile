# Quorate. `make help` lists what there is.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory

TOOL := go tool -modfile=tools/go.mod
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
# component-base panics at the start if the version is no version.
RELEASE := $(shell v='$(VERSION)'; [[ $$v =~ ^v[0-9]+[.][0-9]+[.][0-9]+ ]] || v=v0.0.0-$$v; echo "$$v")
LDFLAGS := -s -w -X k8s.io/component-base/version.gitVersion=$(RELEASE)

# Tests that start servers of their own mostly wait: two packages run side by side.
TESTS := go list -f '{{.ImportPath}} {{.Imports}} {{.TestImports}} {{.XTestImports}}' ./...
LAB := 'quorate/test/lab( |])'
# The race detector needs a C compiler, which a bare machine does not have.
RACE = $(if $(filter 1,$(shell go env CGO_ENABLED)),-race)
# Temporary files of tests go with them, after Ctrl-C too.
SCRATCH := export TMPDIR=$$(mktemp -d); trap 'rm -rf "$$TMPDIR" || rm -rf "$$TMPDIR"' EXIT;

# Says every 10 s for how long a command that says nothing runs already.
PATIENTLY = patiently() { local what=$$1; shift; \
	(s=0; while :; do read -rt 10 <> <(:) || true; echo "  ($$what: $$((s += 10))s so far)"; done) & \
	trap "kill $$!" EXIT; "$$@"; }; patiently

.NOTPARALLEL:

.PHONY: help
help: ## What can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  \033[1m%-17s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## The main job, seen working: real ZooKeeper, real scheduler, no cluster (KEEP=1 leaves it running)
	@$(PATIENTLY) "compiling the demo" go build -o /dev/null ./test/setup ./test/demo
	@go run ./test/setup -only packages
	@go run ./test/demo

.PHONY: test
test: deps verify verify-image test-short test-real ## Every test, on real ZooKeeper and a real control plane (installs and builds what it needs)

# A history is played by one goroutine: the race detector, which takes ten times the time, sees a few
# of them (TestHistoriesRepeat), not all.
HISTORIES := '^TestHistories(Catch)?$$'

.PHONY: test-short
test-short: ## The tests that start no server
	@echo "== tests without servers"
	@$(SCRATCH) go test $(RACE) -count=1 -timeout 20m -skip $(HISTORIES) $$($(TESTS) | grep -Ev $(LAB) | cut -d' ' -f1)
	@echo "== histories"
	@$(SCRATCH) go test -count=1 -timeout 20m -run $(HISTORIES) ./ensemble/membership ./extender

.PHONY: test-real
test-real: deps ## The tests on real servers
	@echo "== tests on real servers"
	@$(SCRATCH) go test -count=1 -p 2 -timeout 30m $$($(TESTS) | grep -E $(LAB) | cut -d' ' -f1)

.PHONY: chaos
chaos: deps ## Long fault runs, some three hours (CHAOS_RUN=REGEXP selects, CHAOS_TIMEOUT bounds a package)
	@$(SCRATCH) QUORATE_CHAOS=1 go test -count=1 -v -p 1 -timeout $${CHAOS_TIMEOUT:-150m} -run "$${CHAOS_RUN:-.}" \
		$$(git grep -l QUORATE_CHAOS -- '*_test.go' | xargs -n 1 dirname | sort -u | sed 's|^|./|')

.PHONY: fuzz
fuzz: ## Feed the parsers of answers with garbage, each for FUZZTIME (30s)
	@for f in $$(grep -oh '^func Fuzz[A-Za-z]*' ensemble/probe/*_test.go | cut -d' ' -f2); do \
	  echo "== $$f"; go test -run '^$$' -fuzz "^$$f$$" -fuzztime $${FUZZTIME:-30s} ./ensemble/probe; \
	done

.PHONY: bench
bench: deps ## Measure beside peers; writes build/bench.json
	@go run ./test/setup -only peers
	@mkdir -p build && rm -f build/bench.json
	@$(SCRATCH) go test -run '^$$' -bench . -benchmem -p 1 -timeout 60m $${BENCH:-./...}
	@go run ./test/bench/table build/bench.json

.PHONY: build
build: ## The binary for this machine, in build/
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o build/quorate ./cmd/quorate

IMAGE_ROOT ?= build/image
RELEASE_DIR ?= build/release
PLATFORMS := linux/amd64 linux/arm64 darwin/arm64

.PHONY: image-root
image-root: ## The image's root file system, in IMAGE_ROOT (GOOS, GOARCH, VERSION)
	mkdir -p $(IMAGE_ROOT)/etc
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)' -o $(IMAGE_ROOT)/quorate ./cmd/quorate
	echo 'quorate:x:65532:65532::/:/none' > $(IMAGE_ROOT)/etc/passwd
	echo 'quorate:x:65532:' > $(IMAGE_ROOT)/etc/group

# As the user that the Dockerfile names, who owns nothing there; whoever is not root can't
# become another one, and only seems to be.
AS_IMAGE = $(if $(filter 0,$(shell id -u)),chroot --userspec=+65532:+65532,unshare --map-user=65532 --map-group=65532 --wd=/ --root) $(IMAGE_ROOT)

.PHONY: image-check
image-check: image-root ## Run the binary in the image's root file system, as the image does (Linux)
	$(AS_IMAGE) /quorate --version
	$(AS_IMAGE) /quorate serve --write-config | grep -q 'kind: QuorateConfiguration'

.PHONY: verify-image
verify-image: image-check ## The image's binary runs, and is the same built in another folder (Linux)
	@$(SCRATCH) mkdir "$$TMPDIR/src"; git ls-files -co --exclude-standard -z | xargs -0 cp --parents -t "$$TMPDIR/src"; \
	$(MAKE) -C "$$TMPDIR/src" image-root VERSION='$(VERSION)' IMAGE_ROOT="$$TMPDIR/image" > "$$TMPDIR/log"; \
	cmp $(IMAGE_ROOT)/quorate "$$TMPDIR/image/quorate"

# Binaries for other machines are compiled from nothing, a minute each: here alone. Tests
# release for this one.
.PHONY: release
release: ## Binaries of all platforms with SBOMs and checksums, in RELEASE_DIR
	rm -rf $(RELEASE_DIR) && mkdir -p $(RELEASE_DIR)
	for p in $(PLATFORMS); do \
	  out=$(RELEASE_DIR)/quorate_$${p%/*}_$${p#*/}; \
	  CGO_ENABLED=0 GOOS=$${p%/*} GOARCH=$${p#*/} go build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)' -o $$out ./cmd/quorate; \
	  go run ./test/release $$out > $$out.cdx.json; \
	done
	cd $(RELEASE_DIR) && sha256sum quorate_* > SHA256SUMS

.PHONY: deps
deps: ## Install and build what the tests and the demo need, once
	@$(PATIENTLY) "compiling what installs" go build -o /dev/null ./test/setup
	@go run ./test/setup

.PHONY: generate
generate: ## Rewrite everything that is generated
	go generate ./...

.PHONY: verify
verify: verify-fmt verify-mod verify-generated verify-lint ## All checks that are not tests

.PHONY: verify-fmt
verify-fmt: ## Every file is gofmt'ed
	@out=$$(git ls-files -co --exclude-standard '*.go' | xargs gofmt -l); [ -z "$$out" ] || { echo "not gofmt'ed: $$out"; exit 1; }

# Without test/promql: what the tests of Prometheus need is 280 MB to download.
.PHONY: verify-mod
verify-mod: ## go.mod and go.sum are tidy
	@for m in . tools test/controlplane; do (cd $$m && go mod tidy -diff) || { echo "$$m: run go mod tidy"; exit 1; }; done

.PHONY: verify-generated
verify-generated: ## What is generated is up to date
	@before=$$(git diff | git hash-object --stdin); go generate ./...; \
	[ "$$before" = "$$(git diff | git hash-object --stdin)" ] || { git diff --stat; echo "generated files were stale: commit what make generate wrote"; exit 1; }

.PHONY: verify-lint
verify-lint: ## The linters have nothing to say
	@echo "== lint (the linter itself is built the first time: about three minutes)"
	go vet ./...
	cd test/controlplane && GOFLAGS= go vet ./... # as it was built, or all of Kubernetes is compiled again
	cd test/promql && GOFLAGS= go vet ./...
	$(TOOL) golangci-lint run
	$(TOOL) logcheck -check-contextual ./...

.PHONY: clean
clean: ## Remove build/
	rm -rf build
