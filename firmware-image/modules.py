"""Copies kernel modules whose paths begin with one of the given patterns, and those that they need.

    modules.py FROM TO PATTERN...     FROM and TO are folders modules/VERSION; prints the names of what was copied, in an order to load them in
"""

import pathlib
import shutil
import sys


def main() -> None:
    source, target = (pathlib.Path(folder) for folder in sys.argv[1:3])
    patterns = sys.argv[3:]
    needs = {}
    for line in (source / "modules.dep").read_text().splitlines():
        name, _, others = line.partition(":")
        needs[name] = others.split()
    matched = {pattern: [name for name in needs if fits(name, pattern)] for pattern in patterns}
    built_in = (source / "modules.builtin").read_text().split()
    for pattern, names in matched.items():
        if not names and not any(fits(name, pattern) for name in built_in):
            print(f"modules.py: this kernel has no {pattern}", file=sys.stderr)

    ordered = []

    def take(name: str) -> None:
        if name not in ordered:
            for other in reversed(needs[name]):
                take(other)
            ordered.append(name)

    for names in matched.values():
        for name in names:
            take(name)
    for name in ordered:
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, place)
    for file in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
        shutil.copyfile(source / file, target / file)
    print("\n".join(ordered))


def fits(name: str, pattern: str) -> bool:
    """By path, or by the module's name alone."""
    if "/" in pattern:
        return name.removeprefix("kernel/").startswith(pattern)
    return pathlib.PurePath(name).name.partition(".")[0].replace("_", "-") == pattern.replace("_", "-")


if __name__ == "__main__":
    main()
