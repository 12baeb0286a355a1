public import ChunkModel
public import Flist
internal import Glibc
internal import ReadProtocol

/// An flist that the daemon has: its metadata is read here, from the daemon's own file; content is asked of the daemon.
///
/// It is closed at the daemon when the last reference goes.
public final class RemoteFlist: Sendable {
    /// The metadata. Its calls block on the disk.
    public let file: FlistFile
    public let digest: FlistDigest
    /// Whether it is in the older format, of which the daemon made an index.
    public let isLegacy: Bool
    /// Keeps the connection.
    public let client: ReadClient
    private let number: UInt64
    private var link: ReadLink { client.link }

    /// Blocking.
    init(_ number: UInt64, _ reply: ReadLink.Reply, _ client: ReadClient) throws(ReadClientError) {
        guard case .opened(let opened) = reply else { throw ReadClientError(.broken, "the daemon gave no answer that fits") }
        defer { close(opened.descriptor) }
        (self.number, self.client, digest, isLegacy) = (number, client, opened.digest, opened.isLegacy)
        do throws(FlistError) {
            file = try Self.metadata(opened)
        } catch {
            throw ReadClientError(.damaged, error.message)
        }
    }

    deinit { client.link.removeFlist(number) }

    /// By its path; a user who may not go there reads a copy of what the descriptor leads to.
    private static func metadata(_ opened: ReadLink.Opened) throws(FlistError) -> FlistFile {
        if isSame(opened.tables, opened.descriptor),
            let file = try? FlistFile(path: opened.path, index: opened.isLegacy ? opened.tables : nil)
        {
            return file
        }
        let copy = try FlistCopy(of: opened.descriptor)
        return try FlistFile(path: opened.path, index: copy.path)
    }

    /// Whether the path leads, for this process, to what the daemon passed.
    private static func isSame(_ path: String, _ descriptor: Int32) -> Bool {
        var (named, passed) = (stat(), stat())
        return access(path, R_OK) == 0 && stat(path, &named) == 0 && fstat(descriptor, &passed) == 0 && named.st_ino == passed.st_ino
            && named.st_dev == passed.st_dev
    }

    // MARK: Content

    /// Where bytes of a file are to be had.
    public enum Place: Sendable {
        /// In this descriptor, at their own offset. The range holds what was asked for, as far as the file goes, and may be more.
        case ready(RemoteContent, Range<UInt64>)
        /// In the target already, so many of them: fewer than asked for at the end of the file only.
        case inline(Int)
    }

    /// The content, when the range is known to be ready: without asking, for threads that must not wait.
    public func known(_ ino: Int64, offset: UInt64, length: Int) -> RemoteContent? {
        let (end, overflow) = offset.addingReportingOverflow(UInt64(max(0, length)))
        return overflow ? nil : link.known(number, ino, offset..<end)
    }

    /// Has `length` bytes from `offset` of a regular file made ready.
    ///
    /// - Parameters:
    ///   - ino: the file's inode number.
    ///   - length: bytes; more than `ReadLimits.maxReadBytes` (1 MiB) are cut to it.
    ///   - target: where the bytes go when the daemon keeps no decoded files: as many as `length`, valid until `complete` is called.
    ///   - complete: called once, on the link's thread: it must not block.
    /// - Returns: what `cancel` takes.
    @discardableResult
    public func locate(
        _ ino: Int64, offset: UInt64, length: Int, priority: FetchPriority = .foreground, target: UnsafeMutableRawBufferPointer,
        complete: @escaping @Sendable (Result<Place, ReadClientError>) -> Void
    ) -> UInt32 {
        let room = UnsafeMutableRawBufferPointer(rebasing: target.prefix(min(length, ReadLimits.maxReadBytes)))
        return link.submit(request(ino, offset, room.count, priority), target: ReadLink.Target(bytes: room)) { result in
            complete(
                result.flatMap { reply in
                    switch reply {
                    case .ready(let content, let range, _): .success(.ready(content, range))
                    case .inline(let count): .success(.inline(count))
                    case .opened, .partial, .done: .failure(ReadClientError(.broken, "the daemon gave no answer that fits"))
                    }
                })
        }
    }

    /// Takes back what `locate` began; it completes all the same, soon.
    public func cancel(_ request: UInt32) { link.cancel(request) }

    private func request(_ ino: Int64, _ offset: UInt64, _ length: Int, _ priority: FetchPriority) -> ReadLink.Request {
        .read(flist: number, ino: ino, offset: offset, length: UInt32(clamping: max(0, length)), priority)
    }

