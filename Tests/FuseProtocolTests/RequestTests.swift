import FuseProtocol
import Testing

/// Writes requests as the kernel does.
struct Wire {
    var bytes: [UInt8] = []
    init(_ opcode: UInt32, node: UInt64 = 1, unique: UInt64 = 7, body: [UInt8] = [], length: Int? = nil) {
        append(UInt32(length ?? 40 + body.count))
        append(opcode)
        append(unique)
        append(node)
        append(UInt32(1000))
        append(UInt32(100))
        append(UInt32(42))
        append(UInt32(0))
        bytes += body
    }
    mutating func append(_ value: some FixedWidthInteger) { withUnsafeBytes(of: value) { bytes += $0 } }
    static func body(_ values: any FixedWidthInteger...) -> [UInt8] {
        var wire = Wire(0)
        wire.bytes = []
        for value in values { wire.append(value) }
        return wire.bytes
    }
    var request: FuseRequest? { FuseRequest(bytes.span.bytes) }
}

@Suite struct RequestTests {
    @Test func eachOperationIsRead() throws {
        let read = Wire.body(UInt64(5), UInt64(4096), UInt32(65_536), UInt32(0), UInt64(0), UInt32(0), UInt32(0))
        let expected: [(UInt32, [UInt8], FuseRequest.Body)] = [
            (1, Array("name\0".utf8), .lookup(name: Array("name".utf8))), (1, [0xff, 0x80, 0], .lookup(name: [0xff, 0x80])),
            (2, Wire.body(UInt64(1)), .forget), (3, Wire.body(UInt32(0), UInt32(0), UInt64(0)), .getattr), (5, [], .readlink),
            (14, Wire.body(UInt32(0x8000), UInt32(0)), .open(flags: 0x8000)), (27, Wire.body(UInt32(0), UInt32(0)), .opendir),
            (15, read, .read(FuseRead(handle: 5, offset: 4096, size: 65_536))),
            (28, read, .readdir(FuseRead(handle: 5, offset: 4096, size: 65_536))),
            (44, read, .readdirplus(FuseRead(handle: 5, offset: 4096, size: 65_536))),
            (18, Wire.body(UInt64(9), UInt32(0), UInt32(0), UInt64(0)), .release(handle: 9)), (17, [], .statfs), (38, [], .destroy),
            (22, Wire.body(UInt32(100), UInt32(0)) + Array("user.x\0".utf8), .getxattr(name: Array("user.x".utf8), room: 100)),
            (23, Wire.body(UInt32(0), UInt32(0)), .listxattr(room: 0)), (36, Wire.body(UInt64(99)), .interrupt(unique: 99)),
            (42, Wire.body(UInt32(2), UInt32(0), UInt64(3), UInt64(1), UInt64(4), UInt64(1)), .batchForget(count: 2)),
            (46, Wire.body(UInt64(0), UInt64(10), UInt32(3), UInt32(0)), .lseek(offset: 10, whence: 3)), (9, [], .other(.mkdir)),
            (999, [], .unknown(999)),
        ]
        for (opcode, body, meaning) in expected {
            let request = try #require(Wire(opcode, body: body).request)
            #expect(request.body == meaning)
            #expect(request.unique == 7 && request.node == 1 && request.uid == 1000 && request.gid == 100 && request.pid == 42)
        }
    }

    @Test func whatIsCutIsMalformedAndNeverRead() throws {
        for opcode in FuseOpcode.allCases {
            for count in 0..<64 {
                let wire = Wire(opcode.rawValue, body: [UInt8](repeating: 0xff, count: count))
                _ = try #require(wire.request)
                // The length that it states may be wrong either way.
                for length in [0, 39, 41, 40 + count + 1, Int(UInt32.max)] {
                    _ = try #require(Wire(opcode.rawValue, body: [UInt8](repeating: 1, count: count), length: length).request)
                }
            }
        }
        #expect(Wire(1, body: Array("no end".utf8)).request?.body == .malformed(.lookup))
        #expect(Wire(1, body: [0]).request?.body == .malformed(.lookup))
        #expect(Wire(42, body: Wire.body(UInt32.max, UInt32(0))).request?.body == .malformed(.batchForget))
        for count in 0..<40 { #expect(FuseRequest([UInt8](repeating: 0, count: count).span.bytes) == nil) }
    }

    @Test func whatIsNotAnswered() throws {
        for (opcode, body) in [
            (UInt32(2), Wire.body(UInt64(1))), (42, Wire.body(UInt32(0), UInt32(0))), (36, Wire.body(UInt64(1))), (2, []),
        ] {
            #expect(try #require(Wire(opcode, body: body).request).wantsAnswer == false)
        }
        #expect(try #require(Wire(3).request).wantsAnswer)
        #expect(try #require(Wire(999).request).wantsAnswer)
    }

    @Test func changesAreKnown() {
        #expect(FuseOpcode.allCases.filter(\.isChange).count == 16)
        #expect(!FuseOpcode.read.isChange && FuseOpcode.tmpfile.isChange)
    }
}
