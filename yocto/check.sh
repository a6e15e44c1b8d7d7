#!/usr/bin/env bash
# Checks meta-headgate without building anything: bitbake parses it, plans the image and the bundle, fetches and unpacks the gateway and its crates
# without a network, and goes as far as it gets without a compiler; oelint and kas find no fault. Minutes, and 1 GB below target/yocto.
#
#   YOCTO_LAYERS=DIR     a folder with bitbake, openembedded-core and meta-rauc as git clones. Without it they are cloned, as kas-headgate.yml has them.
#   YOCTO_MACHINES="…"   machines to plan images for. Default: qemuarm64.
#   YOCTO_WORK=DIR       where to work. Default: target/yocto.
#
# Where there are no layers and no network to get them from, it says so and is skipped: exit code 0, unless YOCTO_REQUIRED=1.
set -euo pipefail
cd "$(dirname "$0")/.."
readonly ROOT=$PWD KAS_FILE=yocto/kas-headgate.yml
readonly MACHINES=${YOCTO_MACHINES:-qemuarm64}
TOOLS=$ROOT/target/yocto/venv

say() { printf '[%s] %s\n' "$(date +%T)" "$*"; }
fail() {
    printf 'yocto-check: %s\n' "$*" >&2
    exit 1
}
skip() {
    printf 'yocto-check: skipped: %s\n' "$*" >&2
    exit "${YOCTO_REQUIRED:-0}"
}

summary=()
row() { summary+=("$(printf '%-34s %-8s %s' "$1" "${3:-ok}" "$2")"); }

