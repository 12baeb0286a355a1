import Foundation
import Glibc
import Synchronization
import Testing

@testable import FlistMount

/// A session against the kernel itself.
@Suite(.serialized, .enabled(if: MountBench.isPossible, MountBench.reason)) struct SessionTests {
    static let megabyte = 1 << 20

    @Test func readsGoThroughThePageCache() async throws {
        try await MountBench.with(["a": 3 * Self.megabyte + 17, "empty": 0], passthrough: false) { bench throws in
            #expect(try bench.read("a") == bench.original("a"))
            #expect(try bench.read("empty") == [])
            let before = bench.session.counts
            #expect(before.reads > 0 && before.opens == 0, "OPEN serves nothing here, and is not told")
            #expect(try bench.read("a") == bench.original("a"))
            #expect(bench.session.counts.reads == before.reads, "what was read stays in the page cache")
        }
    }

    @Test func wholeFilesAreReadByTheKernelItself() async throws {
        try await MountBench.with(["a": 2 * Self.megabyte + 1]) { bench throws in
            bench.content.complete()
            #expect(try bench.read("a") == bench.original("a"))
            let counts = bench.session.counts
            #expect(counts.reads == 0 && counts.passthroughOpens == 1 && counts.readBytes == 0)
            // The id goes with the last RELEASE.
            try bench.eventually("the file is released") { bench.session.opens.withLock { $0.count } == 0 }
            let first = open(bench.path("a"), O_RDONLY | O_CLOEXEC)
            let second = open(bench.path("a"), O_RDONLY | O_CLOEXEC)
            #expect(try MountBench.read(first) == MountBench.read(second))
            let map = try #require(mmap(nil, 2 * Self.megabyte, PROT_READ, MAP_SHARED, first, 0))
            #expect([UInt8](UnsafeRawBufferPointer(start: map, count: 2 * Self.megabyte)) == [UInt8](bench.original("a").dropLast()))
            munmap(map, 2 * Self.megabyte)
            close(first)
            close(second)
            try bench.eventually("both are released") { bench.session.opens.withLock { $0.count } == 0 }
            #expect(bench.session.counts.reads == 0 && bench.session.counts.passthroughOpens == 3)
        }
    }

    @Test func cachedAndPassedThroughDoNotMix() async throws {
        try await MountBench.with(["a": Self.megabyte]) { bench throws in
            let cached = open(bench.path("a"), O_RDONLY | O_CLOEXEC)
            bench.content.complete()
            #expect(try bench.read("a") == bench.original("a"))
            #expect(bench.session.counts.passthroughOpens == 0 && bench.session.counts.reads > 0)
            close(cached)
            try bench.eventually("the file is released") { bench.session.opens.withLock { $0.count } == 0 }
            #expect(try bench.read("a") == bench.original("a"))
            #expect(bench.session.counts.passthroughOpens == 1)
        }
    }

    @Test func aSlowChunkHoldsUpNothingElse() async throws {
        try await MountBench.with(["slow": Self.megabyte, "b": Self.megabyte]) { bench throws in
            bench.content.hold(try bench.ino("slow"))
            let results = Mutex<[[UInt8]]>([])
            let readers = 16
            // Threads of this one's namespace: it is inherited.
            for _ in 0..<readers {
                Thread.detachNewThread {
                    let bytes = (try? bench.read("slow")) ?? []
                    results.withLock { $0.append(bytes) }
                }
            }
            try bench.eventually("they wait") { bench.session.pending.count > 0 }
            var status = stat()
            #expect(stat(bench.path("slow"), &status) == 0 && stat(bench.path("none"), &status) != 0)
            #expect(try FileManager.default.contentsOfDirectory(atPath: bench.directory + "/mnt").sorted() == ["b", "slow"])
            #expect(try bench.read("b") == bench.original("b"))
            #expect(results.withLock { $0.isEmpty })
            bench.content.release()
            try bench.eventually("all have read") { results.withLock { $0.count } == readers }
            let original = bench.original("slow")
            #expect(results.withLock { $0.allSatisfy { $0 == original } })
        }
    }

    @Test func contentThatDoesNotComeIsAnErrorInTime() async throws {
        try await MountBench.with(["a": 100_000], timeout: .milliseconds(600)) { bench throws in
            bench.content.hold(try bench.ino("a"))
            let begin = ContinuousClock.now
            #expect(throws: POSIXError(.EIO)) { try bench.read("a") }
            #expect(ContinuousClock.now - begin > .milliseconds(500))
            bench.content.release()
            #expect(try bench.read("a") == bench.original("a"), "an error is not kept")
        }
    }

    /// The kernel would show zeros behind a short answer.
    @Test func contentThatIsTooShortIsAnError() async throws {
        try await MountBench.with(["a": 100_000]) { bench throws in
            bench.content.cut(1)
            #expect(throws: POSIXError(.EIO)) { try bench.read("a") }
            bench.content.cut(0)
            #expect(try bench.read("a") == bench.original("a"))
        }
    }

    @Test func aReaderThatIsKilledIsGone() async throws {
        try await MountBench.with(["a": Self.megabyte]) { bench throws in
            bench.content.hold(try bench.ino("a"))
            var pid: pid_t = 0
            let words: [String] = ["dd", "if=" + bench.path("a"), "of=/dev/null", "bs=4096", "status=none"]
            let argv: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) } + [nil]
            defer { for text in argv { free(text) } }
            try #require(posix_spawnp(&pid, "dd", nil, nil, argv, environ) == 0)
            try bench.eventually("it waits") { bench.session.pending.count > 0 }
            kill(pid, SIGKILL)
            var status: Int32 = 0
            #expect(waitpid(pid, &status, 0) == pid && status & 0x7f == SIGKILL)
            bench.content.release()
        }
    }

    @Test func unmountingWhileReadersHang() async throws {
        try await MountBench.with(["a": Self.megabyte]) { bench throws in
            bench.content.hold(try bench.ino("a"))
            let done = Mutex(false)
            Thread.detachNewThread {
                _ = try? bench.read("a")
                done.withLock { $0 = true }
            }
            try bench.eventually("it waits") { bench.session.pending.count > 0 }
            #expect(try MountPoint.unmountFlist(bench.directory + "/mnt", patience: .milliseconds(100)), "it was busy")
            #expect(try FileManager.default.contentsOfDirectory(atPath: bench.directory + "/mnt") == [])
            bench.content.release()
            try bench.eventually("the reader has ended") { done.withLock { $0 } }
            #expect(throws: MountError.self) { try MountPoint.unmountFlist(bench.directory + "/mnt", patience: .zero) }
        }
    }

    @Test func nothingCanBeChanged() async throws {
        try await MountBench.with(["a": 10]) { bench throws in
            func refused(_ result: Int32, _ place: SourceLocation = #_sourceLocation) {
                #expect(result < 0 && errno == EROFS, "\(errno)", sourceLocation: place)
            }
            let (a, b) = (bench.path("a"), bench.path("b"))
            refused(open(a, O_WRONLY))
            refused(open(a, O_RDWR))
            refused(open(a, O_RDONLY | O_TRUNC))
            refused(open(b, O_CREAT | O_RDWR, 0o600))
            refused(mkdir(b, 0o700))
            refused(unlink(a))
            refused(rename(a, b))
            refused(symlink("x", b))
            refused(link(a, b))
            refused(chmod(a, 0o600))
            refused(chown(a, 1, 1))
            refused(truncate(a, 0))
            refused(mkfifo(b, 0o600))
            refused(utimes(a, nil))
        }
    }

    @Test func directoriesLargerThanAnyBuffer() async throws {
        let files = Dictionary(uniqueKeysWithValues: (0..<1500).map { (String(format: "file-%05d-with-a-rather-long-name", $0), 1) })
        try await MountBench.with(files) { bench throws in
            for _ in 0..<2 {
                #expect(try FileManager.default.contentsOfDirectory(atPath: bench.directory + "/mnt").sorted() == files.keys.sorted())
            }
            let listings = bench.session.counts.listings
            #expect(try FileManager.default.contentsOfDirectory(atPath: bench.directory + "/mnt").count == files.count)
            #expect(bench.session.counts.listings == listings, "the kernel keeps listings")
            // Going back to a place that was told before.
            let directory = try #require(opendir(bench.directory + "/mnt"))
            defer { closedir(directory) }
            for _ in 0..<700 { try #require(readdir(directory) != nil) }
            let place = telldir(directory)
            let next = try #require(readdir(directory)).pointee.d_ino
            rewinddir(directory)
            _ = readdir(directory)
            seekdir(directory, place)
            #expect(try #require(readdir(directory)).pointee.d_ino == next)
        }
    }
}
