# Everything a newcomer needs: `make run`, `make test`. Each target installs what it needs itself.
CARGO ?= cargo
FUZZ_SECONDS ?= 60
ROUNDS ?= 200

PREVIOUS ?=

.PHONY: run test previous-test web web-dist check fuzz soak attack bench bench-store bench-bridge bench-stomp docs clauses yocto-check yocto-crates packages packages-test image bundle image-test

## Build the gateway quickly and start it on its embedded defaults (loopback only). For load, build with --release.
run: web
	$(CARGO) run --profile first-run -p headgate -- run

## Every test: unit, conformance, simulation, black box. The black-box tests install the clients they need.
test: web
	$(CARGO) build --workspace --all-targets
	HEADGATE_BINARY=$(abspath $(or $(CARGO_TARGET_DIR),target))/debug/headgate $(CARGO) test --workspace

## Falling back: an earlier gateway opens what this one has written, and then this one again. PREVIOUS=a tag or commit; else the newest tag, or the first commit with today's store.
previous-test:
	$(CARGO) build -p headgate
	previous=$$(tests/tools/previous.sh $(PREVIOUS)) && \
	HEADGATE_PREVIOUS=$$previous HEADGATE_BINARY=$(abspath $(or $(CARGO_TARGET_DIR),target))/debug/headgate $(CARGO) test -p headgate-tests --test blackbox_previous -- --include-ignored --nocapture

## The pages for browsers, which the gateway is built with: the demo page and SockJS' client. Without Node the gateway is built without them.
web:
	@if command -v npm >/dev/null; then \
	    cd gateway/web && { [ node_modules/.package-lock.json -nt package-lock.json ] || npm ci --loglevel=error; } && npm run --silent build || \
	    echo "the pages for browsers could not be built: see above; the gateway is built without them, or with what was there"; \
	else echo "no npm (Debian: apt-get install npm): the gateway is built without its pages for browsers"; fi

## The pages as an archive, for builds that have no Node: target/web-dist/headgate-pages.tar.gz, the same bytes for the same commit and packages.
web-dist:
	cd gateway/web && npm ci --loglevel=error && npm run --silent build
	mkdir -p target/web-dist
	git rev-parse HEAD:gateway/web > gateway/web/dist.commit
	tar --sort=name --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX --mtime=@$$(git log -1 --format=%ct) -c gateway/web/dist gateway/web/dist.commit | gzip -9n > target/web-dist/headgate-pages.tar.gz
	ls -l target/web-dist/headgate-pages.tar.gz

## Formatting, lints, documentation.
check:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --all-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps

## Mutated inputs against whatever reads bytes of strangers, each test for FUZZ_SECONDS: codecs, serial lines, the MQTT-SN gateway, the CoAP and LwM2M servers, the STOMP endpoint, SockJS requests, HTTP and PROXY heads.
fuzz:
	HEADGATE_FUZZ_SECONDS=$(FUZZ_SECONDS) $(CARGO) test --release -p headgate-dtls-codec -p headgate-mqtt-codec -p headgate-mqttsn-codec -p headgate-mqttsn -p headgate-coap-codec -p headgate-coap -p headgate-lwm2m-codec -p headgate-lwm2m -p headgate-stomp-codec -p headgate-stomp -p headgate-sockjs --test fuzz -- --nocapture
	HEADGATE_FUZZ_SECONDS=$(FUZZ_SECONDS) $(CARGO) test --release -p headgate-dtls -p headgate-shell --lib mutated -- --nocapture

## Rounds of `kill -9` while messages come in and go out: ROUNDS of them, progress on the way.
soak:
	HEADGATE_KILL_ROUNDS=$(ROUNDS) $(CARGO) test -p headgate-tests --test blackbox_kill --test blackbox_stomp_kill -- --nocapture

## Floods, full memory, pauses and amplification by anybody who can reach a port, with figures; on loopback, some minutes.
attack:
	HEADGATE_ATTACK=1 $(CARGO) test --release -p headgate-tests --test attack -- --nocapture --test-threads=1
	$(CARGO) test --release -p headgate-mqttsn --test amplify -- --nocapture
	HEADGATE_ATTACK=1 $(CARGO) test --release -p headgate-tests --test blackbox_passwords -- --nocapture

