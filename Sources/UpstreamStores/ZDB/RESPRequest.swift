internal import ChunkModel

/// A command as an array of bulk strings, the only form that zdb takes (FORMATS.md §3). Names are written out: zdb matches prefixes.
struct RESPRequest: Sendable {
    /// All of it, or what stands before `payload`.
    private(set) var head: [UInt8]
    /// The last argument where it is a chunk: sent from where it lies, followed by CR LF.
    private(set) var payload: ChunkBuffer?

    init(_ arguments: [[UInt8]], payload: ChunkBuffer? = nil) {
        head = Array("*\(arguments.count + (payload == nil ? 0 : 1))\r\n".utf8)
        for argument in arguments {
            head += Array("$\(argument.count)\r\n".utf8)
            head += argument
            head += [13, 10]
        }
        if let payload { head += Array("$\(payload.count)\r\n".utf8) }
        self.payload = payload
    }

    private init(_ name: String, _ arguments: [[UInt8]], payload: ChunkBuffer? = nil) {
        self.init([Array(name.utf8)] + arguments, payload: payload)
    }

    var byteCount: Int { head.count + (payload.map { $0.count + 2 } ?? 0) }

    static func get(_ id: ChunkID) -> RESPRequest { RESPRequest("GET", [id.bytes]) }
    static func exists(_ id: ChunkID) -> RESPRequest { RESPRequest("EXISTS", [id.bytes]) }
    static func set(_ chunk: Chunk) -> RESPRequest { RESPRequest("SET", [chunk.id.bytes], payload: chunk.buffer) }

    static func select(namespace: String, password: String?) -> RESPRequest {
        RESPRequest("SELECT", [Array(namespace.utf8)] + (password.map { [Array($0.utf8)] } ?? []))
    }

    static func authenticate(user: String?, password: String) -> RESPRequest {
        RESPRequest("AUTH", (user.map { [Array($0.utf8)] } ?? []) + [Array(password.utf8)])
    }
}
