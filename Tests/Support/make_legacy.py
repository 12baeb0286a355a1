#!/usr/bin/env python3
"""Writes legacy flists for tests: make_legacy.py OUT.flist SCENARIO [NUMBER]. Standard library only; blocks are named, not stored."""

import gzip
import hashlib
import io
import json
import os
import sqlite3
import struct
import sys
import tarfile
import tempfile


def b2(data, size=16):
    return hashlib.blake2b(data, digest_size=size).digest()


class Message:
    """One segment; structs and lists are put one behind the other."""

    def __init__(self):
        self.words = bytearray(8)

    def alloc(self, words):
        at = len(self.words) // 8
        self.words += bytes(8 * words)
        return at

    def pointer(self, at, kind, target, high):
        struct.pack_into("<Q", self.words, at * 8, kind | ((target - at - 1) & 0x3FFFFFFF) << 2 | high << 32)

    def structure(self, at, data, pointers):
        body = self.alloc(data + pointers)
        self.pointer(at, 0, body, data | pointers << 16)
        return body

    def bytes_at(self, at, value, text=False):
        if not value:
            return
        value = value + b"\0" if text else value
        body = self.alloc((len(value) + 7) // 8)
        self.words[body * 8:body * 8 + len(value)] = value
        self.pointer(at, 1, body, 2 | len(value) << 3)

    def structures(self, at, count, data, pointers):
        """-> place of the first one"""
        if not count:
            return 0
        tag = self.alloc(1 + count * (data + pointers))
        self.pointer(at, 1, tag, 7 | count * (data + pointers) << 3)
        struct.pack_into("<Q", self.words, tag * 8, count << 2 | data << 32 | pointers << 48)
        return tag + 1

    def set(self, fmt, at, offset, value):
        struct.pack_into("<" + fmt, self.words, at * 8 + offset, value)

    def framed(self):
        return struct.pack("<II", 0, len(self.words) // 8) + bytes(self.words)


def aci(user=b"root", group=b"root", mode=0o755, uid=0, gid=0):
    m = Message()
    r = m.structure(0, 3, 3)
    m.set("H", r, 0, mode)
    m.set("q", r, 8, ~uid)
    m.set("q", r, 16, ~gid)
    m.bytes_at(r + 3, user, True)
    m.bytes_at(r + 4, group, True)
    return m.framed()


def block(seed):
    return b2(b"id" + seed), b2(b"key" + seed)


def entry(name, kind="file", acl=b"0" * 16, size=0, mtime=1700000000, ctime=1700000001, **fields):
    return dict(name=name, kind=kind, acl=acl, size=size, mtime=mtime, ctime=ctime, **fields)


def directory(entries, acl=b"0" * 16, mtime=1700000000, ctime=1700000001):
    m = Message()
    r = m.structure(0, 2, 5)
    m.set("Q", r, 0, 4096)
    m.set("I", r, 8, mtime)
    m.set("I", r, 12, ctime)
    m.bytes_at(r + 2 + 4, acl, True)
    first = m.structures(r + 2 + 2, len(entries), 3, 3)
    for n, e in enumerate(entries):
        i = first + n * 6
        m.set("Q", i, 0, e["size"])
        m.set("I", i, 12, e["mtime"])
        m.set("I", i, 16, e["ctime"])
        m.bytes_at(i + 3, e["name"], True)
        m.bytes_at(i + 5, e["acl"], True)
        if e["kind"] == "dir":
            a = m.structure(i + 4, 0, 1)
            m.bytes_at(a, e["key"], True)
        elif e["kind"] == "file":
            m.set("H", i, 8, 1)
            a = m.structure(i + 4, 1, 1)
            m.set("H", a, 0, e.get("unit", 128))
            blocks = e.get("blocks", [])
            b = m.structures(a + 1, len(blocks), 0, 2)
            for k, (ident, key) in enumerate(blocks):
                m.bytes_at(b + 2 * k, ident)
                m.bytes_at(b + 2 * k + 1, key)
        elif e["kind"] == "link":
            m.set("H", i, 8, 2)
            a = m.structure(i + 4, 0, 1)
            m.bytes_at(a, e["target"], True)
        else:
            m.set("H", i, 8, 3)
            a = m.structure(i + 4, 1, 1)
            m.set("H", a, 0, e["type"])
            m.bytes_at(a + 1, e["data"])
    return m.framed()


def key(path):
    return b2(path).hex().encode()


def subdirectory(name, path, **fields):
    return entry(name, "dir", key=key(path), **fields)


def tree(*entries, **more):
    """Records of a root with these entries, and of directories beside it."""
    records = {key(b""): directory(list(entries)), b"0" * 16: aci()}
    records.update(more.get("records", {}))
    return records


def synth(count):
    """`count` entries in directories of 1,000 files each."""
    per, out = 1000, {b"0" * 16: aci()}
    dirs = max(1, count // per)
    out_root = []
    for d in range(dirs):
        name = b"d%06d" % d
        out_root.append(subdirectory(name, name))
        out[key(name)] = directory([entry(b"file-%06d.txt" % n, size=1000, blocks=[block(b"%d/%d" % (d, n))]) for n in range(per)])
    out[key(b"")] = directory(out_root)
    return out


def deep(count):
    out, path = {b"0" * 16: aci()}, b""
    for _ in range(count):
        below = path + b"/d" if path else b"d"
        out[key(path)] = directory([subdirectory(b"d", below)])
        path = below
    out[key(path)] = directory([entry(b"f")])
    return out


MiB = 1 << 20
SCENARIOS = {
    "plain": lambda n: tree(entry(b"f", size=5, blocks=[block(b"1")])),
    "synth": synth,
    "deep": deep,
    "tail-lost": lambda n: tree(entry(b"big", size=16 * MiB + 1, blocks=[block(b"%d" % k) for k in range(32)]),
                                entry(b"none", size=7), entry(b"other-unit", size=MiB, unit=256, blocks=[block(b"x")])),
    "duplicate-names": lambda n: tree(entry(b"a", size=1, blocks=[block(b"1")]), entry(b"a", size=2, blocks=[block(b"2")])),
    "bad-names": lambda n: tree(entry(b""), entry(b"x" * 256), entry(b"x" * 255), entry(b"n\0ul"), entry(b"esc\x1b[2J"), entry(b"-rf")),
    "bad-links": lambda n: tree(entry(b"empty", "link", target=b""), entry(b"long", "link", target=b"t" * 4096),
                                entry(b"out", "link", target=b"../../../etc/passwd")),
    "bad-blocks": lambda n: tree(entry(b"short-id", size=1, blocks=[(b"1" * 15, b"2" * 16)]),
                                 entry(b"long-key", size=1, blocks=[(b"1" * 16, b"2" * 32)]), entry(b"good", size=1, blocks=[block(b"1")])),
    "huge-size": lambda n: tree(entry(b"huge", size=(1 << 64) - 1, blocks=[block(b"1")])),
    "devices": lambda n: tree(entry(b"bad", "special", type=1, data=b"x"), entry(b"null", "special", type=2, data=b"1,3"),
                              entry(b"big", "special", type=1, data=b"4294967295,4294967295"),
                              entry(b"lost", "special", type=0, data=b"8,1"), entry(b"odd", "special", type=77, data=b"")),
    "owners": lambda n: tree(
        *[entry(b"f%d" % k, acl=b"%016x" % (k + 1)) for k in range(6)],
        records={b"%016x" % (k + 1): a for k, a in enumerate([
            aci(b"-1294967296", b"-1294967296", 0o100644, 3000000000, 3000000000), aci(b"-1294967296", b"7", 0o4755, -1, -1),
            aci(b"www-data", b"tty", 0o644, -1, -1), aci(b"nobody-knows", b"me", 0o644, -1, -1), aci(uid=1 << 32), b"garbage"])}),
    "shared-directory": lambda n: tree(subdirectory(b"one", b"d"), subdirectory(b"two", b"d"),
                                       records={key(b"d"): directory([entry(b"f")])}),
    "times": lambda n: tree(entry(b"f", mtime=4294880896, ctime=5)),
    "no-root": lambda n: {b"0" * 16: aci()},
    "bad-root": lambda n: {key(b""): b"\xff" * 64},
}
SQL = "create table entries (key varchar(64) primary key, value blob); create table metadata (key varchar(64) primary key, value text);"


def main():
    out, scenario = sys.argv[1:3]
    number = int(sys.argv[3]) if len(sys.argv) > 3 else 0
    with tempfile.TemporaryDirectory() as work:
        path = os.path.join(work, "flistdb.sqlite3")
        db = sqlite3.connect(path)
        db.executescript({"no-index": "create table entries (key, value)",
                          "view": "create view entries as select 'cae66941d9efbd404e4d88758ea67670' as key, x'00' as value"}.get(scenario, SQL))
        if scenario in SCENARIOS or scenario in ("late-duplicate", "crc", "directory-member", "huge-router", "backends"):
            records = SCENARIOS.get(scenario, SCENARIOS["plain"])(number)
            db.executemany("insert into entries values (?, ?)", ((k.decode(), v) for k, v in records.items()))
        if scenario == "backends":
            db.execute("insert into metadata values ('backend', ?)", (json.dumps(dict(host="::1", port=9901, namespace="a b", password="p:w/@")),))
        db.commit()
        db.close()
        raw = io.BytesIO()
        with tarfile.open(fileobj=raw, mode="w") as t:
            def add(name, body, **fields):
                info = tarfile.TarInfo(name)
                info.size = len(body)
                for field, value in fields.items():
                    setattr(info, field, value)
                t.addfile(info, io.BytesIO(body))
            if scenario == "late-duplicate":
                add("flistdb.sqlite3", b"not this one")
            if scenario == "directory-member":
                add("flistdb.sqlite3", b"", type=tarfile.DIRTYPE)
            if scenario == "huge-router":
                add("router.yaml", b"#" * (65 << 10))
            with open(path, "rb") as f:
                add("././/flistdb.sqlite3", f.read())
        data = gzip.compress(raw.getvalue(), 1)
        if scenario == "crc":
            data = data[:-6] + bytes([data[-6] ^ 1]) + data[-5:]
        with open(out, "wb") as f:
            f.write(data)


main()
