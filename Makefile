# resolverd. `make run` shows the job, `make test` proves it, `make help` lists the rest.

SHELL   := /bin/bash
CACHE   := $(CURDIR)/.cache
TOOLS   := $(CACHE)/bin
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)

# Plain packages whose concurrency is worth the race detector's time.
RACE := ./internal/... ./registry/... ./cache/... ./forward/... ./agent/... ./api/... ./plugin/...

export CGO_ENABLED ?= 0

.DEFAULT_GOAL := help
.PHONY: help build run test unit race lint fmt fuzz bench tools peers clean

help: ## this list
	@awk -F':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## bin/resolverd
	go build -trimpath -ldflags '$(LDFLAGS)' -o bin/resolverd ./cmd/resolverd

run: build ## shows the job on loopback, in .run; Ctrl-C stops
	@exec bin/resolverd run --demo --data-dir .run

test: peers tools lint unit race ## everything: installs what it needs, then linter and every test

# One package at a time: they use the ports that users do, and two cores are busy with one.
unit: build ## every test, against the real peers
	PATH=$(TOOLS):$$PATH go test -p 1 -count=1 -timeout 20m $$(go list ./... | grep -v /test/coredns)
	@# CoreDNS's own tests race with themselves on a busy host: nothing beside them.
	go test -count=1 -timeout 20m ./test/coredns

race: ## the concurrent packages under the race detector
	CGO_ENABLED=1 go test -race -p 1 -short -count=1 -timeout 15m $(RACE)

lint: tools ## the pinned linter
	$(TOOLS)/golangci-lint run ./...

fmt: tools ## the pinned formatter
	$(TOOLS)/gofumpt -w $$(git ls-files '*.go')

peers: ## the programs that tests run beside ours, from Debian
	test/install

tools: $(TOOLS)/golangci-lint $(TOOLS)/consul ## the pinned linter and the real Consul, built from the module proxy

$(TOOLS)/golangci-lint: tools/lint/go.mod
	cd tools/lint && go build -o $(TOOLS)/ github.com/golangci/golangci-lint/v2/cmd/golangci-lint mvdan.cc/gofumpt

$(TOOLS)/consul: tools/consul/go.mod
	cd tools/consul && go build -o $@ github.com/hashicorp/consul

clean: ## remove what was built
	rm -rf bin .cache .run

bench: build $(TOOLS)/coredns $(TOOLS)/consul ## CPU per query beside the peers, into docs/benchmarks.md; BENCH='-row cached' for less
	test/install bench
	go build -o $(TOOLS)/bench ./test/bench
	$(TOOLS)/bench $(or $(BENCH),-write docs/benchmarks.md)

$(TOOLS)/coredns: tools/coredns/go.mod
	cd tools/coredns && go build -o $@ github.com/coredns/coredns
