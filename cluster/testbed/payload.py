"""The payload of a run: a tree with one incompressible file, its chunk store and its flist. Same arguments, same bytes."""

import argparse
import hashlib
import json
import random
import sys
from dataclasses import dataclass
from pathlib import Path

from shell import TestbedError, run

BLOCK_BYTES = 512 * 1024
SEED = 20261121
FLIST = "image.fl"
HUB_PORT = 8080


@dataclass(frozen=True)
class Payload:
    """`store` is what the hub serves (chunks and the flist file), `files` maps paths in the tree to SHA-256 digests."""

    directory: Path
    bytes: int
    files: dict[str, str]

    @property
    def store(self) -> Path:
        return self.directory / "store"

    def chunk_paths(self) -> list[str]:
        return sorted(str(p.relative_to(self.store)) for p in self.store.rglob("*") if p.is_file() and p.name != FLIST)


def make(directory: Path, blocks: int, route: str, chunkmesh: str | None) -> Payload:
    """Packs the tree with `chunkmesh`; without it the store holds the plain blocks, enough for clients that know no flist."""
    description = directory / "payload.json"
    wanted = {"blocks": blocks, "route": route, "packed": chunkmesh is not None}
    if description.exists():
        found = json.loads(description.read_text())
        if all(found[key] == value for key, value in wanted.items()):
            return Payload(directory, found["bytes"], found["files"])
        raise TestbedError(f"{directory} holds another payload; name another directory or remove it")
    tree, store = directory / "tree", directory / "store"
    tree.mkdir(parents=True)
    store.mkdir()
    generator = random.Random(SEED)
    digest = hashlib.sha256()
    with open(tree / "payload.bin", "wb") as file:
        for _ in range(blocks):
            block = generator.randbytes(BLOCK_BYTES)
            digest.update(block)
            file.write(block)
            if chunkmesh is None:
                _store_plain(store, block)
    if chunkmesh is not None:
        out = store / FLIST
        run(chunkmesh, "flist", "pack", str(tree), "-o", str(out), "--store", f"dir://{store.resolve()}", "--route", route)
    size = blocks * BLOCK_BYTES
    files = {"payload.bin": digest.hexdigest()}
    description.write_text(json.dumps({**wanted, "bytes": size, "files": files}, indent=1) + "\n")
    return Payload(directory, size, files)


def _store_plain(store: Path, block: bytes) -> None:
    name = hashlib.blake2b(block, digest_size=32).hexdigest()
    (store / name[:2]).mkdir(exist_ok=True)
    (store / name[:2] / name).write_bytes(block)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--blocks", type=int, default=128, help="blocks of 512 KiB (default 128: 64 MiB)")
    parser.add_argument("--route", default=f"http://10.77.0.2:{HUB_PORT}")
    parser.add_argument("--chunkmesh", help="path of the chunkmesh command; without it only the direct driver can use the payload")
    options = parser.parse_args()
    try:
        payload = make(options.directory, options.blocks, options.route, options.chunkmesh)
    except TestbedError as error:
        print(f"payload: {error}", file=sys.stderr)
        return 1
    print(f"{payload.bytes} bytes in {len(payload.chunk_paths())} chunks: {payload.store}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
