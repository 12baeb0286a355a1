import FuseProtocol

extension FuzzTarget {
    /// Requests of the FUSE protocol, as `/dev/fuse` gives them.
    static let fuseRequest = FuzzTarget(
        name: "fuse-request", maxLength: 8_192,
        seeds: {
            func request(_ opcode: UInt32, _ body: [UInt8]) -> [UInt8] {
                var output = FuzzOutput()
                for (value, count) in [(UInt64(40 + body.count), 4), (UInt64(opcode), 4), (7, 8), (1, 8), (0, 4), (0, 4), (1, 4), (0, 4)] {
                    output.number(value, count)
                }
                output.all(body)
                return output.bytes
            }
            let numbers: [UInt8] = [5, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0]
            return [
                request(1, Array("name\0".utf8)), request(15, numbers + numbers), request(44, numbers + numbers), request(36, numbers),
                request(42, [1, 0, 0, 0, 0, 0, 0, 0] + numbers), request(22, [16, 0, 0, 0, 0, 0, 0, 0] + Array("user.a\0".utf8)),
                request(26, [7, 0, 0, 0, 44, 0, 0, 0, 0, 0, 2, 0, 255, 255, 255, 255, 255, 255, 0, 0] + numbers), request(18, numbers),
            ]
        },
        run: { bytes in
            guard let request = FuseRequest(bytes.span.bytes) else {
                fuzzCheck(bytes.count < FuseRequest.headerBytes, "a whole header is not read")
                return
            }
            switch request.body {
            case .lookup(let name), .getxattr(let name, _):
                fuzzCheck(!name.isEmpty && !name.contains(0) && name.count < bytes.count, "a name that is none")
            case .batchForget(let count): fuzzCheck(count * 16 <= bytes.count, "more is forgotten than is named")
            case .initialise(let start):
                let negotiation = FuseNegotiation(start, wanted: [.asyncRead, .passthrough, .maxPages])
                var reply = FuseReply()
                negotiation.encode(maxReadAhead: start.maxReadAhead, into: &reply)
                reply.finish(unique: request.unique)
                fuzzCheck(reply.bytes.count <= 80 && (!negotiation.hasPassthrough || start.flags.contains(.passthrough)), "a wrong answer")
            default: break
            }
        })
}
