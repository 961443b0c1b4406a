# make help lists the targets. RUN_DIR is where the scratch stack lives; PORT_SMTP= and so on fix its ports.
SHELL := /bin/bash
RUN_DIR ?= .run
STACK := bin/understudy-stack
export RUN_DIR
# A checkout that belongs to another user than root has no version to stamp.
export GOFLAGS += -buildvcs=false

.DEFAULT_GOAL := help
.PHONY: help build up demo down test test-deploy check bench generate deploy

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

build: ## compile the five services and the stack's command into bin/
	@mkdir -p bin
	@for s in milter policyd dovecot-auth worker admin; do go build -o bin/understudy-$$s ./$$s || exit 1; done
	@go build -o $(STACK) ./internal/stack/cmd

up: ## start everything on free loopback ports below RUN_DIR (as root)
	@command -v go >/dev/null || { echo "Go is not installed: see https://go.dev/doc/install" >&2; exit 1; }
	@mkdir -p bin && go build -o $(STACK) ./internal/stack/cmd
	@$(STACK) -dir "$(RUN_DIR)" up

demo: ## play the outage story against the running stack
	@test -e "$(RUN_DIR)/stack.json" || { echo "no stack runs in $(RUN_DIR): make up" >&2; exit 1; }
	@go run ./internal/story/cmd -stack "$(RUN_DIR)/stack.json"

down: ## stop everything and remove RUN_DIR
	@tool="$(RUN_DIR)/bin/understudy-stack"; \
	if [ ! -x "$$tool" ]; then mkdir -p bin && go build -o $(STACK) ./internal/stack/cmd && tool="$(STACK)"; fi; \
	"$$tool" -dir "$(RUN_DIR)" down

test: ## build, static checks, then all tests, on real servers (as root)
	@.ci/checks
	go test -race -shuffle=on -timeout 20m ./...

check: ## the fast part: build, static checks, tests that start no server
	@.ci/checks
	go test -shuffle=on $$(.ci/fast-packages)

bench: ## all benchmarks, against their goals, about an hour (as root); BENCH=regexp runs some, BENCH_FLAGS=-short tries them
	go run ./internal/bench/cmd -run '$(BENCH)' $(BENCH_FLAGS)

generate: ## regenerate the code of the pages
	go tool templ generate

deploy: build ## install everything on this host with Ansible (as root)
	@.ci/packages ansible
	cd ansible && ansible-playbook -i inventory/localhost.yml site.yml

test-deploy: ## deploy into bare Debian 12 and 13 machines (chroot, systemd-nspawn) and try them, about 10 minutes
	@.ci/packages deploytest
	go test -tags deploy -timeout 60m -v ./internal/deploytest
