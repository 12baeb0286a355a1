internal import CLinux
internal import ChunkModel
internal import Glibc
internal import Logging
internal import MeshKeys
internal import PeerProtocol

/// Bulk bytes on their way out.
enum BulkSend {
    case file(descriptor: Int32, offset: off_t, left: Int)
    case buffer(ChunkBuffer, offset: Int)

    var left: Int {
        switch self {
        case .file(_, _, let left): left
        case .buffer(let buffer, let offset): buffer.count - offset
        }
    }
}

/// One socket and what both roles do with it. Lives on its thread only.
class Connection {
    let fd: Int32
    let key: UInt64
    unowned let thread: IOThread
    var shared: ExchangeShared { thread.shared }

    /// What epoll said, until a call says EAGAIN (edge-triggered).
    var readable = false
    var writable = false
    var hungUp = false
    var isQueued = false
    private(set) var isClosed = false
    /// The node's own limit holds it back, until its thread asks again.
    var isSendHeld = false
    var isReceiveHeld = false
    private var bulkSentAt: UInt64 = 0
    private var bulkReceivedAt: UInt64 = 0
    /// Something may be there to write; cleared when nothing was found.
    var wantsOutput = false

    var reader = FrameReader()
    var session: SessionKeys?
    var out: [UInt8] = []
    private var outSent = 0
    var bulkSend: BulkSend?
    private(set) var lastSent: UInt64
    private var retiredSince: UInt64?

    init(fd: Int32, thread: IOThread) {
        (self.fd, self.thread) = (fd, thread)
        key = thread.shared.nextKey()
        lastSent = thread.now
    }

    // MARK: What a role adds

    /// The node at the other end, once it is proven.
    var provenPeer: NodeID? { nil }
    /// Bulk bytes are being received, and travel sealed.
    var receivesSealed: Bool { false }
    /// Where the next bulk bytes go; `nil` when frames are expected.
    var bulkTarget: UnsafeMutableRawBufferPointer? { nil }
    var wantsInput: Bool { true }
    /// Whether the thread shall look at the clock often.
    var isBusy: Bool { false }
    func bulkArrived(_ count: Int) {}
    /// How urgent the bulk bytes are that go out, or come in, now.
    var sendPriority: FetchPriority { .foreground }
    var receivePriority: FetchPriority { .foreground }
    /// Bulk bytes are there that may not be taken yet.
    func receiveWasHeld() {}
    /// Takes what stands in `reader`.
    func process() {}
    /// Puts the next things to send into `out` and `bulkSend`; `false` when there is nothing.
    func refill() -> Bool { false }
    func bulkSent() {}
    func tick() {}
    /// Called once, when the socket is closed.
    func ended(_ error: PeerError) {}
    func becameWritable() {}

    // MARK: Turns

    var hasWork: Bool {
        !isClosed && ((readable && wantsInput && !isReceiveHeld) || (writable && !isSendHeld && (wantsOutput || hasUnsent)))
    }
    var hasUnsent: Bool { outSent < out.count || bulkSend != nil }

    func turn() {
        receive()
        if !isClosed { transmit() }
    }

