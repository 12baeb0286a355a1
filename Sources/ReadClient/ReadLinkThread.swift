internal import CLinux
internal import ChunkModel
internal import Glibc
internal import ReadProtocol
internal import Synchronization

/// The thread of a link: connects, takes what the daemon sends, and ends what took too long.
final class ReadLinkThread {
    static let readBytes = 64 * 1024

    let link: ReadLink
    private let scratch = UnsafeMutableRawBufferPointer.allocate(byteCount: ReadLinkThread.readBytes, alignment: 64)
    var frames = ReadFrames()
    /// Descriptors that came and whose frame has not been looked at.
    var descriptors: [Int32] = []
    /// The inline answer that is being received.
    var inline: (id: UInt32, at: Int, left: Int)?
    private var fd: Int32 = -1

    init(_ link: ReadLink) { self.link = link }

    deinit { scratch.deallocate() }

    struct Finished {
        let complete: ReadLink.Completion
        let result: Result<ReadLink.Reply, ReadClientError>
    }

    func run() {
        while true {
            let now = ReadLink.now()
            tellReleases()
            finish(link.state.withLock { settle(&$0, now) })
            if link.state.withLock({ $0.isClosed }) { break }
            connect(now)
            wait()
        }
        disconnect("the client was closed")
        let left = link.state.withLock { state in
            defer { (state.pending, state.waiting, state.known, state.contents, state.flists) = ([:], [], [:], [:], [:]) }
            return (state.pending.values.map(\.complete), state.known)
        }
        for complete in left.0 { complete(.failure(ReadClientError(.cancelled, "the connection to the daemon was closed"))) }
    }

    func finish(_ finished: [Finished]) { for one in finished { one.complete(one.result) } }

    func tellReleases() {
        let releases = link.releases.withLock { releases in
            defer { releases = [] }
            return releases
        }
        guard !releases.isEmpty else { return }
        link.state.withLock { state in
            for release in releases where state.isUp && state.epoch == release.epoch {
                state.contents[release.number] = nil
                link.put(.release(content: release.number), &state)
            }
        }
    }

    // MARK: Time

    /// Ends what was taken back or took too long; sends what may be sent again. Sets when to look next.
    func settle(_ state: inout ReadLink.State, _ now: UInt64) -> [Finished] {
        var out: [Finished] = []
        for id in state.cancelled {
            guard let pending = remove(id, &state) else { continue }
            out.append(Finished(complete: pending.complete, result: .failure(ReadClientError(.cancelled, "taken back"))))
        }
        state.cancelled = []
        for (id, pending) in state.pending where pending.deadline <= now {
            if pending.isSent { link.put(.cancel(id: id), &state) }
            _ = remove(id, &state)
            let seconds = (now - pending.began) / 1_000_000_000
            let error =
                pending.trouble
                ?? (state.isUp
                    ? ReadClientError(.timedOut, "no answer from the daemon within \(seconds) s")
                    : ReadClientError(
                        .noDaemon, "no daemon answers at \(link.socketPath) for \(seconds) s (\(state.lastError)); start chunkmeshd"))
            out.append(Finished(complete: pending.complete, result: .failure(error)))
        }
        link.pump(&state, now)
        var next = UInt64.max
        for pending in state.pending.values {
            next = min(next, pending.deadline)
            if !pending.isSent, pending.notBefore > now { next = min(next, pending.notBefore) }
        }
        if state.fd < 0, !state.pending.isEmpty { next = min(next, state.connectAt) }
        if state.fd >= 0, !state.isUp { next = min(next, state.connectedAt &+ ReadLink.helloTime) }
        state.wakeAt = next
        return out
    }

    func remove(_ id: UInt32, _ state: inout ReadLink.State) -> ReadLink.Pending? {
        guard let pending = state.pending.removeValue(forKey: id) else { return nil }
        if pending.isSent { state.underWay -= 1 }
        if case .open(let flist, _) = pending.request { state.flists[flist]?.isOpening = false }
        return pending
    }

    private func wait() {
        let (wakeAt, hasOut) = link.state.withLock { ($0.wakeAt, !$0.out.isEmpty) }
        let now = ReadLink.now()
        let time: Int32 = wakeAt == .max ? -1 : wakeAt <= now ? 0 : Int32(clamping: (wakeAt - now) / 1_000_000 + 1)
        var watched = [
            pollfd(fd: link.wakeDescriptor, events: Int16(POLLIN), revents: 0),
            pollfd(fd: fd, events: Int16(POLLIN) | (hasOut ? Int16(POLLOUT) : 0), revents: 0),
        ]
        guard poll(&watched, fd >= 0 ? 2 : 1, time) > 0 else { return }
        if watched[0].revents != 0 {
            var value: eventfd_t = 0
            eventfd_read(link.wakeDescriptor, &value)
        }
        guard fd >= 0 else { return }
        if watched[1].revents & Int16(POLLOUT) != 0 { flush() }
        if watched[1].revents & ~Int16(POLLOUT) != 0 { receive() }
    }

