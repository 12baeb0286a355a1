internal import CLinux
internal import ChunkModel
internal import Glibc
public import ReadProtocol
internal import Synchronization

/// One client. Answers may be sent from any thread; they go out at once as far as the socket takes them.
public final class ReadConnection: Sendable {
    /// Something to send: a frame with a descriptor at most, or raw bytes.
    private enum Item {
        case frame([UInt8], descriptor: SharedDescriptor?)
        case piece(ReadPiece)

        var count: Int {
            switch self {
            case .frame(let bytes, _): bytes.count
            case .piece(let piece): piece.range.count
            }
        }
    }

    private struct Out {
        var items: [Item] = []
        /// Bytes of the first item that went out.
        var sent = 0
        var isBlocked = false
        var isClosed = false
        /// When the socket last took something while there was more.
        var movedAt: UInt64 = 0
        /// Requests without an answer, and what ends the work on them.
        var open: [UInt32: (@Sendable () -> Void)?] = [:]
    }

    /// Names the client as long as the process runs.
    public let number: UInt64
    let fd: Int32
    private let out = Mutex(Out())
    private let arm: @Sendable (ReadConnection, Bool) -> Void

    /// - Parameter arm: tells the server's thread whether the socket must be watched for room.
    init(number: UInt64, fd: Int32, arm: @escaping @Sendable (ReadConnection, Bool) -> Void) {
        (self.number, self.fd, self.arm) = (number, fd, arm)
    }

    // MARK: For the handler

    /// Sends an answer to a request, unless it was answered before or the client has gone.
    ///
    /// - Parameters:
    ///   - descriptor: goes with the frame where the answer says so; kept alive until it is sent.
    ///   - pieces: the raw bytes behind `bytes`, as many as the answer says.
    /// - Returns: whether it goes out.
    @discardableResult
    public func send(_ answer: ReadAnswer, descriptor: SharedDescriptor? = nil, pieces: [ReadPiece] = []) -> Bool {
        out.withLock { out in
            guard !out.isClosed else { return false }
            if let id = answer.id, out.open.removeValue(forKey: id) == nil { return false }
            put(answer, descriptor, pieces, &out)
            return true
        }
    }

    /// Runs `stop` when the answer is not wanted any more: at once, when that is so already.
    public func onCancel(of id: UInt32, _ stop: @escaping @Sendable () -> Void) {
        let isLate = out.withLock { out in
            guard !out.isClosed, out.open[id] != nil else { return true }
            out.open[id] = .some(stop)
            return false
        }
        if isLate { stop() }
    }

    // MARK: For the server

    /// Answers that wait to be sent; a client that asks on without taking them is dropped.
    static let maxWaitingAnswers = 4 * ReadLimits.maxRequests

    enum Admission { case admitted, busy, twice, flooded }

    /// Notes that the request wants an answer.
    func admit(_ id: UInt32) -> Admission {
        out.withLock { out in
            if out.open[id] != nil { return .twice }
            if out.items.count > Self.maxWaitingAnswers { return .flooded }
            guard out.open.count < ReadLimits.maxRequests else {
                put(.failed(id: id, code: .busy, message: "too many requests under way"), nil, [], &out)
                return .busy
            }
            out.open[id] = .some(nil)
            return .admitted
        }
    }

    /// Answers the request, if that has not happened, and ends the work on it.
    func cancel(_ id: UInt32) {
        let stop = out.withLock { out -> (@Sendable () -> Void)? in
            guard let stop = out.open.removeValue(forKey: id) else { return nil }
            put(.failed(id: id, code: .cancelled, message: "taken back"), nil, [], &out)
            return stop
        }
        stop?()
    }

    /// Frames that answer no request of their own.
    func sendUnasked(_ answer: ReadAnswer) { out.withLock { if !$0.isClosed { put(answer, nil, [], &$0) } } }

    private func put(_ answer: ReadAnswer, _ descriptor: SharedDescriptor?, _ pieces: [ReadPiece], _ out: inout Out) {
        if out.items.isEmpty { out.movedAt = ReadServer.now() }
        out.items.append(.frame(answer.encoded, descriptor: descriptor))
        for piece in pieces where !piece.range.isEmpty { out.items.append(.piece(piece)) }
        if !out.isBlocked { flush(&out) }
    }

    /// The socket has room again.
    func writable() {
        out.withLock { out in
            guard !out.isClosed else { return }
            out.isBlocked = false
            flush(&out)
            if !out.isBlocked { arm(self, false) }
        }
    }

    private func flush(_ out: inout Out) {
        while let item = out.items.first {
            let count: Int
            switch item {
            case .frame(let bytes, let descriptor):
                // The descriptor goes with the first byte.
                let fd = out.sent == 0 ? descriptor?.fd ?? -1 : -1
                count = bytes.withUnsafeBytes {
                    chunkmesh_send(self.fd, $0.baseAddress! + out.sent, bytes.count - out.sent, fd, Int32(MSG_DONTWAIT))
                }
            case .piece(let piece):
                count = piece.buffer.withBytes {
                    chunkmesh_send(
                        self.fd, $0.baseAddress! + piece.range.lowerBound + out.sent, piece.range.count - out.sent, -1,
                        Int32(MSG_DONTWAIT))
                }
            }
            guard count >= 0 else {
                if errno == EINTR { continue }
                if errno == EAGAIN || errno == EWOULDBLOCK {
                    out.isBlocked = true
                    arm(self, true)
                    return
                }
                // Broken: the thread sees that too, and ends it. Nothing more goes out.
                out.items = []
                out.isClosed = true
                shutdown(fd, Int32(SHUT_RDWR))
                return
            }
            out.movedAt = ReadServer.now()
            out.sent += count
            if out.sent == item.count {
                out.items.removeFirst()
                out.sent = 0
            }
        }
    }

    /// Since when the client takes nothing of what is there for it; `nil` when nothing is, or it takes it.
    var stalledSince: UInt64? { out.withLock { $0.items.isEmpty ? nil : $0.movedAt } }

    /// Whether requests wait for an answer.
    var isBusy: Bool { out.withLock { !$0.open.isEmpty } }

    /// Nothing is sent any more; the work on requests ends.
    func close() {
        let stops = out.withLock { out in
            out.isClosed = true
            defer { (out.open, out.items) = ([:], []) }
            return out.open.values.compactMap { $0 }
        }
        Glibc.close(fd)
        for stop in stops { stop() }
    }
}

/// A descriptor that stays open until nobody needs it.
public final class SharedDescriptor: Sendable {
    public let fd: Int32
    /// What owns the descriptor; it is closed here where that is `nil`.
    private let owner: (any Sendable)?

    /// - Parameter owner: keeps `fd` open and closes it.
    public init(_ fd: Int32, owner: any Sendable) { (self.fd, self.owner) = (fd, owner) }

    /// Takes `fd` over.
    public init(owned fd: Int32) { (self.fd, owner) = (fd, nil) }

    deinit { if owner == nil { Glibc.close(fd) } }
}
