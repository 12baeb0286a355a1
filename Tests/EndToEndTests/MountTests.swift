import Foundation
import Testing

private let mountsArePossible = geteuid() == 0 && access("/dev/fuse", R_OK | W_OK) == 0

/// mount.flist as a program: what mount(8), fstab and users do with it. Each script runs in mount and process namespaces of its own, so
/// that nothing is left behind, however it ends.
@Suite(.serialized, .enabled(if: mountsArePossible, "needs root and /dev/fuse")) struct MountTests {
    /// Runs a script of bash with $mount (mount.flist), $chunkmesh, $dir (the bench's directory) and $m (an empty directory in it).
    static func script(_ bench: Bench, _ text: String, within limit: Duration = .seconds(60), _ place: SourceLocation = #_sourceLocation)
        async throws
        -> Outcome
    {
        let head = """
            mount=\(Program.folder)/mount.flist chunkmesh=\(Program.folder)/chunkmesh dir=\(bench.path) m=\(bench.path)/mnt
            mkdir -p $m
            fail() { echo "line ${BASH_LINENO[1]}: $*" >&2; exit 1; }
            same() { [ "$1" = "$2" ] || fail "'$1' is not '$2'"; }
            soon() { for i in $(seq 200); do "$@" && return; sleep 0.05; done; fail "not soon: $*"; }
            gone() { ! grep -q " $m " /proc/self/mountinfo; }

            """
        return try await bench.run(
            "/usr/bin/unshare",
            ["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "/bin/bash", "-euo", "pipefail", "-c", head + text],
            within: limit, place)
    }

    func expect(_ bench: Bench, _ text: String, within limit: Duration = .seconds(60), _ place: SourceLocation = #_sourceLocation)
        async throws
    {
        let outcome = try await Self.script(bench, text, within: limit, place)
        #expect(outcome.status == 0, "\(outcome.errors.suffix(1500))", sourceLocation: place)
    }

    @Test(arguments: ["fl/small.fl", "legacy/rich.flist"]) func theTreeIsTheOneThatWasPacked(flist: String) async throws {
        let file = try Fixtures.path(flist)
        let store = try Fixtures.path(flist.hasPrefix("fl/") ? "fl/store" : "legacy/blocks")
        let manifest = try Fixtures.path(flist.split(separator: ".")[0] + ".expected.jsonl")
        let tool = try Fixtures.path("tools/make_manifest.py")
        try await withBench { bench in
            try await expect(
                bench,
                """
                $mount '\(file)' $m -o rw,noatime,_netdev,nofail,store='\(store)'
                python3 '\(tool)' $m > $dir/got
                \(flist.hasPrefix("fl/") ? "cmp $dir/got '\(manifest)'" : "same $(grep -c . $dir/got) $(grep -c . '\(manifest)')")
                same "$(find $m -printf x | wc -c)" "$(grep -c . '\(manifest)')"
                same "$(tar -C $m -cf - . 2> /dev/null | tar -tf - | wc -l)" "$(find $m ! -type s -printf x | wc -c)"
                df $m > /dev/null
                before=$(find $m -printf '%i %p\\n' | sort | md5sum)
                umount $m
                soon gone
                $mount '\(file)' $m -o store='\(store)'
                same "$before" "$(find $m -printf '%i %p\\n' | sort | md5sum)"
                """)
        }
    }

    @Test func programsRunAndFilesAreMapped() async throws {
        try await withBench { bench in
            try await expect(
                bench,
                """
                mkdir -p $dir/tree/sub
                cp /bin/cat $dir/tree/cat
                printf '#!/bin/sh\\necho script $1\\n' > $dir/tree/sub/script
                chmod 755 $dir/tree/cat $dir/tree/sub/script
                head -c 3000000 /dev/urandom > $dir/tree/data
                ln -s ../data $dir/tree/sub/link
                $chunkmesh flist pack $dir/tree -o $dir/a.fl --store dir://$dir/store --route dir://$dir/store > /dev/null
                $mount $dir/a.fl $m
                same "$($m/sub/script one)" "script one"
                same "$(echo text | $m/cat)" text
                cmp $m/sub/link $dir/tree/data
                python3 - $m/data $dir/tree/data <<'PY'
                import mmap, sys
                one, other = (open(name, "rb") for name in sys.argv[1:])
                mapped = mmap.mmap(one.fileno(), 0, access=mmap.ACCESS_READ)
                content = other.read()
                assert mapped[2_500_000:2_500_100] == content[2_500_000:2_500_100] and mapped[:] == content
                PY
                for i in $(seq 64); do (cmp $m/data $dir/tree/data || touch $dir/wrong) & done
                wait
                test ! -e $dir/wrong
                dd if=$m/data iflag=nocache count=0 status=none
                cmp $m/data $dir/tree/data
                diff -r $m $dir/tree
                """)
        }
    }

    @Test func whatIsWrittenStaysLocal() async throws {
        try await withBench { bench in
            let (flist, tree) = try await bench.pack(files: 3, bytes: 1000, route: "dir://" + bench.sub("hub"))
            // An upper directory on whatever holds /tmp may be an overlay itself (in containers).
            try await expect(
                bench,
                """
                mkdir $dir/disk; mount -t tmpfs none $dir/disk; mkdir $dir/disk/up $dir/disk/work
                options=rw,upperdir=$dir/disk/up,workdir=$dir/disk/work
                $mount \(flist) $m -o $options
                echo new > $m/new; rm $m/file-0; echo more >> $m/file-2
                same "$(cat $m/new)" new
                same "$(wc -c < $m/file-2)" 1005
                same "$(cat $dir/disk/up/new)" new
                $chunkmesh umount $m
                gone
                soon eval '! pgrep -f [r]eadiness-fd > /dev/null'
                diff -r \(tree) \(tree)
                $mount \(flist) $m -o $options
                same "$(cat $m/new)" new
                test ! -e $m/file-0
                umount $m
                soon gone
                """)
        }
    }

    @Test func endsInEveryWay() async throws {
        try await withBench { bench in
            let (flist, _) = try await bench.pack(files: 2, bytes: 1000, route: "dir://" + bench.sub("hub"))
            try await expect(
                bench,
                """
                helper() { pgrep -f "[r]eadiness-fd"; }
                for signal in TERM INT; do
                    $mount \(flist) $m; cat $m/* > /dev/null 2>&1 || true
                    kill -$signal $(helper); soon gone; soon eval '! helper'
                done
                $mount \(flist) $m
                kill -KILL $(helper); soon eval '! ls $m 2> /dev/null'
                same "$(ls $m 2>&1 | grep -c 'not connected' || true)" 1
                $chunkmesh umount $m
                gone
                $chunkmesh mount \(flist) $m
                grep " $m " /proc/self/mountinfo | grep -q nosuid,nodev
                exec 8< $m/file-0
                $chunkmesh umount $m --patience 0 2> $dir/said
                grep -q 'in use' $dir/said
                gone
                exec 8<&-
                if $chunkmesh umount $m 2> $dir/said; then fail 'unmounted twice'; fi
                grep -q 'no flist is mounted' $dir/said
                $chunkmesh mount \(flist) $m --foreground & job=$!
                soon test -e $m/file-0
                kill -INT $job; wait $job
                gone
                """)
        }
    }

    @Test func errorsAreOneLine() async throws {
        try await withBench { bench in
            let (flist, _) = try await bench.pack(files: 1, bytes: 10, route: "dir://" + bench.sub("hub"))
            try bench.write(Array("no flist".utf8), to: bench.sub("bad"), mode: 0o600)
            try await expect(
                bench,
                """
                fails() {
                    local status=$1 words=$2 got=0
                    shift 2
                    "$@" > $dir/out 2> $dir/err || got=$?
                    same $got $status
                    same "$(wc -l < $dir/err)" 1
                    grep -q -- "$words" $dir/err || fail "$(cat $dir/err) lacks $words"
                    same "$(cat $dir/out)" ""
                }
                fails 32 'No such file' $mount $dir/none.fl $m
                fails 32 'No such file' $mount \(flist) $dir/nowhere
                fails 32 'not a directory' $mount \(flist) $dir/bad
                fails 32 'bad' $mount $dir/bad $m
                fails 1 'unknown mount option nonsense' $mount \(flist) $m -o nonsense
                fails 1 'timeout=' $mount \(flist) $m -o timeout=0
                fails 1 'No such file' $chunkmesh mount $dir/none.fl $m
                fails 32 'overlay' $mount \(flist) $m -o upperdir=$m,workdir=$m
                gone
                $mount -f \(flist) $m
                gone
                """)
        }
    }

    @Test func usersMountByFusermount() async throws {
        guard FileManager.default.isExecutableFile(atPath: "/usr/bin/fusermount3") else { return }
        try await withBench { bench in
            let (flist, _) = try await bench.pack(files: 2, bytes: 1000, route: "dir://" + bench.sub("hub"))
            try await expect(
                bench,
                """
                chmod -R a+rX $dir; chmod 755 $dir; chown 65534 $m
                # The device and the build's folder may be closed to others.
                mknod -m 666 $dir/fuse c 10 229; mount --bind $dir/fuse /dev/fuse
                mkdir $dir/bin; cp $mount $chunkmesh $dir/bin
                as() { setpriv --reuid 65534 --regid 65534 --clear-groups -- env HOME=$dir TMPDIR=/tmp LD_LIBRARY_PATH=${LD_LIBRARY_PATH-} "$@"; }
                as $dir/bin/chunkmesh mount \(flist) $m
                as cmp $m/file-0 $dir/image-tree/file-0
                as $dir/bin/chunkmesh umount $m
                gone
                """)
        }
    }

    /// A daemon of the script's own: `daemon` starts one and waits for it, $api is its socket, $pid its process.
    static let daemon = """
        api=$dir/n/api.sock
        printf 'node: {name: n1}\\nmesh: {listen: "127.0.0.1:%s", multicast: false}\\n' $port > $dir/n.yaml
        printf 'cache: {dir: "%s", minFree: "0%%"}\\napi: {listen: "127.0.0.1:%s"}\\n' $dir/n $((port + 1)) >> $dir/n.yaml
        daemon() { ${mount%/*}/chunkmeshd --config $dir/n.yaml 2>> $dir/log & pid=$!; soon test -S $api.read; }
        drop() { dd if=$1 iflag=nocache count=0 status=none; }

        """

    @Test func theDaemonIsKilledAndComesBack() async throws {
        try await withBench { bench in
            let (flist, tree) = try await bench.pack(files: 6, bytes: 1_300_000, route: "dir://" + bench.sub("hub"))
            try await expect(
                bench,
                """
                port=\(Ports.free())
                \(Self.daemon)
                daemon
                $mount \(flist) $m -o api=$api,timeout=30
                cmp $m/file-0 \(tree)/file-0
                kill -KILL $pid; wait $pid || true
                # What was ready stays so; what was not is waited for.
                cmp $m/file-0 \(tree)/file-0
                find $m > /dev/null
                for i in 1 3 5; do (cmp $m/sub/file-$i \(tree)/sub/file-$i && touch $dir/done-$i) & done
                sleep 0.5
                test ! -e $dir/done-1 -a ! -e $dir/done-3 -a ! -e $dir/done-5
                daemon
                for i in 1 3 5; do soon test -e $dir/done-$i; done
                # Nobody waits for ever.
                kill -KILL $pid; wait $pid || true
                $chunkmesh umount $m
                daemon
                $mount \(flist) $m -o api=$api,timeout=1
                kill -KILL $pid; wait $pid || true
                if cat $m/file-2 > $dir/out 2> $dir/err; then fail 'read without a daemon'; fi
                grep -q 'Input/output error' $dir/err
                test ! -s $dir/out
                # Unmounting while readers hang.
                (cat $m/file-4 > /dev/null 2>&1 || true) &
                $chunkmesh umount $m --patience 0
                gone
                """)
        }
    }

    @Test func whatIsGoneFromTheHubIsAnErrorAndTheRestIsRead() async throws {
        try await withBench { bench in
            let (flist, tree) = try await bench.pack(files: 4, bytes: 700_000, route: "dir://" + bench.sub("hub"))
            try await expect(
                bench,
                """
                port=\(Ports.free())
                \(Self.daemon)
                daemon
                $mount \(flist) $m -o api=$api,timeout=3
                cmp $m/file-0 \(tree)/file-0
                mv $dir/hub $dir/away
                drop $m/file-0
                cmp $m/file-0 \(tree)/file-0
                if cat $m/file-2 > $dir/out 2> $dir/err; then fail 'read what is nowhere'; fi
                grep -q 'Input/output error' $dir/err
                test ! -s $dir/out
                mv $dir/away $dir/hub
                soon cmp -s $m/file-2 \(tree)/file-2
                umount $m
                """)
        }
    }

    @Test func whatIsWholeIsPassedThrough() async throws {
        try await withBench { bench in
            let (flist, tree) = try await bench.pack(files: 2, bytes: 3_000_000, route: "dir://" + bench.sub("hub"))
            try await expect(
                bench,
                """
                port=\(Ports.free())
                \(Self.daemon)
                daemon
                $mount \(flist) $m -o api=$api --foreground 2> $dir/said & helper=$!
                soon test -e $m/file-0
                reads() {
                    kill -USR1 $helper
                    sleep 0.2
                    tail -1 $dir/said | grep -o '[0-9]* reads' | cut -d' ' -f1
                }
                cmp $m/file-0 \(tree)/file-0
                before=$(reads)
                test $before -gt 0
                for i in 1 2 3; do drop $m/file-0; cmp $m/file-0 \(tree)/file-0; done
                same $(reads) $before
                test $(tail -1 $dir/said | grep -o '[0-9]* passed through' | cut -d' ' -f1) -ge 3
                umount $m
                """)
        }
    }
}
