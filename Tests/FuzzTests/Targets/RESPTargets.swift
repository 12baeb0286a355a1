import ChunkModel
@testable import UpstreamStores

extension FuzzTarget {
    private static let pool = ChunkBufferPool(keep: 2)

    /// Replies of a zdb or redis server, cut into pieces as the first byte says.
    static let respReplies = FuzzTarget(
        name: "resp", maxLength: 8 << 10, maxMegabytes: 256,
        seeds: {
            [
                "+OK\r\n", "-ERR no such key\r\n:42\r\n:-1\r\n", "$5\r\nhello\r\n$-1\r\n$0\r\n\r\n", "*2\r\n$1\r\na\r\n*1\r\n:3\r\n",
                "$9000000\r\n", "*1025\r\n", "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n",
            ].flatMap { text in [[1] + Array(text.utf8), [200] + Array(text.utf8)] }
        },
        run: { bytes in
            guard let first = bytes.first else { return }
            let limit = 64 << 10
            var parser = RESPParser()
            var rest = bytes.dropFirst()
            do throws(RESPFault) {
                while !rest.isEmpty {
                    let piece = Array(rest.prefix(max(1, Int(first))))
                    rest = rest.dropFirst(piece.count)
                    var start = 0
                    while start < piece.count {
                        var outcome: (used: Int, reply: RESPReply?)?
                        var fault: RESPFault?
                        piece[start...].withUnsafeBytes { window in
                            do throws(RESPFault) { outcome = try parser.parse(window, limit: limit, pool: pool) } catch { fault = error }
                        }
                        if let fault { throw fault }
                        guard let outcome else { return }
                        fuzzCheck(outcome.used > 0, "no byte was used")
                        if let reply = outcome.reply { fuzzCheck(size(of: reply) <= limit, "bulk strings over the limit") }
                        start += outcome.used
                    }
                }
            } catch {
                fuzzCheck(!error.description.isEmpty, "an error without a line")
            }
        })

    private static func size(of reply: RESPReply) -> Int {
        switch reply {
        case .bulk(let buffer): buffer.count
        case .array(let elements): elements.reduce(0) { $0 + size(of: $1) }
        case .simple, .error, .integer, .null: 0
        }
    }
}