    private func receive() {
        var budget = ExchangeConfiguration.turnBytes
        while readable, !isClosed, wantsInput, !isReceiveHeld, budget > 0 {
            let isSealed = receivesSealed
            var scratch = isSealed ? thread.scratchForSealed : thread.scratch
            var bulk = bulkTarget
            var asked = (bulk?.count ?? 0) + scratch.count
            let count: Int
            var granted = 0
            if let wanted = isSealed ? scratch.count : bulk?.count, wanted > 0 {
                granted = shared.receiveLimit.grant(wanted, receivePriority, movedAt: bulkReceivedAt, now: thread.now)
                guard granted > 0 else {
                    isReceiveHeld = true
                    receiveWasHeld()
                    return thread.hold(self)
                }
                bulkReceivedAt = thread.now
                if granted < wanted {
                    if isSealed { scratch = UnsafeMutableRawBufferPointer(rebasing: scratch[..<granted]) }
                    bulk = bulk.map { UnsafeMutableRawBufferPointer(rebasing: $0[..<granted]) }
                    asked = granted
                }
            }
            if let bulk, asked == bulk.count {
                count = recv(fd, bulk.baseAddress, bulk.count, 0)
            } else if let bulk {
                var pieces = (
                    iovec(iov_base: bulk.baseAddress, iov_len: bulk.count), iovec(iov_base: scratch.baseAddress, iov_len: scratch.count)
                )
                count = withUnsafePointer(to: &pieces) { pieces in
                    pieces.withMemoryRebound(to: iovec.self, capacity: 2) { readv(fd, $0, 2) }
                }
            } else {
                count = recv(fd, scratch.baseAddress, scratch.count, 0)
            }
            if granted > 0, count < granted { shared.receiveLimit.charge(max(count, 0) - granted) }
            guard count > 0 else {
                if count == 0 { return close(.closed) }
                if errno == EINTR { continue }
                if errno == EAGAIN {
                    readable = false
                    return
                }
                return close(.closed)
            }
            budget -= count
            // A short read means that the socket is empty; the next bytes raise a new edge.
            if count < asked, !hungUp { readable = false }
            let toBulk = min(count, bulk?.count ?? 0)
            if toBulk > 0 { bulkArrived(toBulk) }
            if count > toBulk { reader.append(UnsafeRawBufferPointer(rebasing: scratch[0..<(count - toBulk)])) }
            if !isClosed { process() }
        }
    }

    func transmit() {
        var budget = ExchangeConfiguration.turnBytes
        while writable, !isClosed, !isSendHeld, budget > 0 {
            let count: Int
            let asked: Int
            if outSent < out.count {
                asked = out.count - outSent
                let more = bulkSend == nil ? 0 : Int32(MSG_MORE)
                count = out.withUnsafeBytes { Glibc.send(fd, $0.baseAddress! + outSent, asked, Int32(MSG_NOSIGNAL) | more) }
                if count > 0 { outSent += count }
            } else if let bulk = bulkSend {
                let left = bulk.left
                let isSealed = session?.sealsBulk == true
                let wanted = isSealed ? min(left, ProtocolLimits.sealedPieceBytes) : left
                let granted = left == 0 ? 0 : shared.sendLimit.grant(wanted, sendPriority, movedAt: bulkSentAt, now: thread.now)
                guard granted > 0 || left == 0 else {
                    isSendHeld = true
                    touchSent()
                    return thread.hold(self)
                }
                bulkSentAt = thread.now
                if isSealed {
                    // Both ends count the pieces of a transfer, so they are not cut: what was not granted is owed.
                    shared.sendLimit.charge(wanted - granted)
                    guard sealNext(bulk) else { return close(.closed) }
                    continue
                }
                (asked, count) = sendBulk(bulk, atMost: granted)
                if count < granted { shared.sendLimit.charge(max(count, 0) - granted) }
            } else {
                if !out.isEmpty {
                    if out.capacity > 4 * ExchangeConfiguration.writeBatchBytes { out = [] } else { out.removeAll(keepingCapacity: true) }
                    outSent = 0
                }
                wantsOutput = refill()
                if wantsOutput { continue }
                return
            }
            if count < 0 {
                if errno == EINTR { continue }
                guard errno == EAGAIN else { return close(.closed) }
                writable = false
                return
            }
            if count > 0 { lastSent = thread.now }
            if count == 0, asked > 0 {
                shared.logger.warning("a file that was being sent to a peer is shorter than its length; the connection is dropped")
                return close(.closed)
            }
            budget -= count
        }
    }

