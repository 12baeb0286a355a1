public import ChunkModel
public import ReadProtocol

/// What answers the requests of clients.
///
/// Called on the server's thread: it must not block, and answers at once or later, from any thread.
public protocol ReadHandler: Sendable {
    /// A client is there that speaks our version.
    func began(_ client: ReadConnection)
    /// - Parameter request: any but `hello` and `cancel`. One with an id wants exactly one answer.
    func handle(_ request: ReadRequest, from client: ReadConnection)
    /// The client has gone; what it asked for was cancelled.
    func ended(_ client: ReadConnection)
}

/// A piece of an inline answer: keeps its buffer alive until it is sent.
public struct ReadPiece: Sendable {
    public let buffer: ChunkBuffer
    public let range: Range<Int>
    private let owner: (any Sendable)?
    /// - Parameter owner: lives until the piece is sent, or never will be.
    public init(buffer: ChunkBuffer, range: Range<Int>, owner: (any Sendable)? = nil) {
        (self.buffer, self.range, self.owner) = (buffer, range, owner)
    }
}

/// Why the server cannot listen.
public struct ReadServerError: Error, Sendable, CustomStringConvertible {
    public let description: String
}
