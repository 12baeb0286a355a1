internal import CArchive
internal import Glibc

/// A tar archive, plain or compressed, read from front to end; nothing in it is written anywhere by this type.
///
/// libarchive does the work, with tar as its only format and with one compression, which the first bytes decide. **Calls block** on the
/// source. For one thread at a time.
public final class TarReader {
    private static let bufferBytes = 128 << 10

    private let label: String
    private let limits: ArchiveLimits
    private let feed: Feed
    private let archive: OpaquePointer
    private var members = 0
    private var isAtEnd = false
    /// Bytes of bodies that were handed out: holes of sparse members take no room in the archive.
    private var bodyBytes: Int64 = 0

    /// Opens the file at `path`.
    ///
    /// - Parameters:
    ///   - label: what errors begin with, fit to be printed.
    ///   - accepting: compressions that are read; another one is `notArchive`.
    public convenience init(
        path: String, label: String, accepting: Set<ArchiveCompression> = [.none, .gzip], limits: ArchiveLimits
    ) throws(ArchiveError) {
        let file = try ArchiveFile(path: path, label: label)
        try self.init(label: label, accepting: accepting, limits: limits) { try file.read(into: $0) }
    }

    /// Reads the archive from `source`, for instance from the body of another archive's member.
    public init(
        label: String, accepting: Set<ArchiveCompression> = [.none, .gzip], limits: ArchiveLimits, source: @escaping ByteSource
    ) throws(ArchiveError) {
        (self.label, self.limits) = (label, limits)
        let feed = try Feed(label: label, accepting: accepting, limit: limits.unpackedBytes, source: source)
        self.feed = feed
        guard let archive = archive_read_new() else { throw ArchiveError(.unreadable, "\(label): no memory for an archive") }
        self.archive = archive
        archive_read_support_format_tar(archive)
        // Said outright, not left to bidding: layers upon layers of compression could be stacked otherwise.
        if feed.compression == .zstd { archive_read_append_filter(archive, ARCHIVE_FILTER_ZSTD) }
        let result = archive_read_open(
            archive, Unmanaged.passUnretained(feed).toOpaque(), nil,
            { _, client, buffer in
                guard let client else { return -1 }
                return Unmanaged<Feed>.fromOpaque(client).takeUnretainedValue().next(buffer)
            }, nil)
        guard result == ARCHIVE_OK else { throw failure() }
    }

    deinit { archive_read_free(archive) }

    /// The next member, what is left of the one before passed over; `nil` after the last one, once all checks at the archive's end
    /// have passed.
    public func next() throws(ArchiveError) -> TarMember? {
        guard !isAtEnd else { return nil }
        if members > 0 { try passOver() }
        var entry: OpaquePointer?
        let result = archive_read_next_header(archive, &entry)
        if result == ARCHIVE_EOF {
            isAtEnd = true
            try feed.drain()
            return nil
        }
        // A warning says that a name could not be converted to the locale's letters; its bytes are there all the same.
        guard result == ARCHIVE_OK || result == ARCHIVE_WARN, let entry else { throw failure() }
        members += 1
        guard members <= limits.members else {
            throw ArchiveError(.overLimit, "\(label): more than \(limits.members) members in the archive")
        }
        try checkUnpacked()
        return try member(entry)
    }

    /// Fills `buffer` with further bytes of the current member's body.
    ///
    /// - Returns: how many; 0 at the body's end.
    public func read(into buffer: UnsafeMutableRawBufferPointer) throws(ArchiveError) -> Int {
        guard !isAtEnd, members > 0, !buffer.isEmpty else { return 0 }
        let count = archive_read_data(archive, buffer.baseAddress, buffer.count)
        guard count >= 0 else { throw failure() }
        bodyBytes += Int64(count)
        try checkUnpacked()
        return count
    }

