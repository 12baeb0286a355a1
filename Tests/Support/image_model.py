#!/usr/bin/env python3
"""A container image of random layers, and the tree that they make, told by a model of its own.

    image_model.py SEED FORMAT OUT          makes the image (see make_image.py) and prints the tree, one line of JSON an entry

Layers are put upon each other from the bottom, as overlay file systems do it: each becomes a tree of its own first.
"""

import hashlib
import json
import random
import subprocess
import sys
from pathlib import Path

NAMES = ["a", "b", "c", "dir", "naïve", "x\ny"]


def random_layer(rng):
    entries, own = [], {}

    def add(path, **entry):
        entries.append({"name": rng.choice(["", "./", "/"]) + path, **entry})

    def attributes():
        return {"mode": rng.choice([0o644, 0o755, 0o4755, 0o1777]), "uid": rng.randrange(3), "gid": rng.randrange(70000),
                "mtime": rng.choice([0, 5, 1_700_000_000])}

    def fill(directory, depth):
        for name in rng.sample(NAMES, rng.randrange(1, 5)):
            path = directory + name
            if path in own:
                continue
            kind = rng.choice(["file", "file", "dir", "dir", "dir", "symlink", "white", "hardlink", "implied", "fifo", "chr", "again"])
            files = [p for p, k in own.items() if k == "file"]
            if kind == "white":
                add(directory + ".wh." + name)
                if rng.random() < 0.3:
                    own[path] = "file"
                    add(path, data="back %d" % rng.randrange(9), **attributes())
            elif kind == "hardlink" and files:
                own[path] = "file"
                add(path, type="hardlink", target=rng.choice(["", "./", "/"]) + rng.choice(files))
            elif kind == "symlink":
                own[path] = "symlink"
                add(path, type="symlink", target=rng.choice(["a", "/etc", "../../..", "dir"]), **{**attributes(), "mode": 0o777})
            elif kind == "fifo":
                own[path] = "fifo"
                add(path, type="fifo", **attributes())
            elif kind == "chr":
                own[path] = "chr"
                add(path, type="chr", rdev=[rng.randrange(300), rng.randrange(100000)], **attributes())
            elif kind in ("dir", "implied") and depth < 4:
                own[path] = "dir"
                if kind == "dir":
                    add(path + rng.choice(["", "/"]), type="dir", **attributes())
                if rng.random() < 0.15:
                    add(path + "/.wh..wh..opq")
                fill(path + "/", depth + 1)
                if kind == "implied" and not any(p.startswith(path + "/") for p in own):
                    del own[path]
            else:
                own[path] = "file"
                add(path, data="%d" % rng.randrange(6), times=rng.choice([0, 1, 3, 600_000 if rng.random() < 0.1 else 2]), **attributes())
                if kind == "again":
                    add(path, data="later %d" % rng.randrange(6), **attributes())

    fill("", 0)
    if rng.random() < 0.5:
        add("./", type="dir", **attributes())
    return {"compress": rng.choice(["none", "gzip", "zstd"]), "format": rng.choice(["pax", "gnu"]), "entries": entries}


def plain(name):
    return "/".join(p for p in name.split("/") if p not in ("", "."))


def own_tree(layer):
    """The layer alone: nodes by path (None: only known from what is below it), whiteouts, opaque directories."""
    tree, white, opaque = {}, set(), set()
    for entry in layer["entries"]:
        path = plain(entry["name"])
        directory, _, base = path.rpartition("/")
        if base == ".wh..wh..opq":
            opaque.add(directory)
            continue
        if base.startswith(".wh."):
            white.add((directory + "/" if directory else "") + base[4:])
            continue
        parts = path.split("/") if path else []
        for n in range(1, len(parts)):
            tree.setdefault("/".join(parts[:n]), None)
        if entry.get("type") == "hardlink":
            tree[path] = tree[plain(entry["target"])]
        else:
            tree[path] = {"type": "file", **entry, "data": entry.get("data", "") * entry.get("times", 1)}
    return tree, white, opaque


def apply(merged, layer):
    tree, white, opaque = own_tree(layer)

    def drop(path, itself=True):
        for known in [k for k in merged if (k.startswith(path + "/") if path else k != "") or (itself and k == path)]:
            del merged[known]

    for path in white:
        drop(path)
    for path in opaque:
        drop(path, itself=False)
    default = {"type": "dir", "mode": 0o755, "uid": 0, "gid": 0, "mtime": 0}
    for path in sorted(tree, key=lambda p: p.count("/")):
        node = tree[path]
        is_dir = node is None or node["type"] == "dir"
        if path in merged and not (is_dir and merged[path]["type"] == "dir"):
            drop(path)
        if node is not None:
            merged[path] = node
        else:
            merged.setdefault(path, default)


def main():
    seed, form, out = sys.argv[1:]
    rng = random.Random(int(seed))
    layers = [random_layer(rng) for _ in range(rng.randrange(1, 6))]
    script = Path(__file__).with_name("make_image.py")
    subprocess.run([sys.executable, script, form, out], input=json.dumps({"layers": layers}), text=True, stdout=subprocess.DEVNULL, check=True)
    merged = {"": {"type": "dir", "mode": 0o755, "uid": 0, "gid": 0, "mtime": 0}}
    for layer in layers:
        apply(merged, layer)
    for path in sorted(merged, key=lambda p: ("/" + p).encode()):
        node = merged[path]
        kind = {"chr": "chrdev", "blk": "blkdev"}.get(node["type"], node["type"])
        line = {"path": "/" + path, "type": kind, "mode": "%04o" % node["mode"], "uid": node.get("uid", 0), "gid": node.get("gid", 0),
                "mtime": node.get("mtime", 1_600_000_000), "size": 0}
        if kind == "file":
            data = node["data"].encode()
            line.update(size=len(data), blake2b=hashlib.blake2b(data, digest_size=32).hexdigest())
        if kind == "symlink":
            line.update(size=len(node["target"].encode()), target=node["target"])
        if kind == "chrdev":
            line["rdev"] = node["rdev"]
        print(json.dumps(line, sort_keys=True))


if __name__ == "__main__":
    main()
