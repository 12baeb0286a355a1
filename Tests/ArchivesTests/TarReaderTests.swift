import Archives
import Foundation
import Testing

@Suite struct TarReaderTests {
    let limits = ArchiveLimits(unpackedBytes: 16 << 20, members: 100)

    private func reader(
        _ bytes: [UInt8], step: Int = .max, accepting: Set<ArchiveCompression> = [.none, .gzip], limits: ArchiveLimits? = nil
    ) throws
        -> TarReader
    {
        try TarReader(label: "a.tar", accepting: accepting, limits: limits ?? self.limits, source: TestArchive.source(bytes, step: step))
    }

    private func all(_ reader: TarReader) throws -> [TarMember] {
        var members: [TarMember] = []
        while let member = try reader.next() { members.append(member) }
        return members
    }

    private func code(_ body: () throws -> Void) -> ArchiveError.Code? {
        do { try body() } catch let error as ArchiveError { return error.code } catch { return nil }
        return nil
    }

    @Test(arguments: ["PAX", "GNU", "USTAR"])
    func membersOfEveryKindAreSeenAsStored(format: String) throws {
        let made = try TestArchive.make(
            """
            add('./', type=tarfile.DIRTYPE, mode=0o1755)
            add('./file', b'hello', mode=0o4711, uid=7, gid=8, mtime=1700000000)
            add('caf\\u00e9', b'x' * 100000)
            add('link', type=tarfile.SYMTYPE, linkname='../../etc/passwd')
            add('hard', type=tarfile.LNKTYPE, linkname='./file')
            add('pipe', type=tarfile.FIFOTYPE)
            add('null', type=tarfile.CHRTYPE, devmajor=1, devminor=3)
            add('/abs/../x', b'')
            """, format: format)
        let tar = try reader(made, step: 1000)
        var bodies: [[UInt8]] = []
        var members: [TarMember] = []
        while let member = try tar.next() {
            members.append(member)
            bodies.append(try tar.body(limit: 200_000))
        }
        #expect(
            members.map { String(decoding: $0.path, as: UTF8.self) } == [
                "./", "./file", "café", "link", "hard", "pipe", "null", "/abs/../x",
            ])
        #expect(
            members.map(\.kind) == [
                .directory, .file, .file, .symlink(target: Array("../../etc/passwd".utf8)), .hardLink(target: Array("./file".utf8)), .fifo,
                .charDevice(major: 1, minor: 3), .file,
            ])
        #expect(bodies[1] == Array("hello".utf8) && bodies[2].count == 100_000)
        #expect(members[1].permissions == 0o4711 && members[1].uid == 7 && members[1].gid == 8 && members[1].mtime == 1_700_000_000)
        #expect(members[1].size == 5 && members[0].permissions == 0o1755)
        #expect(members[1].plainPath == Array("file".utf8) && members[0].plainPath == [] && members[7].plainPath == Array("/abs/../x".utf8))
    }

    @Test func bodiesThatNobodyReadsArePassedOver() throws {
        let made = try TestArchive.make("add('a', b'1' * 70000); add('b', b'2')", mode: "w")
        let tar = try reader(made)
        #expect(try tar.next()?.path == Array("a".utf8))
        #expect(try tar.next()?.path == Array("b".utf8))
        #expect(try tar.body(limit: 1) == Array("2".utf8))
        #expect(try tar.next() == nil)
        #expect(try tar.next() == nil)
    }

    @Test func aBodyOverItsLimitIsAnError() throws {
        let made = try TestArchive.make("add('a', b'1' * 11)", mode: "w")
        let tar = try reader(made)
        _ = try tar.next()
        #expect(code { _ = try tar.body(limit: 10) } == .overLimit)
    }

    @Test func everyCutIsFound() throws {
        let made = try TestArchive.make("add('a', bytes(i * 7 & 255 for i in range(5000)))")
        #expect(try all(reader(made)).count == 1)
        for cut in stride(from: 0, to: made.count, by: 7) {
            #expect(throws: ArchiveError.self, "cut at \(cut)") { try all(reader(Array(made.prefix(cut)))) }
        }
    }

    @Test func aWrongChecksumIsFound() throws {
        var made = try TestArchive.make("add('a', b'body')")
        made[made.count - 6] ^= 1
        #expect(code { _ = try all(reader(made)) } == .damaged)
    }

    @Test func bombsEndAtTheLimit() throws {
        let small = ArchiveLimits(unpackedBytes: 1 << 20, members: 3)
        let bomb = try TestArchive.make("add('a', bytes(8 << 20)); add('b')")
        #expect(code { _ = try all(reader(bomb, limits: small)) } == .overLimit)
        let many = try TestArchive.make("for i in range(4): add('a')")
        #expect(code { _ = try all(reader(many, limits: small)) } == .overLimit)
        let long = try TestArchive.make("add('a' * 5000)")
        #expect(code { _ = try all(reader(long)) } == .overLimit)
    }

    @Test func anythingElseIsNoArchive() throws {
        for bytes in [[], Array("hello".utf8), [UInt8](repeating: 65, count: 100_000), [0x1f, 0x8b], Array("PK\u{3}\u{4}".utf8)] {
            #expect(throws: ArchiveError.self) { try all(reader(bytes)) }
        }
        let gzip = try TestArchive.make("add('a')")
        #expect(code { _ = try reader(gzip, accepting: [.none]) } == .notArchive)
        let twice = try TestArchive.make(
            "add('a')\nt.close()\nimport gzip\nx = gzip.compress(out.getvalue())\nout.seek(0)\nout.write(x)\nout.truncate()")
        #expect(code { _ = try all(reader(twice)) } == .notArchive)
    }

    @Test func whatTheSourceThrowsIsTheReason() throws {
        struct Gone: Error, CustomStringConvertible { let description = "the line went dead" }
        #expect { try TarReader(label: "x", limits: limits) { _ in throw Gone() } } throws: { "\($0)" == "x: the line went dead" }
        #expect { try TarReader(path: "/nonexistent/a", label: "a", limits: limits) } throws: { "\($0)" == "a: No such file or directory" }
    }
}
