internal import CLinux
internal import ChunkModel
internal import Glibc
internal import ReadProtocol
internal import Synchronization

/// The thread of a link: connects, takes what the daemon sends, and ends what took too long.
final class ReadLinkThread {
    static let readBytes = 64 * 1024

    private let link: ReadLink
    private let scratch = UnsafeMutableRawBufferPointer.allocate(byteCount: ReadLinkThread.readBytes, alignment: 64)
    private var frames = ReadFrames()
    /// Descriptors that came and whose frame has not been looked at.
    private var descriptors: [Int32] = []
    /// The inline answer that is being received.
    private var inline: (id: UInt32, at: Int, left: Int)?
    private var fd: Int32 = -1

    init(_ link: ReadLink) { self.link = link }

    deinit { scratch.deallocate() }

    private struct Finished {
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

    private func finish(_ finished: [Finished]) { for one in finished { one.complete(one.result) } }

    private func tellReleases() {
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
    private func settle(_ state: inout ReadLink.State, _ now: UInt64) -> [Finished] {
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

    private func remove(_ id: UInt32, _ state: inout ReadLink.State) -> ReadLink.Pending? {
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
    private func disconnect(_ reason: String) {
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

    // MARK: Answers

    private func take(_ answer: ReadAnswer) throws(ReadViolation) {
        var descriptor: Int32?
        if answer.descriptors == 1 {
            guard !descriptors.isEmpty else { throw ReadViolation("a descriptor is missing") }
            descriptor = descriptors.removeFirst()
        }
        switch answer {
        case .hello(let version, _):
            guard version == ReadLimits.version else {
                return disconnect("it speaks version \(version) of the read protocol, this program \(ReadLimits.version)")
            }
            finish(
                link.state.withLock { state in
                    (state.isUp, state.attempts) = (true, 0)
                    return settle(&state, ReadLink.now())
                })
        case .opened(let id, let handle, let digest, let isLegacy, let path, let tables):
            opened(id, handle, ReadLink.Opened(digest: digest, isLegacy: isLegacy, path: path, tables: tables, descriptor: descriptor!))
        case .ready(let id, let content, let start, let end, let isWhole, _): ready(id, content, start..<end, isWhole, descriptor)
        case .bytes(let id, let count):
            let isFitting = link.state.withLock { $0.pending[id]?.target.map { Int(count) <= $0.bytes.count } ?? true }
            guard isFitting else { throw ReadViolation("more bytes than were asked for") }
            inline = (id, 0, Int(count))
            // What came with the frame.
            let here = frames.take(upTo: Int(count))
            link.state.withLock { state in
                guard let target = state.pending[id]?.target else { return }
                UnsafeMutableRawBufferPointer(rebasing: target.bytes[0..<here.count]).copyBytes(from: here)
            }
            inline = (id, here.count, Int(count) - here.count)
            endInline()
        case .partial(let id, let ready, let size): answered(id, .success(.partial(ready: ready, size: size)))
        case .done(let id): answered(id, .success(.done))
        case .failed(let id, let code, let message): failed(id, code, message)
        case .gone(let content):
            link.state.withLock { state in
                for (key, known) in state.known where known.content.number == content && known.content.epoch == state.epoch {
                    state.known[key] = nil
                }
            }
        }
    }

    private func endInline() {
        guard let (id, at, left) = inline, left == 0 else { return }
        inline = nil
        answered(id, .success(.inline(at)))
    }

    private func answered(_ id: UInt32, _ result: Result<ReadLink.Reply, ReadClientError>) {
        let pending = link.state.withLock { state in
            let pending = remove(id, &state)
            link.pump(&state, ReadLink.now())
            return pending
        }
        pending?.complete(result)
    }

    private func opened(_ id: UInt32, _ handle: UInt32, _ opened: ReadLink.Opened) {
        var isOther = false
        let pending = link.state.withLock { state -> ReadLink.Pending? in
            guard let pending = remove(id, &state), state.flists[pending.request.flist] != nil else {
                link.put(.close(flist: handle), &state)
                return nil
            }
            let flist = pending.request.flist
            if let known = state.flists[flist]!.digest, known != opened.digest {
                isOther = true
            } else {
                if let old = state.flists[flist]!.handle { link.put(.close(flist: old), &state) }
                (state.flists[flist]!.digest, state.flists[flist]!.handle) = (opened.digest, handle)
            }
            link.pump(&state, ReadLink.now())
            return pending
        }
        guard let pending else {
            close(opened.descriptor)
            return
        }
        if isOther {
            close(opened.descriptor)
            pending.complete(.failure(ReadClientError(.notFound, "the daemon has another flist of this name now")))
        } else {
            pending.complete(.success(.opened(opened)))
        }
    }

    private func ready(_ id: UInt32, _ number: UInt64, _ range: Range<UInt64>, _ isWhole: Bool, _ descriptor: Int32?) {
        let epoch = link.state.withLock { $0.epoch }
        var content = link.state.withLock { $0.contents[number]?.content }
        if let descriptor {
            if content != nil {
                close(descriptor)
            } else {
                content = RemoteContent(
                    descriptor: descriptor, number: number, epoch: epoch,
                    link: RemoteContent.Released { [weak link] in link?.released($0, $1) })
            }
        }
        guard let content else {
            // Its last user let go of it while this was under way: the daemon hears of that, and passes it again.
            tellReleases()
            return again(id, nil)
        }
        let pending = link.state.withLock { state -> ReadLink.Pending? in
            state.contents[number] = ReadLink.Weak(content: content)
            guard let pending = remove(id, &state) else { return nil }
            if let ino = pending.request.ino {
                state.clock &+= 1
                let key = ReadLink.Key(flist: pending.request.flist, ino: ino)
                var known =
                    state.known[key].flatMap { $0.content === content ? $0 : nil } ?? ReadLink.Known(content: content, used: state.clock)
                known.used = state.clock
                known.ranges.add(range)
                known.isWhole = known.isWhole || isWhole
                if state.known[key] == nil, state.known.count >= ReadLimits.maxHeldContents,
                    let oldest = state.known.min(by: { $0.value.used < $1.value.used })?.key
                {
                    state.known[oldest] = nil
                }
                state.known[key] = known
            }
            link.pump(&state, ReadLink.now())
            return pending
        }
        pending?.complete(.success(.ready(content, range, isWhole: isWhole)))
    }

    private func failed(_ id: UInt32, _ code: ReadErrorCode, _ message: String) {
        let error = ReadClientError(answer: code, message)
        switch code {
        case .busy, .stopping: again(id, error)
        case .unavailable:
            let mayWait = link.state.withLock { state in
                guard let pending = state.pending[id] else { return false }
                let now = ReadLink.now()
                if now - pending.began < ReadLink.patience, now >= state.impatientUntil { return true }
                state.impatientUntil = now &+ ReadLink.impatience
                return false
            }
            if mayWait { again(id, error) } else { answered(id, .failure(error)) }
        case .notFound where mayAskByName(id): again(id, nil)
        case .notFound, .badRequest, .damaged, .cancelled, .notKept: answered(id, .failure(error))
        }
    }

    /// Whether this was an flist that had been open, asked for by its digest for the last time.
    private func mayAskByName(_ id: UInt32) -> Bool {
        link.state.withLock { state in
            guard let pending = state.pending[id], case .open(let flist, _) = pending.request, !pending.usesName,
                state.flists[flist]?.digest != nil
            else { return false }
            state.pending[id]!.usesName = true
            return true
        }
    }

    /// Sends the request once more: after a pause when the daemon had something against it.
    private func again(_ id: UInt32, _ trouble: ReadClientError?) {
        let isLost = link.state.withLock { state in
            guard var pending = state.pending[id], pending.isSent else { return false }
            state.underWay -= 1
            pending.isSent = false
            if let trouble {
                pending.trouble = trouble
                pending.notBefore = ReadLink.now() &+ pending.pause
                pending.pause = min(pending.pause * 2, ReadLink.longestRetry)
            } else {
                pending.lost += 1
            }
            if case .open(let flist, _) = pending.request { state.flists[flist]?.isOpening = false }
            state.pending[id] = pending
            state.waiting.append(id)
            return pending.lost > ReadLink.maxLost
        }
        if isLost { return answered(id, .failure(ReadClientError(.broken, "the daemon does not pass the file"))) }
        if trouble == nil { link.state.withLock { link.pump(&$0, ReadLink.now()) } }
    }
}
