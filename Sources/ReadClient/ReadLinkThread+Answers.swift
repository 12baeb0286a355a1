internal import ChunkModel
internal import Glibc
internal import ReadProtocol
internal import Synchronization

/// What the daemon says.
extension ReadLinkThread {
    func take(_ answer: ReadAnswer) throws(ReadViolation) {
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

    func endInline() {
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
