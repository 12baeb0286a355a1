internal import Archives
internal import Flist
internal import Glibc
internal import LocalFiles

/// Bounds on what is read of a foreign image; more is an error that says which bound it was.
public struct ImageLimits: Sendable {
    /// Entries of all layers together, hidden ones and whiteouts too.
    public var entries = 4_000_000
    /// Bytes of all layers together without their compression.
    public var bytes: Int64 = 256 << 30
    /// Layers of one image (docker makes 127 at most).
    public var layers = 512

    /// Bytes of a manifest, an index or a configuration (registries allow 4 MiB).
    static let documentBytes = 8 << 20
    /// Files in a `docker save` or OCI archive.
    static let archiveMembers = 65_536
    /// Bytes of a path or a link's target in a layer.
    static let pathBytes = 64 << 10

    public init() {}
}

/// The files of an image on the disk, by their names: a directory in OCI's layout, or an archive of one, or of `docker save`.
///
/// An archive is gone through once, so that each of its files can be opened afterwards where it stands; a compressed one is inflated to a
/// temporary file before, which has no name. Names never become paths on this machine, but those of an OCI layout that we make ourselves.
final class ImageBlobs {
    /// Symbolic links among the archive's files that are followed, as old versions of docker use them for layers that occur twice.
    private static let maxLinks = 8

    /// O_TMPFILE, a macro that Swift does not import, with O_RDWR and O_CLOEXEC: a file without a name.
    private static let temporaryFile = 0o20000000 | O_DIRECTORY | O_RDWR | O_CLOEXEC

    private enum Member {
        case file(offset: Int64, size: Int64)
        case link(to: [UInt8])
    }
    private enum Place {
        case directory(DirectoryHandle)
        case archive(DirectoryHandle, members: [[UInt8]: Member])
    }

    let label: String
    private let limits: ImageLimits
    private let place: Place

