internal import BlockCodec
internal import BlockingThreads
internal import ChunkModel
internal import ControlModel
internal import DecodedFiles
internal import Flist
internal import ReadAPI
internal import ReadProtocol
internal import ReadServer
internal import ChunkStore

extension ReadService {
    /// A request for content.
    struct Read: Sendable {
        let id: UInt32
        let key: OpenInodes.Key
        let entry: FlistTable.Entry
        let offset: UInt64
        let length: Int
        let priority: FetchPriority
    }

    /// Answers when everything is there; on the server's thread, so without a look at the disk.
    func answerNow(_ read: Read, _ inode: OpenInode, _ session: ReadSession) -> Bool {
        if read.length == 0 || read.offset >= inode.entry.size {
            session.client.send(.bytes(id: read.id, count: 0))
            return true
        }
        if traces.isRunning { note(read, inode) }
        guard let file = inode.decoded else { return false }
        return answer(read, from: file, session) { self.decoded.descriptorNow(of: file) }
    }

    /// For traces: a read that somebody waits for.
    private func note(_ read: Read, _ inode: OpenInode) {
        guard read.priority == .foreground else { return }
        let end = min(read.offset.addingReportingOverflow(UInt64(read.length)).partialValue, inode.entry.size)
        traces.note(read.offset..<max(read.offset, end), in: inode.blocks, of: read.key.flist)
    }

    private func answer(
        _ read: Read, from file: DecodedFile, _ session: ReadSession, _ descriptor: () -> DecodedDescriptor?
    ) -> Bool {
        let wanted = file.blocks(offset: read.offset, length: read.length)
        guard let (range, isWhole) = file.ready(wanted) else { return false }
        guard session.ready(read.id, file, range, isWhole: isWhole, descriptor) else { return false }
        decoded.noteHit(file)
        if !isWhole {
            follow(read, file, wanted, session)
            session.told(read.key, upTo: Int(range.upperBound / UInt64(ChunkLimits.blockBytes)))
        }
        return true
    }

    /// Answers after getting what is missing.
    func answer(_ read: Read, _ session: ReadSession) async {
        do {
            let inode = try await inode(read)
            if answerNow(read, inode, session) { return }
            if let file = inode.decoded, try await fill(read, file, session) { return }
            try await answerInline(read, inode, session)
        } catch {
            fail(read.id, error, session.client)
        }
    }

    /// - Returns: `false` when the file has no room for the blocks, or they have no known places.
    private func fill(_ read: Read, _ file: DecodedFile, _ session: ReadSession) async throws -> Bool {
        let wanted = file.blocks(offset: read.offset, length: read.length)
        if file.ready(wanted) == nil {
            decoded.noteMiss()
            follow(read, file, wanted, session)
            do {
                try await decoded.fill(file, wanted, priority: read.priority, from: source(read.key.flist))
            } catch DecodedFileError.noRoom, DecodedFileError.uneven {
                return false
            }
        }
        // Already open as a rule: it was written a moment ago.
        if answer(read, from: file, session, { self.decoded.descriptorNow(of: file) }) { return true }
        guard let descriptor = try? await parts.threads.run({ [decoded] in try decoded.descriptor(of: file) }) else { return false }
        return answer(read, from: file, session) { descriptor }
    }

    // MARK: Inodes

    /// What an inode is opened for: whether its decoded file is made where there is none.
    private enum Need { case bytes, wholeIfThere, whole }

    /// The file, opened for reading where it was not.
    ///
    /// - Throws: `FlistError`, `NodeError`.
    private func inode(_ read: Read, _ need: Need = .bytes) async throws -> OpenInode {
        if let known = inodes.known(read.key),
            known.decoded != nil || need == .bytes && known.entry.size <= Self.inlineBytes || !decoded.isOn
        {
            return known
        }
        // A use of the flist: one that is forgotten because others are in use has no way to its chunks.
        let digest = read.key.flist
        if parts.flists.entry(digest) == nil { _ = try? await opener.open(digest) }
        parts.flists.touch(digest, now: parts.clock.now)
        return try await parts.threads.run { [self] in
            let inode = try inodes.known(read.key) ?? inodes.insert(open(read), read.key)
            guard inode.decoded == nil else { return inode }
            let isMade = need == .whole || need == .bytes && inode.entry.size > Self.inlineBytes
            inode.decoded =
                isMade
                ? decoded.file(size: inode.entry.size, blocks: inode.blocks)
                : decoded.existing(size: inode.entry.size, blocks: inode.blocks)
            return inode
        }
    }

    /// Blocking.
    private func open(_ read: Read) throws -> OpenInode {
        let file = read.entry.flist.file
        guard let entry = try file.inode(read.key.ino) else { throw NodeError.notFound("no inode \(read.key.ino)") }
        guard entry.isFile else { throw NodeError.badRequest("inode \(read.key.ino) is no regular file") }
        let refs = try file.blocks(of: entry)
        let digest = read.key.flist
        // Not with the priority of the request that opens it, which may be an open that asks for a whole file: whoever reads waits.
        let reader = FileReader(size: entry.size, blockCount: refs.count) { [unowned self] index in
            try await plain(refs[index], digest, .foreground)
        }
        return OpenInode(entry: entry, blocks: refs, reader: reader)
    }

    /// A decoded block that stands in no file.
    private func plain(_ block: BlockRef, _ flist: FlistDigest, _ priority: FetchPriority) async throws -> ChunkBuffer {
        if let known = blocks.block(block.id, block.key) { return known }
        let chunk = try await fetcher.fetch(block.id, flist: flist, priority: priority).chunk
        let plain = try await parts.threads.run { [parts] in try BlockCodec.decode(chunk, as: block, pool: parts.pool) }
        blocks.insert(plain, for: block.id, block.key)
        return plain
    }

    // MARK: Inline

    /// Holds the client's place among those with an inline answer, until the bytes are sent.
    private final class Place: Sendable {
        let session: ReadSession
        init(_ session: ReadSession) { self.session = session }
        deinit {
            // Under the connection's lock, which the session's is taken before.
            Task { [session] in session.leaveInline() }
        }
    }

    private func answerInline(_ read: Read, _ inode: OpenInode, _ session: ReadSession) async throws {
        await session.enterInline()
        let place = Place(session)
        try Task.checkCancellation()
        let slices = try await inode.reader.read(offset: read.offset, length: read.length)
        let count = slices.reduce(0) { $0 + $1.range.count }
        session.client.send(
            .bytes(id: read.id, count: UInt32(clamping: count)),
            pieces: slices.map { ReadPiece(buffer: $0.buffer, range: $0.range, owner: place) })
    }

    // MARK: Whole files

    func answerWhole(_ read: Read, fill: Bool, _ session: ReadSession) async {
        do {
            let inode = try await inode(read, fill ? .whole : .wholeIfThere)
            guard let file = inode.decoded else {
                guard !fill, decoded.isOn else { throw DecodedFileError.noRoom }
                session.client.send(.partial(id: read.id, readyBytes: 0, size: inode.entry.size))
                return
            }
            if file.isWhole {
                let descriptor = try await parts.threads.run { [decoded] in try decoded.descriptor(of: file) }
                if session.ready(read.id, file, 0..<file.size, isWhole: true, { descriptor }) { return decoded.noteHit(file) }
                throw DecodedFileError.noRoom
            }
            if fill { complete(inode, file, of: read.key.flist) }
            session.client.send(.partial(id: read.id, readyBytes: file.readyBytes, size: file.size))
        } catch {
            fail(read.id, error, session.client)
        }
    }
}
