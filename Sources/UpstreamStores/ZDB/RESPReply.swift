internal import ChunkModel

/// One reply of a server that speaks RESP2: zdb, ardb, redis.
enum RESPReply: Sendable {
    /// `+OK`.
    case simple([UInt8])
    /// `-ERR …`, without the minus sign.
    case error([UInt8])
    case integer(Int64)
    case bulk(ChunkBuffer)
    /// `$-1` or `*-1`: there is no such thing.
    case null
    case array([RESPReply])

    /// What kind of reply it is, for error lines.
    var kind: String {
        switch self {
        case .simple: "a status"
        case .error: "an error"
        case .integer: "a number"
        case .bulk(let buffer): "\(buffer.count) bytes"
        case .null: "nothing"
        case .array: "a list"
        }
    }

    var isOK: Bool {
        if case .simple(let text) = self { return text == Array("OK".utf8) }
        return false
    }
}

/// Why bytes are no RESP2 reply that is accepted. The connection is of no use afterwards: where the next reply begins is not known.
enum RESPFault: Error, Sendable, Equatable, CustomStringConvertible {
    /// A reply begins with none of `+ - : $ *`.
    case unknownKind(UInt8)
    /// A length or number is none.
    case badNumber
    /// A line does not end with CR LF, or a bulk string does not.
    case badEnding
    case lineTooLong
    /// A bulk string declares more bytes than the reply may have.
    case tooLong(allowed: Int)
    case tooManyElements
    case tooDeep

    var description: String {
        switch self {
        case .unknownKind(let byte): "the server does not speak RESP: a reply begins with byte \(byte)"
        case .badNumber: "the server does not speak RESP: a length is no number"
        case .badEnding: "the server does not speak RESP: a line does not end as it should"
        case .lineTooLong: "the server sent a line of more than \(RESPParser.maxLineBytes) bytes"
        case .tooLong(let allowed): "declares more than the \(allowed) bytes allowed"
        case .tooManyElements: "the server sent a list of more than \(RESPParser.maxElements) elements"
        case .tooDeep: "the server sent lists nested deeper than \(RESPParser.maxDepth)"
        }
    }
}