    /// - Parameter check: called now and then while an archive is read; what it throws ends that.
    init(path: String, limits: ImageLimits, check: @escaping () throws -> Void) throws {
        label = FlistPath.quoted(Array(path.utf8))
        self.limits = limits
        let descriptor = Glibc.open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else { throw ToolError.system(label) }
        let handle = DirectoryHandle(descriptor)
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw ToolError.system(label) }
        switch status.st_mode & S_IFMT {
        case S_IFDIR: place = .directory(handle)
        case S_IFREG:
            var head = [UInt8](repeating: 0, count: 4)
            let count = pread(descriptor, &head, 4, 0)
            let compression = ArchiveCompression(head: head.prefix(max(0, count)))
            let plain = compression == .none ? handle : try Self.inflated(handle, compression, label, limits, check)
            place = .archive(plain, members: try Self.members(plain, label, limits, check))
        default: throw ToolError("\(label): neither a file nor a directory")
        }
    }

    private static func inflated(
        _ file: DirectoryHandle, _ compression: ArchiveCompression, _ label: String, _ limits: ImageLimits, _ check: () throws -> Void
    ) throws -> DirectoryHandle {
        let directory = getenv("TMPDIR").map { String(cString: $0) } ?? "/var/tmp"
        let descriptor = Glibc.open(directory, Self.temporaryFile, 0o600)
        guard descriptor >= 0 else { throw ToolError.system("temporary file in \(FlistPath.quoted(Array(directory.utf8)))") }
        let target = DirectoryHandle(descriptor)
        let source = try compression.inflating(reading(file, from: 0, to: .max, label), label: label, limit: limits.bytes)
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 256 << 10, alignment: 16)
        defer { buffer.deallocate() }
        var offset = 0
        while true {
            try check()
            let count = try source(buffer)
            guard count > 0 else { return target }
            try FileBytes.write(
                UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(buffer)[..<count]), to: descriptor, at: offset,
                what: "inflating \(label) to \(FlistPath.quoted(Array(directory.utf8)))")
            offset += count
        }
    }

    private static func members(_ file: DirectoryHandle, _ label: String, _ limits: ImageLimits, _ check: @escaping () throws -> Void)
        throws
        -> [[UInt8]: Member]
    {
        var members: [[UInt8]: Member] = [:]
        let source = reading(file, from: 0, to: .max, label)
        let tar = try TarReader(
            label: label, accepting: [.none],
            limits: ArchiveLimits(unpackedBytes: .max, members: ImageLimits.archiveMembers)
        ) { buffer in
            try check()
            return try source(buffer)
        }
        while let member = try tar.next() {
            switch member.kind {
            case .file: members[member.plainPath] = .file(offset: member.offset, size: member.size)
            case .symlink(let target):
                let directory = member.plainPath.split(separator: UInt8(ascii: "/")).dropLast()
                members[member.plainPath] = .link(to: joined(directory.map { Array($0) }, target))
            case .hardLink(let target): members[member.plainPath] = .link(to: joined([], target))
            default: break
            }
        }
        return members
    }

    /// `target` seen from `directory`, dots resolved as text; nothing above the archive's root.
    private static func joined(_ directory: [[UInt8]], _ target: [UInt8]) -> [UInt8] {
        var parts = target.first == UInt8(ascii: "/") ? [] : directory
        for part in target.split(separator: UInt8(ascii: "/")) where !part.elementsEqual(".".utf8) {
            if part.elementsEqual("..".utf8) { _ = parts.popLast() } else { parts.append(Array(part)) }
        }
        return Array(parts.joined(separator: [UInt8(ascii: "/")]))
    }

    /// Bytes of a file from one place to another, shared by as many readers as there are.
    private static func reading(_ file: DirectoryHandle, from start: Int64, to end: Int64, _ label: String) -> ByteSource {
        var position = start
        return { buffer in
            let count = min(buffer.count, Int(clamping: end - position))
            guard count > 0, let base = buffer.baseAddress else { return 0 }
            let read = try FileBytes.read(file.descriptor, into: base, count: count, at: Int(position), what: label)
            position += Int64(read)
            return read
        }
    }

    // MARK: Files by name

    private func member(_ name: String) -> (offset: Int64, size: Int64)? {
        guard case .archive(_, let members) = place else { return nil }
        var key = Self.joined([], Array(name.utf8))
        for _ in 0...Self.maxLinks {
            switch members[key] {
            case .file(let offset, let size)?: return (offset, size)
            case .link(let target)?: key = target
            case nil: return nil
            }
        }
        return nil
    }

    /// - Parameter name: of an OCI layout; what a manifest of `docker save` names is only looked for in archives.
    func has(_ name: String) -> Bool { ((try? open(name)) ?? nil) != nil }

    /// The bytes of the file `name` and how many they are; `nil` when there is none.
    func open(_ name: String) throws -> (source: ByteSource, size: Int64)? {
        switch place {
        case .archive(let file, _):
            guard let (offset, size) = member(name) else { return nil }
            // The member's headers first, which may be several.
            let tar = try TarReader(
                label: label, accepting: [.none], limits: ArchiveLimits(unpackedBytes: .max, members: 1),
                source: Self.reading(file, from: offset, to: .max, label))
            guard let member = try tar.next(), member.size == size else { throw ToolError("\(label): changed while it was read") }
            return ({ try tar.read(into: $0) }, size)
        case .directory(let root):
            guard let file = try Self.openInside(root, name, label) else { return nil }
            var status = stat()
            guard fstat(file.descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
                throw ToolError("\(label): \(FlistPath.quoted(Array(name.utf8))) is no regular file")
            }
            return (Self.reading(file, from: 0, to: .max, label), Int64(status.st_size))
        }
    }

    /// Component by component, no symbolic link followed: the layout is foreign, and may have been unpacked from anywhere.
    private static func openInside(_ root: DirectoryHandle, _ name: String, _ label: String) throws -> DirectoryHandle? {
        let parts = name.split(separator: "/").map { Array($0.utf8) }
        guard !parts.isEmpty, !parts.contains(where: { $0 == Array("..".utf8) || $0.contains(0) }) else { return nil }
        var handle = root
        for (index, part) in parts.enumerated() {
            let flags = index + 1 < parts.count ? O_RDONLY | O_DIRECTORY : O_RDONLY | O_NONBLOCK
            let descriptor = withName(part) { openat(handle.descriptor, $0, flags | O_NOFOLLOW | O_CLOEXEC) }
            guard descriptor >= 0 else {
                if errno == ENOENT || errno == ENOTDIR { return nil }
                throw ToolError.system("\(label): \(FlistPath.quoted(Array(name.utf8)))")
            }
            handle = DirectoryHandle(descriptor)
        }
        return handle
    }

    /// A small file as a whole; `nil` when there is none.
    func document(_ name: String) throws -> [UInt8]? {
        guard let (source, size) = try open(name) else { return nil }
        guard size <= Int64(ImageLimits.documentBytes) else {
            throw ToolError(
                "\(label): \(FlistPath.quoted(Array(name.utf8))) has \(size) bytes, and up to \(ImageLimits.documentBytes) are read")
        }
        var out = [UInt8](repeating: 0, count: Int(size))
        var count = 0
        while count < out.count {
            let read = try out.withUnsafeMutableBytes { try source(UnsafeMutableRawBufferPointer(rebasing: $0[count...])) }
            guard read > 0 else { throw ToolError("\(label): \(FlistPath.quoted(Array(name.utf8))) is cut off") }
            count += read
        }
        return out
    }

    /// Whether an archive holds a file of that name anywhere: to tell other kinds of archives.
    func holds(_ name: String) -> Bool { member(name) != nil }
}
