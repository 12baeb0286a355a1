public import ChunkModel

/// One sealed unit of the exchange protocol, after the handshake.
///
/// On the wire: u16 length, then ChaCha20-Poly1305 of kind u8 and the fields below, numbers big-endian. `id` numbers the requests
/// of one connection, strictly rising. Raw bulk bytes follow a `data` frame; all else travels in frames.
public enum PeerFrame: Hashable, Sendable {
    /// The client's first frame: its signature over the transcript.
    case proof([UInt8])
    /// `deadline` in milliseconds from arrival.
    case request(id: UInt32, RequestBody, priority: FetchPriority, deadline: UInt32)
    case cancel(id: UInt32)
    /// The server works on it (heartbeat).
    case pending(id: UInt32)
    case busy(id: UInt32, retryAfterMilliseconds: UInt32)
    case missing(id: UInt32)
    case refused(id: UInt32, RefusalReason)
    /// `length` raw bytes follow on the stream.
    case data(id: UInt32, length: UInt32)
    /// The first bytes of a message of `total` bytes; `part`s follow directly until it is whole.
    case message(id: UInt32, total: UInt32, first: [UInt8])
    case part(id: UInt32, [UInt8])

    public enum RequestBody: Hashable, Sendable {
        case chunk(ChunkID, ChunkMode, flist: FlistDigest?)
        case flistPiece(FlistDigest, offset: UInt64, length: UInt32)
        /// `part`s follow directly when `first` is not all of it.
        case message(kind: UInt8, total: UInt32, first: [UInt8])
    }

    private enum Tag: UInt8 {
        case proof = 1
        case request, cancel, pending, busy, missing, refused, data, message, part
    }

    private enum RequestTag: UInt8 {
        case chunk = 1
        case flistPiece, message
    }

    public static let signatureBytes = 64

    public var encoded: [UInt8] {
        var out = WireWriter()
        func head(_ tag: Tag, _ id: UInt32) {
            out.put8(tag.rawValue)
            out.put32(id)
        }
        switch self {
        case .proof(let signature):
            out.put8(Tag.proof.rawValue)
            out.put(signature)
        case .request(let id, let body, let priority, let deadline):
            head(.request, id)
            out.put8(priority.rawValue)
            out.put32(deadline)
            Self.encode(body, to: &out)
        case .cancel(let id): head(.cancel, id)
        case .pending(let id): head(.pending, id)
        case .busy(let id, let retryAfter):
            head(.busy, id)
            out.put32(retryAfter)
        case .missing(let id): head(.missing, id)
        case .refused(let id, let reason):
            head(.refused, id)
            out.put8(reason.rawValue)
        case .data(let id, let length):
            head(.data, id)
            out.put32(length)
        case .message(let id, let total, let first):
            head(.message, id)
            out.put32(total)
            out.put(first)
        case .part(let id, let bytes):
            head(.part, id)
            out.put(bytes)
        }
        return out.bytes
    }

    private static func encode(_ body: RequestBody, to out: inout WireWriter) {
        switch body {
        case .chunk(let id, let mode, let flist):
            out.put8(RequestTag.chunk.rawValue)
            out.put8(mode.rawValue)
            out.put8(id.length.rawValue)
            out.put(id.bytes)
            out.put8(flist == nil ? 0 : 1)
            if let flist { out.put(flist.value.bytes) }
        case .flistPiece(let digest, let offset, let length):
            out.put8(RequestTag.flistPiece.rawValue)
            out.put(digest.value.bytes)
            out.put64(offset)
            out.put32(length)
        case .message(let kind, let total, let first):
            out.put8(RequestTag.message.rawValue)
            out.put8(kind)
            out.put32(total)
            out.put(first)
        }
    }

    /// Reads what `encoded` wrote; any bytes may come in.
    public init(decoding bytes: [UInt8]) throws(ProtocolViolation) {
        var reader = WireReader(bytes)
        let raw = try reader.take8()
        guard let tag = Tag(rawValue: raw) else { throw ProtocolViolation("a frame of unknown kind \(raw)") }
        if tag == .proof {
            self = .proof(Array(try reader.take(Self.signatureBytes)))
            try reader.end()
            return
        }
        let id = try reader.take32()
        switch tag {
        case .proof, .cancel: self = .cancel(id: id)
        case .request:
            guard let priority = FetchPriority(rawValue: try reader.take8()) else { throw ProtocolViolation("an unknown priority") }
            let deadline = try reader.take32()
            self = .request(id: id, try Self.decodeBody(&reader), priority: priority, deadline: deadline)
        case .pending: self = .pending(id: id)
        case .busy: self = .busy(id: id, retryAfterMilliseconds: try reader.take32())
        case .missing: self = .missing(id: id)
        case .refused:
            // A later version may know more reasons; they all mean "no".
            self = .refused(id: id, RefusalReason(rawValue: try reader.take8()) ?? .notAllowed)
        case .data:
            let length = try reader.take32()
            guard length <= ProtocolLimits.maxDataBytes else { throw ProtocolViolation("bulk data of \(length) bytes was announced") }
            self = .data(id: id, length: length)
        case .message:
            let total = try reader.take32()
            self = .message(id: id, total: total, first: try Self.decodeFirst(&reader, total: total))
        case .part: self = .part(id: id, reader.takeRest())
        }
        try reader.end()
    }

    private static func decodeBody(_ reader: inout WireReader) throws(ProtocolViolation) -> RequestBody {
        let raw = try reader.take8()
        switch RequestTag(rawValue: raw) {
        case .chunk:
            guard let mode = ChunkMode(rawValue: try reader.take8()) else { throw ProtocolViolation("an unknown chunk mode") }
            let length = Int(try reader.take8())
            guard let id = ChunkID(try reader.take(length)) else { throw ProtocolViolation("a chunk id of \(length) bytes") }
            guard try reader.take8() != 0 else { return .chunk(id, mode, flist: nil) }
            return .chunk(id, mode, flist: try decodeDigest(&reader))
        case .flistPiece:
            let digest = try decodeDigest(&reader)
            let (offset, length) = (try reader.take64(), try reader.take32())
            guard length > 0, length <= ProtocolLimits.maxPieceBytes else {
                throw ProtocolViolation("an flist piece of \(length) bytes was asked for")
            }
            guard offset <= UInt64(Int64.max) - UInt64(length) else { throw ProtocolViolation("an flist piece beyond any file") }
            return .flistPiece(digest, offset: offset, length: length)
        case .message:
            let (kind, total) = (try reader.take8(), try reader.take32())
            return .message(kind: kind, total: total, first: try decodeFirst(&reader, total: total))
        case nil: throw ProtocolViolation("a request of unknown kind \(raw)")
        }
    }

    private static func decodeDigest(_ reader: inout WireReader) throws(ProtocolViolation) -> FlistDigest {
        guard let value = Bytes32(try reader.take(32)) else { throw ProtocolViolation("a frame ends too early") }
        return FlistDigest(value)
    }

    private static func decodeFirst(_ reader: inout WireReader, total: UInt32) throws(ProtocolViolation) -> [UInt8] {
        guard total <= ProtocolLimits.maxMessageBytes else { throw ProtocolViolation("a message of \(total) bytes was announced") }
        guard reader.left <= Int(total) else { throw ProtocolViolation("a message is longer than announced") }
        return reader.takeRest()
    }
}
