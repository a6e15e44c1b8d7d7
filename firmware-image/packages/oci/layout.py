"""Writes an OCI image layout for several architectures (image-spec 1.0), without a container engine.

Two layers each: the C library with its loader, which the program is linked with, and the program. The same input gives the same bytes.

    layout.py OUT VERSION EPOCH ARCHITECTURE=LIBRARIES,PROGRAM ...

LIBRARIES and PROGRAM are folders that become the layers, ARCHITECTURE is one of Debian's.
"""

import gzip
import hashlib
import io
import json
import pathlib
import stat
import sys
import tarfile
from datetime import datetime, timezone

PLATFORMS = {
    "amd64": {"architecture": "amd64", "os": "linux"},
    "arm64": {"architecture": "arm64", "os": "linux", "variant": "v8"},
    "armhf": {"architecture": "arm", "os": "linux", "variant": "v7"},
}
USER = 10001  # of the gateway, in the image
OWNED = ("var/lib/headgate", "etc/headgate")


def layer(folder: pathlib.Path, epoch: int) -> bytes:
    """A folder as a tar archive, in an order that stays."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            info = archive.gettarinfo(path, arcname=name)
            info.uid = info.gid = USER if name.startswith(OWNED) else 0
            info.uname = info.gname = ""
            info.mtime = epoch
            info.mode = stat.S_IMODE(info.mode) & 0o755
            if info.isreg():
                with path.open("rb") as file:
                    archive.addfile(info, file)
            else:
                archive.addfile(info)
    return out.getvalue()


class Layout:
    """A layout that is being written: blobs, by their digests."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        (folder / "blobs" / "sha256").mkdir(parents=True)
        (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')

    def add(self, media_type: str, content: bytes) -> dict:
        digest = hashlib.sha256(content).hexdigest()
        (self.folder / "blobs" / "sha256" / digest).write_bytes(content)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}

    def add_json(self, kind: str, content: dict) -> dict:
        return self.add(f"application/vnd.oci.image.{kind}.v1+json", json.dumps(content, sort_keys=True).encode())


def image(layout: Layout, platform: dict, folders: list[pathlib.Path], created: datetime, version: str) -> dict:
    """The manifest of one architecture."""
    archives = [layer(folder, int(created.timestamp())) for folder in folders]
    stamp = created.isoformat().replace("+00:00", "Z")
    config = {
        **platform,
        "created": stamp,
        "config": {
            "User": f"{USER}:{USER}",
            "Entrypoint": ["/usr/bin/headgate"],
            "Cmd": ["run", "--config", "/etc/headgate/headgate.toml"],
            "ExposedPorts": {"1883/tcp": {}, "18083/tcp": {}},
            "Volumes": {"/var/lib/headgate": {}},
            "WorkingDir": "/var/lib/headgate",
            "StopSignal": "SIGTERM",
            "Labels": {
                "org.opencontainers.image.title": "headgate",
                "org.opencontainers.image.version": version,
                "org.opencontainers.image.licenses": "Apache-2.0",
            },
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(archive).hexdigest()}" for archive in archives]},
        "history": [{"created": stamp, "created_by": name} for name in ("the C library", f"headgate {version}")],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": layout.add_json("config", config),
        "layers": [
            layout.add("application/vnd.oci.image.layer.v1.tar+gzip", gzip.compress(archive, 9, mtime=0))
            for archive in archives
        ],
    }
    return {**layout.add_json("manifest", manifest), "platform": platform}


def main() -> None:
    out, version, epoch, *images = sys.argv[1:]
    created = datetime.fromtimestamp(int(epoch), timezone.utc)
    layout = Layout(pathlib.Path(out))
    manifests = []
    for given in images:
        architecture, _, folders = given.partition("=")
        paths = [pathlib.Path(folder) for folder in folders.split(",")]
        manifests.append(image(layout, PLATFORMS[architecture], paths, created, version))
    media_type = "application/vnd.oci.image.index.v1+json"
    index = {"schemaVersion": 2, "mediaType": media_type, "manifests": manifests}
    named = {**layout.add_json("index", index), "annotations": {"org.opencontainers.image.ref.name": version}}
    outer = {"schemaVersion": 2, "mediaType": media_type, "manifests": [named]}
    (layout.folder / "index.json").write_text(json.dumps(outer, sort_keys=True))


if __name__ == "__main__":
    main()