## What messages, subscriptions and connections cost, beside Debian's mosquitto or BASELINE=another headgate; about a quarter of an hour, fewer CASES=regex
## in less. The tables go into docs/performance.md, if nothing was left out.
bench:
	$(CARGO) build --release -p headgate
	tests/tools/bench.sh $(if $(CASES)$(BASELINE)$(SETTINGS),,--write) $${CARGO_TARGET_DIR:-target}/release/headgate

## What a bridge writes and how fast it drains, beside mosquitto's bridge.
bench-bridge:
	$(CARGO) build --release -p headgate
	tests/tools/bench_bridge.sh $${CARGO_TARGET_DIR:-target}/release/headgate

## What a STOMP message costs, beside Debian's RabbitMQ; a few minutes, fewer CASES=regex in less. The table goes into docs/performance.md, if nothing was left out.
bench-stomp:
	$(CARGO) build --release -p headgate
	tests/tools/bench_stomp.sh $(if $(CASES)$(OTHER),,--write) $${CARGO_TARGET_DIR:-target}/release/headgate

## What it costs to store and drain messages, beside mosquitto; and what the flash bears.
bench-store:
	$(CARGO) build --release -p headgate -p headgate-store --example churn
	$(CARGO) build --release -p headgate
	SETTINGS=pinned CASES='^offline|--durable' tests/tools/bench.sh $${CARGO_TARGET_DIR:-target}/release/headgate
	$${CARGO_TARGET_DIR:-target}/release/examples/churn

## The configuration reference, from the program itself.
docs:
	$(CARGO) run -q -p headgate -- check --reference > docs/configuration.md.new
	mv docs/configuration.md.new docs/configuration.md

## The matrices of the statements of MQTT, CoAP and LwM2M, and their tests.
clauses:
	$(CARGO) run -q -p headgate-tests --bin clauses

## The Yocto layer, without a build: parsed, fetched and unpacked without a network, planned, linted. YOCTO_LAYERS=DIR has bitbake, openembedded-core and meta-rauc; or they are cloned.
yocto-check:
	yocto/check.sh

## The list of crates that the Yocto recipe fetches, from Cargo.lock.
yocto-crates:
	yocto/crates.py

## Packages for amd64, arm64 and armhf, or ARCHES=arm64: deb, rpm, tar, an OCI image layout. Debian 12, as root where tools are missing; an hour of one core for all. docs/appliance.md
packages: web
	firmware-image/build.sh $(ARCHES)
	firmware-image/self-check.sh $(ARCHES)
	firmware-image/unit-check.sh
	firmware-image/deb.sh $(ARCHES)
	firmware-image/rpm.sh $(ARCHES)
	firmware-image/tar.sh $(ARCHES)
	firmware-image/oci.sh $(ARCHES)

## The Debian package installed, upgraded, removed and purged in clean root file systems, that of arm64 in emulation.
packages-test:
	firmware-image/packages-test.sh

## The image to flash for BOARD=qemu-virt or another one of firmware-image/boards, from the program for arm64 that `make packages` has left; as root.
image:
	[ -x "$${CARGO_TARGET_DIR:-target}/firmware-image/bin/arm64/headgate" ] || { $(MAKE) web && firmware-image/build.sh arm64; }
	firmware-image/image.sh

## A signed update of what `make image` has left, for the same BOARD.
bundle:
	firmware-image/bundle.sh

## The image in emulation: boot, updates that work, break or are refused, power cuts at each step, within writes of the boot environment
## and at ROUNDS random moments, with figures. An hour and a half for all on two cores; CASES=boot,refuse,update,fallback,watchdog,provision,reset,clock,idle,cut,environment,random.
image-test:
	ROUNDS=$(if $(filter file,$(origin ROUNDS)),2,$(ROUNDS)) firmware-image/image-test.sh
