#!/usr/bin/env python3
"""Makes a container image for tests from a description in JSON on stdin, and says what a tree of its layers looks like.

    make_image.py FORMAT OUT < description

FORMAT: docker (docker save before version 25), docker-oci (since then: both documents), oci-dir, oci-tar, oci-tar.gz.
Description: {"layers": [{"compress": "none|gzip|zstd", "entries": [{"name", "type", "mode", "uid", "gid", "mtime", "data",
"target", "rdev": [major, minor], "xattrs": {…}}]}], "config": {…}, "name": "…", "platforms": ["linux/amd64", …], "break": "layer|config|manifest|diff"}.
Types: file, dir, symlink, hardlink, fifo, chr, blk. zstd needs the zstd program. Prints the digest of each blob.
"""

import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile

TYPES = {
    "file": tarfile.REGTYPE, "dir": tarfile.DIRTYPE, "symlink": tarfile.SYMTYPE, "hardlink": tarfile.LNKTYPE,
    "fifo": tarfile.FIFOTYPE, "chr": tarfile.CHRTYPE, "blk": tarfile.BLKTYPE,
}


def name_of(text):
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")


def layer_tar(layer):
    out = io.BytesIO()
    form = {"pax": tarfile.PAX_FORMAT, "gnu": tarfile.GNU_FORMAT}[layer.get("format", "pax")]
    with tarfile.open(fileobj=out, mode="w", format=form, errors="surrogateescape") as tar:
        for entry in layer["entries"]:
            info = tarfile.TarInfo(name_of(entry["name"]))
            info.type = TYPES[entry.get("type", "file")]
            info.mode = entry.get("mode", 0o755 if entry.get("type") == "dir" else 0o644)
            info.uid, info.gid = entry.get("uid", 0), entry.get("gid", 0)
            info.mtime = entry.get("mtime", 1_600_000_000)
            info.linkname = name_of(entry.get("target", ""))
            if "rdev" in entry:
                info.devmajor, info.devminor = entry["rdev"]
            for key, value in entry.get("xattrs", {}).items():
                info.pax_headers["SCHILY.xattr." + key] = value
            data = entry.get("data", "").encode("utf-8", "surrogateescape") * entry.get("times", 1)
            info.size = len(data) if info.isfile() else 0
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def sha(data):
    return hashlib.sha256(data).hexdigest()


def compress(data, how):
    if how == "gzip":
        return gzip.compress(data, mtime=0)
    if how == "zstd":
        return subprocess.run(["zstd", "-q", "-c"], input=data, stdout=subprocess.PIPE, check=True).stdout
    return data


def main():
    form, out = sys.argv[1:]
    wanted = json.load(sys.stdin)
    broken = wanted.get("break")
    tars = [layer_tar(layer) for layer in wanted["layers"]]
    stored = [compress(tar, layer.get("compress", "none")) for tar, layer in zip(tars, wanted["layers"])]
    files = {}

    def blob(data, spoil=False):
        digest = sha(data)
        files["blobs/sha256/" + digest] = (bytes([data[0] ^ 1]) + data[1:] if spoil else data) if data else data
        return digest

    layers = []
    for number, data in enumerate(stored):
        # The last byte: after all that an archive's reader looks at.
        digest = sha(data)
        files["blobs/sha256/" + digest] = data[:-1] + bytes([data[-1] ^ 1]) if broken == "layer" and number == 0 else data
        layers.append(digest)
    manifests = []
    name = wanted.get("name")
    for platform in wanted.get("platforms", ["linux/amd64"]):
        system, architecture, *variant = platform.split("/")
        config = {
            "os": system, "architecture": architecture, "config": wanted.get("config", {}), "created": "2026-01-02T03:04:05Z",
            "rootfs": {"type": "layers", "diff_ids": ["sha256:" + sha(tar + (b"x" if broken == "diff" else b"")) for tar in tars]},
        }
        if variant:
            config["variant"] = variant[0]
        config_bytes = json.dumps(config).encode()
        config_digest = blob(config_bytes, broken == "config")
        manifest = {
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": "sha256:" + config_digest, "size": len(config_bytes)},
            "layers": [
                {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": "sha256:" + digest, "size": len(data)}
                for digest, data in zip(layers, stored)
            ],
        }
        manifest_bytes = json.dumps(manifest).encode()
        descriptor = {
            "mediaType": manifest["mediaType"], "digest": "sha256:" + blob(manifest_bytes, broken == "manifest"), "size": len(manifest_bytes),
            "platform": {"os": system, "architecture": architecture, **({"variant": variant[0]} if variant else {})},
        }
        if name:
            descriptor["annotations"] = {"org.opencontainers.image.ref.name": name.rpartition(":")[2], "io.containerd.image.name": name}
        manifests.append(descriptor)
    if wanted.get("nested"):
        inner = json.dumps({"schemaVersion": 2, "manifests": manifests}).encode()
        manifests = [{"mediaType": "application/vnd.oci.image.index.v1+json", "digest": "sha256:" + blob(inner), "size": len(inner)}]
        if name:
            manifests[0]["annotations"] = {"io.containerd.image.name": name}
    docker = [{"Config": "blobs/sha256/" + config_digest, "RepoTags": [name] if name else None, "Layers": ["blobs/sha256/" + d for d in layers]}]
    if form == "docker":
        # Of old: a directory for each layer, of equal ones a link to the first, and the configuration beside them.
        old = {config_digest + ".json": files["blobs/sha256/" + config_digest], "repositories": b"{}"}
        links = {}
        names = []
        for number, digest in enumerate(layers):
            place = sha(b"%d" % number) + "/layer.tar"
            first = layers.index(digest)
            if first < number:
                links[place] = "../" + names[first]
            else:
                old[place] = files["blobs/sha256/" + digest]
            names.append(place)
        docker[0].update(Config=config_digest + ".json", Layers=names)
        old["manifest.json"] = json.dumps(docker).encode()
        write_tar(out, old, links)
    else:
        files["oci-layout"] = b'{"imageLayoutVersion":"1.0.0"}'
        files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": manifests}).encode()
        if form == "docker-oci":
            files["manifest.json"] = json.dumps(docker).encode()
        if form == "oci-dir":
            for name, data in files.items():
                path = os.path.join(out, name)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "wb") as file:
                    file.write(data)
        else:
            write_tar(out, files, {}, "w:gz" if form.endswith(".gz") else "w")
    for name, data in files.items():
        print(name, sha(data))


def write_tar(path, files, links, mode="w"):
    with tarfile.open(path, mode, format=tarfile.PAX_FORMAT) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for name, target in links.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)


if __name__ == "__main__":
    main()