    private func flush() {
        link.state.withLock { state in
            guard state.fd >= 0, !state.out.isEmpty else { return }
            let sent = state.out.withUnsafeBytes { chunkmesh_send(fd, $0.baseAddress, $0.count, -1, Int32(MSG_DONTWAIT)) }
            if sent > 0 { state.out.removeFirst(sent) }
        }
    }

    // MARK: The connection

    private func connect(_ now: UInt64) {
        if fd >= 0 {
            let isMute = link.state.withLock { !$0.isUp && now >= $0.connectedAt &+ ReadLink.helloTime }
            if isMute { disconnect("it says nothing") }
            return
        }
        guard link.state.withLock({ !$0.pending.isEmpty && now >= $0.connectAt }) else { return }
        let result = Self.connected(link.socketPath)
        link.state.withLock { state in
            guard result >= 0 else {
                let pause = ReadLink.firstPause << UInt64(min(state.attempts, 10))
                state.connectAt = now &+ min(pause, ReadLink.longestPause)
                state.wakeAt = min(state.wakeAt, state.connectAt)
                state.attempts += 1
                state.lastError = String(cString: strerror(-result))
                return
            }
            fd = result
            state.fd = result
            state.connectedAt = now
            state.wakeAt = min(state.wakeAt, now &+ ReadLink.helloTime)
            link.put(.hello(version: ReadLimits.version), &state)
        }
    }

    static func connected(_ path: String) -> Int32 {
        var address = sockaddr_un()
        guard path.utf8.count < MemoryLayout.size(ofValue: address.sun_path) else { return -ENAMETOOLONG }
        let fd = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
        guard fd >= 0 else { return -errno }
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let result = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                Glibc.connect(fd, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        guard result == 0 else {
            let code = errno
            close(fd)
            return -code
        }
        return fd
    }

    /// All that was sent is asked again at the next connection.
    func disconnect(_ reason: String) {
        guard fd >= 0 else { return }
        close(fd)
        for descriptor in descriptors { close(descriptor) }
        (fd, descriptors, inline, frames) = (-1, [], nil, ReadFrames())
        link.state.withLock { state in
            let now = ReadLink.now()
            // One that ended before it said hello counts as a failed attempt.
            state.attempts = state.isUp ? 0 : state.attempts + 1
            state.connectAt = now &+ min(ReadLink.firstPause << UInt64(min(state.attempts, 10)), ReadLink.longestPause)
            (state.fd, state.isUp, state.out, state.contents, state.underWay) = (-1, false, [], [:], 0)
            state.epoch += 1
            state.lastError = reason
            for flist in state.flists.keys { (state.flists[flist]!.handle, state.flists[flist]!.isOpening) = (nil, false) }
            for id in state.pending.keys { state.pending[id]!.isSent = false }
            state.waiting = state.pending.keys.sorted()
        }
    }

    private func receive() {
        while true {
            if let (id, at, left) = inline {
                let target = link.state.withLock { $0.pending[id]?.target }
                let room = target.map { UnsafeMutableRawBufferPointer(rebasing: $0.bytes[at..<(at + left)]) }
                let into = room ?? UnsafeMutableRawBufferPointer(rebasing: scratch[..<min(left, scratch.count)])
                guard let count = take(into) else { return }
                inline = (id, at + count, left - count)
                endInline()
                continue
            }
            guard let count = take(scratch) else { return }
            frames.append(UnsafeRawBufferPointer(rebasing: scratch[..<count]))
            do throws(ReadViolation) {
                while inline == nil, let body = try frames.next() { try take(try ReadAnswer(decoding: body)) }
            } catch {
                return disconnect("it does not keep to the protocol: \(error)")
            }
            if count < scratch.count { return }
        }
    }

    /// Bytes that came in; `nil` when there are none now, or the connection ended.
    private func take(_ into: UnsafeMutableRawBufferPointer) -> Int? {
        var found: Int32 = 0
        var truncated: Int32 = 0
        var room = [Int32](repeating: -1, count: Int(CHUNKMESH_RECEIVED_DESCRIPTORS))
        let count = chunkmesh_receive(fd, into.baseAddress, into.count, &room, &found, &truncated, Int32(MSG_DONTWAIT))
        if found > 0 { descriptors += room.prefix(Int(found)) }
        if count < 0, errno == EAGAIN || errno == EINTR { return nil }
        guard count > 0, truncated == 0 else {
            disconnect(
                truncated != 0 ? "no descriptor is left for what it passes" : count == 0 ? "it ended" : String(cString: strerror(errno)))
            return nil
        }
        return count
    }
}
