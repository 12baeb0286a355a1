public import ChunkModel
public import MeshKeys
public import PeerProtocol
internal import Glibc
internal import Synchronization

/// Answers the requests of other nodes.
public protocol PeerRequestHandler: Sendable {
    /// Called on an I/O thread; must not block. The answer goes through `responder`, at once or later, from any thread. Until then
    /// the exchange tells the peer by itself that the request is being worked on.
    func handle(_ request: PeerRequest, from peer: NodeID, responder: PeerResponder)
    /// The peer cancelled, its deadline is over, or its connection is gone: an answer would go nowhere. Called on an I/O thread.
    func cancelled(_ id: PeerResponder.ID)
}

/// Takes the one answer to a request. A second answer is thrown away; when it is let go without any, the peer gets "internal error".
public final class PeerResponder: Sendable {
    public struct ID: Hashable, Sendable {
        let connection: UInt64
        let request: UInt32
    }

    public let id: ID
    /// Where the connection comes from; the port is not the one that the peer listens on.
    public let remote: NodeAddress
    private let thread: IOThread
    private let answered = Atomic(false)

    init(id: ID, remote: NodeAddress, thread: IOThread) { (self.id, self.remote, self.thread) = (id, remote, thread) }

    deinit { answer(.refused(.internalError)) }

    /// Sends `length` bytes of a file from `offset`. The exchange owns the descriptor from now on, and closes it in any case.
    public func sendFile(_ descriptor: Int32, offset: Int64 = 0, length: Int) {
        answer(.file(descriptor: descriptor, offset: max(0, offset), length: length))
    }
    public func sendBuffer(_ buffer: ChunkBuffer) { answer(.buffer(buffer)) }
    /// Sends bytes that are not in a file as bulk data.
    public func sendBytes(_ bytes: [UInt8]) { answer(.buffer(ChunkBuffer(copying: bytes))) }
    public func message(_ bytes: [UInt8]) { answer(.message(bytes)) }
    public func missing() { answer(.missing) }
    public func busy(retryAfter: Duration) { answer(.busy(milliseconds: UInt32(clamping: retryAfter.milliseconds))) }
    public func refused(_ reason: RefusalReason) { answer(.refused(reason)) }

    private func answer(_ reply: Reply) {
        guard !answered.exchange(true, ordering: .acquiringAndReleasing),
            thread.post(.answer(connection: id.connection, request: id.request, reply))
        else { return reply.dispose() }
    }
}

/// A handler's answer on its way to the connection.
enum Reply: Sendable {
    case file(descriptor: Int32, offset: Int64, length: Int)
    case buffer(ChunkBuffer)
    case message([UInt8])
    case missing
    case busy(milliseconds: UInt32)
    case refused(RefusalReason)

    var answer: ServerConnectionMachine.Answer {
        switch self {
        case .file(_, _, let length): .data(length: length)
        case .buffer(let buffer): .data(length: buffer.count)
        case .message(let bytes): .message(bytes)
        case .missing: .missing
        case .busy(let milliseconds): .busy(retryAfterMilliseconds: milliseconds)
        case .refused(let reason): .refused(reason)
        }
    }

    /// Frees what the answer holds; each answer is either sent or disposed of.
    func dispose() {
        if case .file(let descriptor, _, _) = self { _ = close(descriptor) }
    }
}

extension Duration {
    var milliseconds: Int64 {
        let (seconds, attoseconds) = components
        return seconds.multipliedReportingOverflow(by: 1000).partialValue &+ attoseconds / 1_000_000_000_000_000
    }
    /// Clamped to 0...292 years.
    var nanoseconds: UInt64 {
        let (seconds, attoseconds) = components
        guard seconds >= 0, attoseconds >= 0 else { return 0 }
        let (whole, overflow) = UInt64(seconds).multipliedReportingOverflow(by: 1_000_000_000)
        return overflow || whole > 1 << 62 ? 1 << 62 : whole + UInt64(attoseconds / 1_000_000_000)
    }
}
