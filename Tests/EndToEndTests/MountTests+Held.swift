import Testing

/// A mount that is held: helpers come and go.
extension MountTests {
    private static let held = """
        helper() { pgrep -f "^mount.flist --held.* \(Self.mark)"; }
        holder() { pgrep -f "^mount.flist --readiness-fd 3 [^-].* \(Self.mark)"; }
        replaced() { local now; now=$(helper) && [ "$now" != "$1" ]; }
        lose() { local old; old=$(helper); kill -KILL $old; soon replaced $old; }

        """
    /// An option that mount(8) would mean for itself: by it a helper is told from others.
    private static let mark = "x-held"

    @Test func aNewHelperTakesOver() async throws {
        try await withBench { bench in
            let (flist, tree) = try await bench.pack(files: 6, bytes: 1_300_000, route: "dir://" + bench.sub("hub"))
            try await expect(
                bench,
                """
                port=\(Ports.free())
                \(Self.daemon)
                \(Self.held)
                daemon
                $mount \(flist) $m -o hold,api=$api,timeout=30 -o \(Self.mark)
                cmp $m/file-0 \(tree)/file-0
                # Open in both ways over the death: passed through, since it is whole; and through the page cache.
                exec 7< $m/file-0 8< $m/sub/file-1
                head -c 1000 <&8 > /dev/null
                lose
                cmp <(cat <&7) \(tree)/file-0
                for name in file-0 sub/file-1 file-2; do cmp $m/$name \(tree)/$name; done
                exec 7<&- 8<&-
                cmp $m/file-0 \(tree)/file-0
                # Amid reads: what was asked of the one that is killed is asked of the next.
                drop $m/sub/file-3
                kill -STOP $(helper)
                for i in 3 5; do (cmp $m/sub/file-$i \(tree)/sub/file-$i && touch $dir/done-$i) & done
                sleep 0.3
                lose
                for i in 3 5; do soon test -e $dir/done-$i; done
                # The daemon and the helper at once.
                kill -KILL $pid; wait $pid || true
                lose
                (cmp $m/file-4 \(tree)/file-4 && touch $dir/done-4) &
                daemon
                soon test -e $dir/done-4
                $chunkmesh umount $m
                gone
                nobody() { ! pgrep -f '^mount.flist .* \(Self.mark)' > /dev/null; }
                soon nobody
                """)
        }
    }

    @Test func helpersThatCannotLiveAreGivenUp() async throws {
        try await withBench { bench in
            let (flist, _) = try await bench.pack(files: 1, bytes: 1000, route: "dir://" + bench.sub("hub"))
            try await expect(
                bench,
                """
                \(Self.held)
                $mount \(flist) $m -o hold,store=dir://\(bench.sub("hub")) -o \(Self.mark)
                for i in 1 2 3 4 5; do lose; done
                kill -KILL $(helper)
                lost() { [[ $(ls $m 2>&1) == *'endpoint is not connected'* ]]; }
                soon lost
                $chunkmesh umount $m
                gone
                # Told to end, the holder has the helper unmount.
                $mount \(flist) $m -o hold,store=dir://\(bench.sub("hub")) -o \(Self.mark)
                kill -TERM $(holder)
                soon gone
                # Without the holder the helper goes on.
                $mount \(flist) $m -o hold,store=dir://\(bench.sub("hub")) -o \(Self.mark)
                kill -KILL $(holder)
                test -s $m/file-0
                kill -TERM $(helper)
                soon gone
                # It was never mounted.
                if $mount $dir/none.fl $m -o hold,store=dir://\(bench.sub("hub")) 2> $dir/err; then fail mounted; fi
                test $(wc -l < $dir/err) = 1
                """)
        }
    }
}