    /// Reads bytes of a regular file. Suspends while the daemon gets them.
    ///
    /// - Returns: bytes read: all of `target`, fewer at the end of the file only.
    /// - Throws: `ReadClientError`; a cancelled task gets `cancelled`.
    public func read(
        _ ino: Int64, at offset: UInt64, into target: UnsafeMutableRawBufferPointer, priority: FetchPriority = .foreground
    ) async throws(ReadClientError) -> Int {
        var done = 0
        while done < target.count {
            let piece = UnsafeMutableRawBufferPointer(rebasing: target[done..<min(target.count, done + ReadLimits.maxReadBytes)])
            let (from, overflow) = offset.addingReportingOverflow(UInt64(done))
            guard !overflow else { break }
            let count: Int
            if let content = known(ino, offset: from, length: piece.count) {
                count = try await copy(content, from, piece)
            } else {
                switch try await link.reply(to: request(ino, from, piece.count, priority), target: ReadLink.Target(bytes: piece)) {
                case .ready(let content, let range, _):
                    count = try await copy(content, from, try Self.within(range, from, piece, content.size))
                case .inline(let bytes): count = bytes
                case .opened, .partial, .done: throw ReadClientError(.broken, "the daemon gave no answer that fits")
                }
            }
            done += count
            if count < piece.count { break }
        }
        return done
    }

    /// The same for a thread that may block.
    public func readNow(
        _ ino: Int64, at offset: UInt64, into target: UnsafeMutableRawBufferPointer, priority: FetchPriority = .foreground
    ) throws(ReadClientError) -> Int {
        var done = 0
        while done < target.count {
            let piece = UnsafeMutableRawBufferPointer(rebasing: target[done..<min(target.count, done + ReadLimits.maxReadBytes)])
            let (from, overflow) = offset.addingReportingOverflow(UInt64(done))
            guard !overflow else { break }
            let count: Int
            if let content = known(ino, offset: from, length: piece.count) {
                count = try content.read(at: from, into: piece)
            } else {
                switch try link.replyNow(to: request(ino, from, piece.count, priority), target: ReadLink.Target(bytes: piece)) {
                case .ready(let content, let range, _):
                    count = try content.read(at: from, into: try Self.within(range, from, piece, content.size))
                case .inline(let bytes): count = bytes
                case .opened, .partial, .done: throw ReadClientError(.broken, "the daemon gave no answer that fits")
                }
            }
            done += count
            if count < piece.count { break }
        }
        return done
    }

    /// As much of `piece` as the range covers: all of it, or up to the end of the file.
    private static func within(
        _ range: Range<UInt64>, _ from: UInt64, _ piece: UnsafeMutableRawBufferPointer, _ size: UInt64
    ) throws(ReadClientError) -> UnsafeMutableRawBufferPointer {
        let (end, overflow) = from.addingReportingOverflow(UInt64(piece.count))
        let wanted = min(overflow ? .max : end, size)
        guard from < wanted else { return UnsafeMutableRawBufferPointer(rebasing: piece.prefix(0)) }
        guard range.lowerBound <= from, range.upperBound >= wanted else {
            throw ReadClientError(.broken, "the daemon said another range to be ready than was asked for")
        }
        return UnsafeMutableRawBufferPointer(rebasing: piece.prefix(Int(wanted - from)))
    }

    private func copy(_ content: RemoteContent, _ offset: UInt64, _ target: UnsafeMutableRawBufferPointer) async throws(ReadClientError)
        -> Int
    {
        let target = ReadLink.Target(bytes: target)
        return try await client.threads.result { () throws(ReadClientError) in try content.read(at: offset, into: target.bytes) }
    }

    /// The decoded file, if all of it is there.
    ///
    /// - Parameter fill: the daemon shall get what is missing, in the background: ask again later.
    /// - Returns: `nil` when something is missing.
    /// - Throws: `ReadClientError.Code.notKept` when the daemon keeps no decoded files, or not this one.
    public func whole(_ ino: Int64, fill: Bool = false) async throws(ReadClientError) -> RemoteContent? {
        if let content = link.knownWhole(number, ino) { return content }
        return try Self.whole(try await link.reply(to: .whole(flist: number, ino: ino, fill: fill)))
    }

    /// The same for a thread that may block.
    public func wholeNow(_ ino: Int64, fill: Bool = false) throws(ReadClientError) -> RemoteContent? {
        if let content = link.knownWhole(number, ino) { return content }
        return try Self.whole(try link.replyNow(to: .whole(flist: number, ino: ino, fill: fill)))
    }

    private static func whole(_ reply: ReadLink.Reply) throws(ReadClientError) -> RemoteContent? {
        switch reply {
        case .ready(let content, _, true): return content
        case .partial: return nil
        case .ready, .opened, .inline, .done: throw ReadClientError(.broken, "the daemon gave no answer that fits")
        }
    }

    /// Has the daemon get all chunks of the flist, in the background.
    public func prefetch() async throws(ReadClientError) { _ = try await link.reply(to: .prefetch(flist: number)) }

    /// The same for a thread that may block.
    public func prefetchNow() throws(ReadClientError) { _ = try link.replyNow(to: .prefetch(flist: number)) }
}
