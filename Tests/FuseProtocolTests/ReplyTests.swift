import FuseProtocol
import Testing

@Suite struct ReplyTests {
    private func number<T: FixedWidthInteger>(_ bytes: [UInt8], _ offset: Int, as type: T.Type = T.self) -> T {
        bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: T.self) }
    }

    private let attributes = FuseAttributes(
        ino: 77, size: 1025, mtime: -5, ctime: 9, mode: 0o100644, links: 1, uid: 10, gid: 20, device: 0)

    @Test func lengthsAreThoseOfTheKernel() {
        var reply = FuseReply()
        reply.entry(attributes)
        #expect(reply.count == 128)
        reply.reset()
        reply.entry(nil)
        #expect(reply.count == 128 && reply.bytes[16..<24].allSatisfy { $0 == 0 })
        #expect(number(reply.bytes, 32, as: UInt64.self) == FuseReply.forever, "that there is no such name is kept too")
        reply.reset()
        reply.attributes(attributes)
        #expect(reply.count == 104)
        reply.reset()
        reply.statistics(FuseStatistics(bytes: 4097, inodes: 3))
        #expect(reply.count == 80 && number(reply.bytes, 16, as: UInt64.self) == 2)
        reply.reset()
        reply.opened(handle: 1, .passthrough(backing: 5))
        #expect(reply.count == 16 && number(reply.bytes, 28, as: Int32.self) == 5)
        let flags: UInt32 = number(reply.bytes, 24)
        #expect(flags & 1 << 7 != 0 && flags & 1 << 1 == 0, "passed through, and no pages are kept beside")
    }

    @Test func headersTellLengthAndError() {
        var reply = FuseReply()
        reply.finish(unique: 0x1_0000_0002, error: 2)
        #expect(number(reply.bytes, 0, as: UInt32.self) == 16 && number(reply.bytes, 4, as: Int32.self) == -2)
        #expect(number(reply.bytes, 8, as: UInt64.self) == 0x1_0000_0002)
        reply.finish(unique: 1, following: 1 << 20)
        #expect(number(reply.bytes, 0, as: UInt32.self) == 16 + 1 << 20)
    }

    @Test func attributesStandWhereTheKernelLooks() {
        var reply = FuseReply()
        reply.attributes(attributes)
        let at = 16 + 16
        #expect(number(reply.bytes, at, as: UInt64.self) == 77 && number(reply.bytes, at + 8, as: UInt64.self) == 1025)
        #expect(number(reply.bytes, at + 16, as: UInt64.self) == 3, "blocks of 512 bytes")
        #expect(number(reply.bytes, at + 32, as: Int64.self) == -5)
        #expect(number(reply.bytes, at + 60, as: UInt32.self) == 0o100644 && number(reply.bytes, at + 68, as: UInt32.self) == 10)
    }

    @Test(arguments: [1, 7, 8, 9, 255]) func listingsEndWhereTheRoomEnds(length: Int) {
        let name = [UInt8](repeating: 0x61, count: length)
        let size = 24 + (length + 7) / 8 * 8
        let entry = FuseDirectoryEntry(ino: 5, cookie: 6, name: name, type: 8)
        var reply = FuseReply()
        #expect(!reply.add(entry, limit: size - 1) && reply.count == 0)
        #expect(reply.add(entry, limit: size) && reply.count == size)
        #expect(number(reply.bytes, 16 + 16, as: UInt32.self) == UInt32(length))
        #expect(!reply.add(entry, attributes, limit: size * 2 + 127) && reply.count == size)
        #expect(reply.add(entry, attributes, limit: size * 2 + 128) && reply.count == size * 2 + 128)
    }

    @Test func devicesThatDoNotFitAreNoOthers() {
        #expect(FuseAttributes.device(major: 8, minor: 1) == 0x801)
        #expect(FuseAttributes.device(major: 0, minor: 0x12345) == 0x12300045)
        #expect(FuseAttributes.device(major: 4096, minor: 0) == nil && FuseAttributes.device(major: 0, minor: 1 << 20) == nil)
    }

    @Test func initIsNegotiated() {
        let all: FuseInitFlags = [.asyncRead, .readdirplus, .maxPages, .passthrough, .extended]
        func answer(_ request: FuseInitRequest, wanted: FuseInitFlags = all) -> (FuseNegotiation, [UInt8]) {
            let negotiation = FuseNegotiation(request, wanted: wanted)
            var reply = FuseReply()
            negotiation.encode(maxReadAhead: 1 << 20, into: &reply)
            return (negotiation, reply.bytes)
        }
        let (new, bytes) = answer(FuseInitRequest(major: 7, minor: 44, maxReadAhead: 131_072, flags: all))
        #expect(new.outcome == .agreed && new.hasPassthrough && bytes.count == 16 + 64)
        #expect(number(bytes, 16 + 32, as: UInt32.self) == 1 << 5, "passthrough is bit 37")
        #expect(number(bytes, 16 + 36, as: UInt32.self) == 1, "one file system may stand below")
        #expect(number(bytes, 16 + 28, as: UInt16.self) == 256)
        // Without the upper word, its flags cannot be meant.
        let (older, _) = answer(FuseInitRequest(major: 7, minor: 31, maxReadAhead: 131_072, flags: [.asyncRead, .maxPages]))
        #expect(older.outcome == .agreed && !older.hasPassthrough && older.flags == [.asyncRead, .maxPages])
        let (old, short) = answer(FuseInitRequest(major: 7, minor: 22, maxReadAhead: 131_072, flags: .asyncRead))
        #expect(old.outcome == .agreed && short.count == 16 + 24)
        #expect(answer(FuseInitRequest(major: 8, minor: 0, maxReadAhead: 0, flags: [])).0.outcome == .again)
        #expect(answer(FuseInitRequest(major: 7, minor: 8, maxReadAhead: 0, flags: [])).0.outcome == .tooOld)
        #expect(answer(FuseInitRequest(major: 6, minor: 30, maxReadAhead: 0, flags: [])).0.outcome == .tooOld)
        let (unwanted, _) = answer(FuseInitRequest(major: 7, minor: 44, maxReadAhead: 0, flags: all), wanted: [.asyncRead])
        #expect(!unwanted.hasPassthrough && unwanted.flags == [.asyncRead, .extended])
    }
}
