"""Compares the tree DIR with the manifest FILE (JSON lines); prints what is missing or differs."""
import hashlib, json, os, stat, sys
kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "dir", stat.S_IFLNK: "symlink", stat.S_IFIFO: "fifo", stat.S_IFSOCK: "socket"}
root, want, good = sys.argv[1], sys.argv[2], 0
for line in open(want):
    e = json.loads(line)
    path = os.fsencode(root) + e["path"].encode("utf-8", "surrogateescape")
    if e["type"] in ("chrdev", "blkdev"):
        assert not os.path.lexists(path), e
        continue
    if e["type"] not in kinds.values():
        sys.exit("unknown type " + e["type"])
    if not os.path.lexists(path):
        print("missing", ascii(e["path"])); continue
    s = os.lstat(path)
    got = {"type": kinds[stat.S_IFMT(s.st_mode)], "mtime": int(s.st_mtime // 1)}
    if e["type"] != "symlink":
        got["mode"] = "%04o" % (stat.S_IMODE(s.st_mode) & 0o1777)
        e["mode"] = "%04o" % (int(e["mode"], 8) & 0o1777)
    if e["type"] == "file":
        got["size"] = s.st_size
        got["blake2b"] = hashlib.blake2b(open(path, "rb").read(), digest_size=32).hexdigest()
    if e["type"] == "symlink":
        got["target"] = os.readlink(path).decode("utf-8", "surrogateescape")
    wrong = {k: (v, e.get(k)) for k, v in got.items() if v != e.get(k)}
    if wrong:
        print("wrong", ascii(e["path"]), wrong)
    good += 1
print("good", good, file=sys.stderr)
