#!/usr/bin/env python3
"""The crates of Cargo.lock for those who need to know them outside Cargo.

    crates.py            writes what the Yocto recipes know of them: the list to fetch, and the version of the gateway
    crates.py --check    fails when that is not what Cargo.lock and Cargo.toml say
    crates.py --sbom F   writes what the program `headgate` for Linux is made of as CycloneDX, with licences (asks cargo)
"""

import json
import pathlib
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
RECIPE = ROOT / "yocto/meta-headgate/recipes-connectivity/headgate"
REGISTRY = "registry+https://github.com/rust-lang/crates.io-index"


def crates():
    """Every crate that Cargo.lock takes from the registry. All are needed: cargo reads tests' and other platforms' crates, too, before it builds anything."""
    with open(ROOT / "Cargo.lock", "rb") as lock:
        packages = tomllib.load(lock)["package"]
    others = [p["name"] for p in packages if p.get("source", REGISTRY) != REGISTRY]
    if others:
        sys.exit(f"crates.py: these crates come from elsewhere, and the recipe has no way to them: {' '.join(others)}")
    return [p for p in packages if "source" in p]


def version():
    with open(ROOT / "Cargo.toml", "rb") as manifest:
        return tomllib.load(manifest)["workspace"]["package"]["version"]


def recipe_list():
    found = crates()
    lines = ["# Written by `make yocto-crates` from Cargo.lock; a test compares the two.", 'SRC_URI += "\\']
    lines += [f"    crate://crates.io/{p['name']}/{p['version']} \\" for p in found]
    lines += ['"', ""]
    lines += [f'SRC_URI[{p["name"]}-{p["version"]}.sha256sum] = "{p["checksum"]}"' for p in found]
    return "\n".join(lines) + "\n"


def files():
    return {
        RECIPE / "headgate-crates.inc": recipe_list(),
        RECIPE / "headgate-version.inc": f'# Written by `make yocto-crates` from Cargo.toml; a test compares the two.\nHEADGATE_VERSION = "{version()}"\n',
    }


def sbom():
    """What is linked into the program, or helps to build it: features and platform as cargo resolves them, without what only tests need."""
    asked = ["cargo", "metadata", "--format-version=1", "--locked", "--filter-platform=aarch64-unknown-linux-gnu"]
    metadata = json.loads(subprocess.run(asked, cwd=ROOT, check=True, capture_output=True).stdout)
    checksums = {(p["name"], p["version"]): p["checksum"] for p in crates()}
    packages = {p["id"]: p for p in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    needs = {
        name: sorted({d["pkg"] for d in node["deps"] if any(k["kind"] != "dev" for k in d["dep_kinds"])})
        for name, node in nodes.items()
    }
    program = next(p["id"] for p in metadata["packages"] if p["name"] == "headgate")
    reached, waiting = set(), [program]
    while waiting:
        package = waiting.pop()
        if package not in reached:
            reached.add(package)
            waiting += needs[package]

    def reference(package):
        return f"pkg:cargo/{packages[package]['name']}@{packages[package]['version']}"

    def component(package):
        p = packages[package]
        told = {"type": "library", "bom-ref": reference(package), "name": p["name"], "version": p["version"]}
        if p["license"]:
            # "MIT/Apache-2.0" is how it was written once.
            told["licenses"] = [{"expression": " ".join(p["license"].replace("/", " OR ").split())}]
        if p["source"]:
            told["hashes"] = [{"alg": "SHA-256", "content": checksums[p["name"], p["version"]]}]
            told["purl"] = reference(package)
        return told

    libraries = sorted(reached - {program}, key=reference)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": component(program) | {"type": "application"}},
        "components": [component(package) for package in libraries],
        "dependencies": [
            {"ref": reference(package), "dependsOn": [reference(needed) for needed in needs[package]]}
            for package in [program, *libraries]
        ],
    }


def main(arguments):
    match arguments:
        case []:
            for path, text in files().items():
                path.write_text(text)
        case ["--check"]:
            for path, text in files().items():
                if path.read_text() != text:
                    sys.exit(f"crates.py: {path.name} is not what Cargo.lock and Cargo.toml say: make yocto-crates")
        case ["--sbom", path]:
            pathlib.Path(path).write_text(json.dumps(sbom(), indent=1) + "\n")
        case _:
            sys.exit(__doc__)


main(sys.argv[1:])