    /// The rest of the current member's body; longer than `limit` bytes is `overLimit`.
    public func body(limit: Int) throws(ArchiveError) -> [UInt8] {
        var out: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: min(limit + 1, 64 << 10))
        while true {
            let count: Int
            do { count = try piece.withUnsafeMutableBytes { try read(into: $0) } } catch let error as ArchiveError { throw error } catch {
                throw ArchiveError(.unreadable, "\(label): \(error)")
            }
            guard count > 0 else { return out }
            guard out.count + count <= limit else { throw ArchiveError(.overLimit, "\(label): a member of more than \(limit) bytes") }
            out += piece[..<count]
        }
    }

    /// In pieces, so that the limit is looked at in between; holes are not filled in for it.
    private func passOver() throws(ArchiveError) {
        while true {
            var block: UnsafeRawPointer?
            var size = 0
            var offset: Int64 = 0
            switch archive_read_data_block(archive, &block, &size, &offset) {
            case ARCHIVE_OK, ARCHIVE_WARN: try checkUnpacked()
            case ARCHIVE_EOF: return
            default: throw failure()
            }
        }
    }

    private func checkUnpacked() throws(ArchiveError) {
        guard max(archive_filter_bytes(archive, 0), bodyBytes) <= limits.unpackedBytes else {
            throw ArchiveError(.overLimit, "\(label): the archive unpacks to more than \(limits.unpackedBytes) bytes")
        }
    }

    private func failure() -> ArchiveError {
        if let error = feed.error as? ArchiveError { return error }
        if let error = feed.error { return ArchiveError(.unreadable, "\(label): \(error)") }
        // libarchive quotes names of members in some of its messages.
        let message = archive_error_string(archive).map { String(cString: $0) } ?? "unknown error"
        let plain = String(String.UnicodeScalarView(message.unicodeScalars.prefix(200).map { (0x20..<0x7f).contains($0.value) ? $0 : "?" }))
        return members == 0
            ? ArchiveError(.notArchive, "\(label): not a tar archive (\(plain))")
            : ArchiveError(.damaged, "\(label): damaged archive (\(plain))")
    }

    private func member(_ entry: OpaquePointer) throws(ArchiveError) -> TarMember {
        let path = try bytes(archive_entry_pathname(entry), "path")
        let kind: TarMember.Kind
        let major = UInt32(truncatingIfNeeded: archive_entry_rdevmajor(entry))
        let minor = UInt32(truncatingIfNeeded: archive_entry_rdevminor(entry))
        if let target = archive_entry_hardlink(entry) {
            kind = .hardLink(target: try bytes(target, "link target"))
        } else {
            switch archive_entry_filetype(entry) & 0o170000 {
            case 0o100000: kind = .file
            case 0o040000: kind = .directory
            case 0o120000: kind = .symlink(target: try bytes(archive_entry_symlink(entry), "link target"))
            case 0o010000: kind = .fifo
            case 0o140000: kind = .socket
            case 0o020000: kind = .charDevice(major: major, minor: minor)
            case 0o060000: kind = .blockDevice(major: major, minor: minor)
            default: kind = .other
            }
        }
        return TarMember(
            path: path, kind: kind, size: kind == .file ? max(0, archive_entry_size(entry)) : 0,
            permissions: UInt16(truncatingIfNeeded: archive_entry_perm(entry) & 0o7777),
            uid: UInt32(truncatingIfNeeded: archive_entry_uid(entry)), gid: UInt32(truncatingIfNeeded: archive_entry_gid(entry)),
            mtime: Int64(archive_entry_mtime(entry)))
    }

    private func bytes(_ text: UnsafePointer<CChar>?, _ what: String) throws(ArchiveError) -> [UInt8] {
        guard let text else { throw ArchiveError(.damaged, "\(label): member \(members) has no usable \(what)") }
        let count = strlen(text)
        guard count <= limits.pathBytes else {
            throw ArchiveError(.overLimit, "\(label): member \(members) has a \(what) of \(count) bytes")
        }
        return Array(UnsafeRawBufferPointer(start: text, count: count))
    }

    /// What libarchive's callback reads from, and why it could not.
    private final class Feed {
        let compression: ArchiveCompression
        private(set) var error: (any Error)?
        private let buffer: UnsafeMutableRawBufferPointer
        private let read: ByteSource

        init(label: String, accepting: Set<ArchiveCompression>, limit: Int64, source: @escaping ByteSource) throws(ArchiveError) {
            // The first bytes are looked at, and given out again.
            var head: [UInt8] = []
            do {
                while head.count < 4 {
                    var rest = [UInt8](repeating: 0, count: 4 - head.count)
                    let count = try rest.withUnsafeMutableBytes { try source($0) }
                    guard count > 0 else { break }
                    head += rest.prefix(count)
                }
            } catch let error as ArchiveError { throw error } catch { throw ArchiveError(.unreadable, "\(label): \(error)") }
            compression = ArchiveCompression(head: head)
            guard accepting.contains(compression) else {
                throw ArchiveError(
                    .notArchive,
                    "\(label): not an archive that can be read here (\(compression == .none ? "not compressed" : "\(compression)"))")
            }
            let whole: ByteSource = { target in
                guard !head.isEmpty else { return try source(target) }
                let count = min(head.count, target.count)
                target.copyBytes(from: head.prefix(count))
                head.removeFirst(count)
                return count
            }
            if compression == .gzip {
                let inflater = try GzipInflater(label: label, limit: limit, source: whole)
                read = { try inflater.read(into: $0) }
            } else {
                read = whole
            }
            buffer = .allocate(byteCount: TarReader.bufferBytes, alignment: 16)
        }

        deinit { buffer.deallocate() }

        /// libarchive's read callback.
        func next(_ out: UnsafeMutablePointer<UnsafeRawPointer?>?) -> Int {
            do {
                let count = try read(buffer)
                out?.pointee = UnsafeRawPointer(buffer.baseAddress)
                return count
            } catch {
                self.error = error
                return -1
            }
        }

        /// What stands behind the end of the tar, for the checksum that stands behind that.
        func drain() throws(ArchiveError) {
            do {
                while try read(buffer) > 0 {}
            } catch let error as ArchiveError { throw error } catch { throw ArchiveError(.unreadable, "\(error)") }
        }
    }
}