    private func sendBulk(_ bulk: BulkSend, atMost granted: Int) -> (asked: Int, sent: Int) {
        let asked: Int
        let sent: Int
        switch bulk {
        case .file(let descriptor, var offset, let left):
            asked = min(left, granted)
            sent = asked == 0 ? 0 : sendfile(fd, descriptor, &offset, asked)
            if sent >= 0 { bulkSend = .file(descriptor: descriptor, offset: offset, left: left - sent) }
        case .buffer(let buffer, let offset):
            asked = min(buffer.count - offset, granted)
            sent = buffer.withBytes {
                asked == 0 ? 0 : Glibc.send(fd, $0.baseAddress! + offset, asked, Int32(MSG_NOSIGNAL))
            }
            if sent >= 0 { bulkSend = .buffer(buffer, offset: offset + sent) }
        }
        if sent >= 0, sent == bulk.left { finishBulk() }
        return (asked, sent)
    }

    /// Puts the next piece, sealed, into `out`, which was sent whole; `false` when the file is shorter than its length.
    private func sealNext(_ bulk: BulkSend) -> Bool {
        out.removeAll(keepingCapacity: true)
        outSent = 0
        switch bulk {
        case .file(let descriptor, let offset, let left):
            let piece = UnsafeMutableRawBufferPointer(rebasing: thread.scratchForSealed.prefix(min(left, ProtocolLimits.sealedPieceBytes)))
            var filled = 0
            while filled < piece.count {
                let count = pread(descriptor, piece.baseAddress! + filled, piece.count - filled, offset + off_t(filled))
                if count < 0, errno == EINTR { continue }
                guard count > 0 else {
                    shared.logger.warning("a file that was being sent to a peer is shorter than its length; the connection is dropped")
                    return false
                }
                filled += count
            }
            if filled > 0 { session?.sending.sealBulk(UnsafeRawBufferPointer(piece), to: &out) }
            bulkSend = .file(descriptor: descriptor, offset: offset + off_t(filled), left: left - filled)
            if left == filled { finishBulk() }
        case .buffer(let buffer, let offset):
            let count = min(buffer.count - offset, ProtocolLimits.sealedPieceBytes)
            buffer.withBytes {
                if count > 0 { session?.sending.sealBulk(UnsafeRawBufferPointer(rebasing: $0[offset..<(offset + count)]), to: &out) }
            }
            bulkSend = .buffer(buffer, offset: offset + count)
            if offset + count == buffer.count { finishBulk() }
        }
        return true
    }

    /// The connection was made under a mesh key that this node no longer has: closed when it rests, or when its grace is over.
    /// - Returns: whether it was closed.
    func retire(isBusy: Bool) -> Bool {
        guard let session, !shared.ring.fingerprints.contains(session.meshKey) else { return false }
        let since = retiredSince ?? thread.now
        retiredSince = since
        guard !isBusy && !hasUnsent || thread.now - since >= ExchangeConfiguration.retiredKeyGrace else { return false }
        close(.closed)
        return true
    }

    private func finishBulk() {
        if case .file(let descriptor, _, _) = bulkSend { _ = Glibc.close(descriptor) }
        let wasWhole = bulkSend != nil
        bulkSend = nil
        if wasWhole { bulkSent() }
    }

    /// Frames for the wire, sealed now: what is sealed must be sent in this order.
    func seal(_ frames: [PeerFrame]) {
        for frame in frames {
            if let sealed = session?.sending.seal(frame) { out += sealed }
        }
        if !frames.isEmpty { wantsOutput = true }
    }

    /// Closes when the other end took nothing for too long.
    func checkSendStall() {
        guard hasUnsent, !writable, thread.now > lastSent, thread.now - lastSent >= shared.configuration.sendStall else { return }
        shared.logger.info("a peer takes no bytes any more; its connection is dropped")
        close(.stalled)
    }

    func touchSent() { lastSent = thread.now }

    func close(_ error: PeerError) {
        guard !isClosed else { return }
        isClosed = true
        if case .file(let descriptor, _, _) = bulkSend { _ = Glibc.close(descriptor) }
        bulkSend = nil
        _ = Glibc.close(fd)
        thread.forget(self)
        ended(error)
    }
}