# step NAME COMMAND…: runs it, keeps what it says in a log, and shows the end of that when it fails.
step() {
    local name=$1 log=$WORK/logs/${1// /-}.log began=$SECONDS
    shift
    say "$name …"
    if ! "$@" >"$log" 2>&1; then
        tail -40 "$log" >&2
        fail "$name failed; all of it is in $log"
    fi
    took=$((SECONDS - began))
}

## The machine.

# bitbake refuses root: then it runs as `nobody`, in a folder that `nobody` reaches.
as_user() {
    if [ "$(id -u)" = 0 ]; then
        setpriv --reuid=nobody --regid=nogroup --clear-groups -- env HOME="$WORK/home" USER=nobody "$@"
    else
        "$@"
    fi
}
reaches() { as_user test -r "$1" -a -x "$1"; }

WORK=${YOCTO_WORK:-$ROOT/target/yocto}
mkdir -p "$WORK"
if [ -z "${YOCTO_WORK:-}" ] && ! reaches "$WORK"; then
    WORK=/var/tmp/headgate-yocto
    mkdir -p "$WORK"
fi
reaches "$WORK" || fail "the user \`nobody\`, as whom bitbake runs, does not reach $WORK: set YOCTO_WORK"
mkdir -p "$WORK"/{logs,home,build/conf,downloads}

install_missing() {
    local missing=() pair
    for pair in chrpath:chrpath diffstat:diffstat gawk:gawk cpio:cpio rpcgen:rpcsvc-proto lz4c:lz4 zstd:zstd file:file localedef:locales \
        setpriv:util-linux git:git gcc:gcc g++:g++ make:make patch:patch perl:perl xz:xz-utils wget:wget bzip2:bzip2; do
        command -v "${pair%:*}" >/dev/null || missing+=("${pair#*:}")
    done
    python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv)
    [ -e /usr/share/i18n/locales/en_US ] || locale -a | grep -qx 'en_US.utf8' || missing+=(locales)
    if [ ${#missing[@]} -gt 0 ]; then
        [ "$(id -u)" = 0 ] || skip "packages are missing; as root: apt-get install --no-install-recommends ${missing[*]}"
        say "installing ${missing[*]} …"
        { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"; } >"$WORK/logs/apt.log" 2>&1 ||
            skip "could not install ${missing[*]}: see $WORK/logs/apt.log"
    fi
    # Without this locale bitbake does not start.
    if ! locale -a | grep -qx 'en_US.utf8'; then
        [ "$(id -u)" = 0 ] || skip "the locale en_US.UTF-8 is missing; as root: localedef -i en_US -f UTF-8 en_US.UTF-8"
        localedef -i en_US -f UTF-8 en_US.UTF-8
    fi
}

install_tools() {
    [ -x "$TOOLS/bin/python" ] || python3 -m venv "$TOOLS"
    "$TOOLS/bin/python" -c 'import oelint_adv, kas, jsonschema' 2>/dev/null ||
        "$TOOLS/bin/pip" install -q oelint-adv==9.11.2 kas==5.5 >"$WORK/logs/pip.log" 2>&1 ||
        skip "could not install oelint-adv and kas: see $WORK/logs/pip.log"
}

## Layers.

# The repositories of the kas file: name, url, branch, commit.
repositories() {
    "$TOOLS/bin/python" - "$KAS_FILE" <<'PYTHON'
import sys, yaml
for name, repo in yaml.safe_load(open(sys.argv[1]))["repos"].items():
    if repo.get("url"):
        print(name, repo["url"], repo["branch"], repo["commit"])
PYTHON
}

layers() {
    local repository name url branch commit found
    LAYERS=$WORK/layers
    mkdir -p "$LAYERS"
    mapfile -t REPOSITORIES < <(repositories)
    for repository in "${REPOSITORIES[@]}"; do
        read -r name url branch commit <<<"$repository"
        local layer=$LAYERS/$name
        if [ -n "${YOCTO_LAYERS:-}" ]; then
            [ -d "$YOCTO_LAYERS/$name" ] || skip "no $name in YOCTO_LAYERS=$YOCTO_LAYERS; wanted is branch $branch of $url"
            # Copied: whoever runs bitbake may not read them there.
            if [ ! -e "$layer/.from" ] || [ "$(cat "$layer/.from")" != "$YOCTO_LAYERS/$name $(git -C "$YOCTO_LAYERS/$name" rev-parse HEAD)" ]; then
                rm -rf "$layer"
                git -c advice.detachedHead=false clone -q --shared "$YOCTO_LAYERS/$name" "$layer"
                echo "$YOCTO_LAYERS/$name $(git -C "$YOCTO_LAYERS/$name" rev-parse HEAD)" >"$layer/.from"
            fi
        elif [ ! -d "$layer/.git" ] || [ "$(git -C "$layer" rev-parse HEAD)" != "$commit" ]; then
            rm -rf "$layer"
            say "cloning $name …"
            GIT_TERMINAL_PROMPT=0 timeout 900 git clone -q --depth 1 --single-branch -b "$branch" "$url" "$layer" 2>"$WORK/logs/clone.log" ||
                skip "no YOCTO_LAYERS is set, and $url cannot be cloned: $(tail -1 "$WORK/logs/clone.log")"
            [ "$(git -C "$layer" rev-parse HEAD)" = "$commit" ] || {
                git -C "$layer" fetch -q --depth 1 origin "$commit" && git -C "$layer" checkout -q "$commit"
            } 2>>"$WORK/logs/clone.log" || skip "$name has no commit $commit"
        fi
        found=$(git -C "$layer" rev-parse HEAD)
        if [ "$found" = "$commit" ]; then
            row "layer $name" "$branch, ${found:0:10}"
        else
            row "layer $name" "${found:0:10}, and not ${commit:0:10} of $branch as in $KAS_FILE" other
        fi
    done
}

## What bitbake gets: the layer and the pages as they are here, the gateway's sources as they were committed, crates from cargo's own cache.

sources() {
    rm -rf "$WORK/meta-headgate" "$WORK/source.git"
    cp -r yocto/meta-headgate "$WORK/"
    git clone -q --bare . "$WORK/source.git"
    git -C "$WORK/source.git" rev-parse HEAD
    mkdir -p "$WORK/pages"
    if [ -e target/web-dist/headgate-pages.tar.gz ]; then
        cp target/web-dist/headgate-pages.tar.gz "$WORK/pages/"
    else
        # In its form: what is checked is where they go.
        mkdir -p "$WORK/pages/gateway/web/dist/ui"
        echo 'pages that were not built' >"$WORK/pages/gateway/web/dist/ui/index.html"
        git rev-parse HEAD:gateway/web >"$WORK/pages/gateway/web/dist.commit"
        tar -C "$WORK/pages" -czf "$WORK/pages/headgate-pages.tar.gz" gateway
    fi
}

crates() {
    local cache=${CARGO_HOME:-$HOME/.cargo}/registry/cache wanted name
    missing=()
    wanted=$(sed -n 's|^ *crate://crates.io/\(.*\)/\(.*\) \\$|\1-\2.crate|p' yocto/meta-headgate/recipes-connectivity/headgate/headgate-crates.inc)
    for name in $wanted; do
        [ -e "$WORK/downloads/$name" ] || cp "$cache"/*/"$name" "$WORK/downloads/" 2>/dev/null || missing+=("$name")
    done
    if [ ${#missing[@]} -gt 0 ]; then
        say "cargo downloads ${#missing[@]} crates …"
        cargo fetch -q --locked || skip "crates are missing, and cargo cannot get them: ${missing[*]:0:5} …"
        for name in "${missing[@]}"; do cp "$cache"/*/"$name" "$WORK/downloads/"; done
    fi
    CRATES=$(wc -w <<<"$wanted")
}

# pseudo, which pretends to be root while files are installed, would have to be built.
without_fakeroot() {
    mkdir -p "$WORK/extra/classes"
    cat >"$WORK/extra/classes/without-fakeroot.bbclass" <<'END'
python () {
    d.delVarFlag('do_install', 'fakeroot')
}
END
    echo 'INHERIT += "without-fakeroot"' >"$WORK/extra/without-fakeroot.conf"
}

# A key of this run, so that there is something to sign and to check bundles with.
keys() {
    [ -e "$WORK/keys/ca.pem" ] || {
        mkdir -p "$WORK/keys"
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=yocto-check -keyout "$WORK/keys/key.pem" -out "$WORK/keys/ca.pem" 2>/dev/null
        : >"$WORK/keys/authorized_keys"
    }
}

configuration() {
    # What was done before is done again; what was parsed before is kept.
    [ ! -d "$WORK/build/tmp" ] || find "$WORK/build/tmp" -mindepth 1 -maxdepth 1 ! -name cache -exec rm -rf {} +
    cat >"$WORK/build/conf/bblayers.conf" <<END
BBPATH = "\${TOPDIR}:$WORK/extra"
BBFILES = ""
BBLAYERS = "$LAYERS/openembedded-core/meta $LAYERS/meta-rauc $WORK/meta-headgate"
END
    cat >"$WORK/build/conf/local.conf" <<END
DISTRO = "nodistro"
$("$TOOLS/bin/python" -c 'import sys, yaml; print("\n".join(yaml.safe_load(open(sys.argv[1]))["local_conf_header"].values()))' "$KAS_FILE")
DL_DIR = "$WORK/downloads"
BB_NO_NETWORK = "1"
CONNECTIVITY_CHECK_URIS = ""
BB_SERVER_TIMEOUT = "60"
HEADGATE_GIT = "git://$WORK/source.git;protocol=file;nobranch=1;usehead=1"
HEADGATE_PAGES = "file://$WORK/pages/headgate-pages.tar.gz"
HEADGATE_SSH_KEYS = "$WORK/keys/authorized_keys"
RAUC_KEYRING_FILE = "$WORK/keys/ca.pem"
RAUC_CERT_FILE = "$WORK/keys/ca.pem"
RAUC_KEY_FILE = "$WORK/keys/key.pem"
# Whole disks, too: the form of the disk is checked with them.
IMAGE_FSTYPES:append:pn-headgate-image = " wic"
END
    [ "$(id -u)" != 0 ] || chown -R nobody:nogroup "$WORK"/{home,build,downloads,source.git,keys}
}

## The checks.

# bitbake COMMAND ARGUMENTS…: in the build folder, with the environment that it wants.
in_build() {
    # shellcheck disable=SC2016 # the inner shell expands it
    as_user env -i HOME="$WORK/home" USER="$(id -un)" LANG=en_US.UTF-8 PATH="$LAYERS/bitbake/bin:$LAYERS/openembedded-core/scripts:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin" \
        BB_ENV_PASSTHROUGH_ADDITIONS=MACHINE MACHINE="${MACHINE:-qemuarm64}" PYTHONDONTWRITEBYTECODE=1 \
        sh -c 'cd "$0" && exec "$@"' "$WORK/build" "$@"
}

no_warnings() {
    local said
    said=$(grep -E '^(WARNING|ERROR)' "$1" | grep -vE "$WARNINGS_OF_THE_MACHINE" || true)
    [ -z "$said" ] || fail "bitbake complains: $said"
}
# Of a build without a network and of hosts that are not on its list; nothing of these is ours.
readonly WARNINGS_OF_THE_MACHINE='uninative|has not been validated|Host distribution'

parse() {
    step "parse for $MACHINE" in_build bitbake -p
    no_warnings "$WORK/logs/parse-for-$MACHINE.log"
    row "bitbake -p, $MACHINE" "$(grep -oE '[0-9]+ targets, [0-9]+ skipped, [0-9]+ masked, [0-9]+ errors' "$WORK/logs/parse-for-$MACHINE.log" | tail -1), ${took} s"
}

# All that -n resolves, without going through thousands of tasks.
plan() {
    step "plan for $MACHINE" in_build bitbake -g headgate-image headgate-bundle
    no_warnings "$WORK/logs/plan-for-$MACHINE.log"
    row "bitbake -g, $MACHINE" "image and bundle: $(wc -l <"$WORK/build/pn-buildlist") recipes, $(grep -c 'label=' "$WORK/build/task-depends.dot") tasks, ${took} s"
}

fetch_and_unpack() {
    step "fetch" in_build bitbake -b "$WORK/meta-headgate/recipes-connectivity/headgate/headgate_git.bb" -c fetch
    row "bitbake -c fetch, no network" "sources, pages, $CRATES crates by their sha256, ${took} s"
    step "unpack" in_build bitbake -b "$WORK/meta-headgate/recipes-connectivity/headgate/headgate_git.bb" -c unpack
    local tree unpacked
    tree=$(find "$WORK/build/tmp/work" -maxdepth 4 -type d -path '*/headgate/*/sources' | head -1)
    unpacked=$(find "$tree/cargo_home/bitbake" -mindepth 1 -maxdepth 1 | wc -l)
    [ "$unpacked" = "$CRATES" ] || fail "$unpacked crates of $CRATES were unpacked"
    ls "$tree"/headgate-*/gateway/web/dist/ui/index.html >/dev/null || fail "the pages are not where the build looks for them"
    row "bitbake -c unpack" "$unpacked crates, the pages in their place, ${took} s"
    # As the recipe will have it: nothing but these crates, nothing but this lock.
    step "resolve" env CARGO_HOME="$WORK/cargo-home" cargo metadata --frozen --format-version=1 --manifest-path "$(echo "$tree"/headgate-*/Cargo.toml)" \
        --config 'source.crates-io.replace-with="bitbake"' --config "source.bitbake.directory=\"$tree/cargo_home/bitbake\""
    row "cargo metadata --frozen" "all crates are there for cargo, ${took} s"
}

# Not asked for: addresses of a project page, and a place in a database of faults for what is configuration alone; native and nativesdk variants.
readonly OELINT_LEAVES_OUT="oelint.var.mandatoryvar.HOMEPAGE oelint.var.suggestedvar.BUGTRACKER oelint.var.suggestedvar.CVE_PRODUCT oelint.var.bbclassextend"

# How far it gets without a compiler: the gateway is configured, and what is not compiled is installed.
configure_and_install() {
    local headgate=$WORK/meta-headgate/recipes-connectivity/headgate/headgate_git.bb recipe units
    step "configure" in_build bitbake -b "$headgate" -c configure
    if grep -q 'pages are not those' "$WORK/logs/configure.log"; then
        row "bitbake -c configure" "gateway, for $MACHINE; its pages are of another commit: make web-dist" old
    else
        row "bitbake -c configure" "gateway, for $MACHINE, ${took} s"
    fi
    for recipe in recipes-core/headgate-appliance/headgate-appliance_1.0.bb dynamic-layers/rauc/recipes-core/headgate-update/headgate-rauc-conf_1.0.bb; do
        step "install $(basename "$recipe" _1.0.bb)" in_build bitbake -R "$WORK/extra/without-fakeroot.conf" -b "$WORK/meta-headgate/$recipe" -c install
        row "bitbake -c install" "$(basename "$recipe" _1.0.bb), ${took} s"
    done
    command -v systemd-analyze >/dev/null || return 0
    units=$WORK/build/tmp/work/all-oe-linux/headgate-appliance/1.0/image/usr/lib/systemd/system
    step "units" systemd-analyze verify --man=no "$units"/*
    [ ! -s "$WORK/logs/units.log" ] || fail "systemd complains: $(cat "$WORK/logs/units.log")"
    row "systemd-analyze verify" "$(find "$units" -type f | wc -l) units"
}

oelint() {
    local files rule leave_out=()
    for rule in $OELINT_LEAVES_OUT; do leave_out+=(--suppress "$rule"); done
    mapfile -t files < <(find yocto/meta-headgate -name '*.bb' -o -name '*.bbappend' -o -name 'layer.conf' -o -name '*.inc' ! -name '*-crates.inc')
    step "oelint" "$TOOLS/bin/oelint-adv" --quiet --constantmods=+yocto/oelint.json "${leave_out[@]}" --release wrynose --mode all "${files[@]}"
    row "oelint-adv" "${#files[@]} files, no finding, ${took} s"
}

kas_schema() {
    step "kas" "$TOOLS/bin/python" - "$KAS_FILE" <<'PYTHON'
import json, pathlib, sys, jsonschema, kas, yaml
schema = json.loads((pathlib.Path(kas.__file__).parent / "schema-kas.json").read_text())
jsonschema.validate(yaml.safe_load(open(sys.argv[1])), schema)
PYTHON
    row "kas, schema" "$KAS_FILE"
}

# kas itself, with clones of here in the place of those in the net: commits, layers and settings as it takes them.
kas_checkout() {
    local repository name url branch commit dir=$WORK/kas
    rm -rf "$dir"
    mkdir -p "$dir"
    for repository in "${REPOSITORIES[@]}"; do
        read -r name url branch commit <<<"$repository"
        [ "$(git -C "$LAYERS/$name" rev-parse HEAD)" = "$commit" ] || {
            row "kas checkout" "$name is not at the commit of $KAS_FILE" skipped
            return
        }
        printf '[url "%s"]\n\tinsteadOf = %s\n' "$LAYERS/$name" "$url" >>"$dir/gitconfig"
    done
    step "kas checkout" env KAS_WORK_DIR="$dir" GITCONFIG_FILE="$dir/gitconfig" "$TOOLS/bin/kas" checkout "$KAS_FILE"
    local layers
    layers=$(grep -oE '(meta|meta-headgate|meta-rauc)( |"|$)' "$dir/build/conf/bblayers.conf" | tr -dc 'a-z\n-' | sort | xargs)
    [ "$layers" = "meta meta-headgate meta-rauc" ] || fail "kas takes these layers: $layers"
    row "kas checkout" "layers $layers, ${took} s"
    rm -rf "$dir"
}

install_missing
install_tools
step "crates of Cargo.lock" yocto/crates.py --check
layers
kas_schema
kas_checkout
oelint
step "sources" sources
crates
row "headgate-crates.inc" "$CRATES crates, those of Cargo.lock"
keys
without_fakeroot
configuration
for MACHINE in $MACHINES; do
    parse
    plan
done
MACHINE=${MACHINES%% *}
fetch_and_unpack
configure_and_install
in_build bitbake -m >/dev/null 2>&1 || true

echo
printf '%s\n' "${summary[@]}"
say "all is well, after $SECONDS s; $(du -sh "$WORK" | cut -f1) in $WORK"
