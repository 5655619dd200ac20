# Everything here works on a fresh Debian machine that has Go and make: what a
# target needs besides, it gets (see tools/need).

GO      ?= go
NEED    := tools/need
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
COMMIT  := $(shell git rev-parse --short=12 HEAD 2>/dev/null)
LDFLAGS := -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)

PLATFORMS := linux/amd64 linux/arm64 darwin/amd64 darwin/arm64
MAJORS    ?= 13 14 15 16 17 18
FUZZTIME  ?= 60s
# How long one package may take, and its packages all together.
TIMEOUT   ?= 19m

# A clone that belongs to somebody else must build, too.
export GOFLAGS ?= -buildvcs=false
# No test asks a cloud who it is.
export AWS_EC2_METADATA_DISABLED := true
# A program with the race detector waits a second before it ends, and tests end hundreds.
export GORACE ?= atexit_sleep_ms=0

.PHONY: help build man packages packages-test demo test test-long test-matrix check vet lint fmt cross bench fuzz clean need-test

help: ## show this text
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build the binary for this machine: build/walrecv
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o build/walrecv ./cmd/walrecv

# Not with go run, which would end at a SIGTERM and leave the program to itself.
demo: build ## lose a primary and get every committed row back, in half a minute
	@$(NEED) pg15 zstd
	@CGO_ENABLED=0 $(GO) build -trimpath -o build/demo ./internal/demo
	@build/demo

test: check need-test ## check the code and run all tests (PostgreSQL 15 and 18)
	$(GO) test -race -timeout $(TIMEOUT) ./...

test-long: check need-test ## the same tests, in their long form: an hour and more
	@$(NEED) patroni pgclient18
	WALRECV_TEST_LONG=1 $(GO) test -timeout 3h ./...

# What is not asked of a server does not change with it: these packages do ask one.
# On two cores a major took 7 minutes to 13, and 18 where much else was done.
test-matrix: ## what servers are asked, of every PostgreSQL major: make test-matrix MAJORS="13 17"
	@$(NEED) pg15 pg18 $(MAJORS:%=pg%) pgclient18 zstd lz4 strace versitygw chromium
	@tools/matrix "$(MAJORS)" ./integration ./internal/verify ./internal/recovery

need-test:
	@$(NEED) pg15 pg18 zstd lz4 strace cc versitygw chromium promtool age

check: vet ## formatting, go vet, and that it builds for every platform
	@unformatted=$$(gofmt -l .); [ -z "$$unformatted" ] || { echo "gofmt -w $$unformatted"; exit 1; }
	@for platform in $(PLATFORMS); do \
		echo "CGO_ENABLED=0 go build ./... # $$platform"; \
		CGO_ENABLED=0 GOOS=$${platform%/*} GOARCH=$${platform#*/} $(GO) build ./... || exit 1; \
	done

vet:
	$(GO) vet ./...
	GOOS=darwin $(GO) vet ./...

lint: ## golangci-lint and shellcheck
	@$(NEED) golangci-lint shellcheck
	build/bin/golangci-lint run
	shellcheck packaging/make-packages packaging/postinst packaging/prerm packaging/postrm packaging/rootfs tools/sbom/write packaging/testdata/boot.sh packaging/testdata/scenario.sh tools/need tools/fuzz tools/matrix internal/pgtest/watchdog.sh .ci/run

fmt: ## format the code as make lint wants it
	@$(NEED) golangci-lint
	build/bin/golangci-lint fmt

cross: ## build release binaries for all platforms: build/walrecv-OS-ARCH
	@for platform in $(PLATFORMS); do \
		os=$${platform%/*} arch=$${platform#*/}; \
		echo "build/walrecv-$$os-$$arch"; \
		CGO_ENABLED=0 GOOS=$$os GOARCH=$$arch $(GO) build -trimpath -ldflags '$(LDFLAGS)' \
			-o build/walrecv-$$os-$$arch ./cmd/walrecv || exit 1; \
	done

# ROWS: which rows of the table, a regular expression; ROUNDS: how many runs of each.
ROWS   ?= .
ROUNDS ?= 3
bench: ## measure walrecv beside what people use today: make bench ROWS=recovery ROUNDS=3
	@$(NEED) pg15 versitygw
	$(GO) test -run '^$$' -bench '(?i)$(ROWS)' -benchtime $(ROUNDS)x -timeout 2h -v ./bench

man: ## write the manual and the completions of shells: build/man, build/completions
	@mkdir -p build
	@CGO_ENABLED=0 $(GO) build -trimpath -tags man -ldflags '$(LDFLAGS)' -o build/manual ./cmd/walrecv
	@build/manual build

packages: ## build Debian and RPM packages: build/packages
	@$(NEED) nfpm
	rm -rf build/packages
	packaging/make-packages build/packages amd64
	packaging/make-packages build/packages arm64

packages-test: ## build and test what is released: packages, units, images, manifests
	@$(NEED) nfpm packages pg15
	$(GO) vet -tags man ./cmd/walrecv
	$(GO) vet -tags snapshot ./packaging
	$(GO) test -tags packages -timeout $(TIMEOUT) ./packaging

snapshot: ## make a release that is not published, and check it: dist
	@$(NEED) nfpm goreleaser
	build/bin/goreleaser check
	build/bin/goreleaser release --snapshot --clean
	$(GO) test -count=1 -tags snapshot ./packaging

fuzz: ## run every fuzz target for FUZZTIME (60s)
	tools/fuzz $(FUZZTIME)

clean: ## remove all that was built and fetched
	rm -rf build
