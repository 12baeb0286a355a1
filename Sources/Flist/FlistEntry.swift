/// What an inode is.
public enum FlistKind: Hashable, Sendable {
    case file
    case directory
    /// The target's bytes exactly as stored: 1 to 4,095 bytes without NUL.
    case symlink(target: [UInt8])
    case fifo
    case socket
    case charDevice(major: UInt32, minor: UInt32)
    case blockDevice(major: UInt32, minor: UInt32)
}

/// One inode that passed all checks (FORMATS.md §1.2, §4).
public struct FlistEntry: Hashable, Sendable {
    /// At least 1; the root is 1.
    public let ino: Int64
    /// 0 for the root only.
    public let parent: Int64
    /// The name's bytes: no slash, no NUL, not empty, at most 255. The root's is `/`.
    public let name: [UInt8]
    public let kind: FlistKind
    /// The mode's lower twelve bits.
    public let permissions: UInt16
    public let uid: UInt32
    public let gid: UInt32
    /// Bytes of content of a file, length of a symlink's target, 0 for everything else.
    public let size: UInt64
    /// Seconds since 1970, any value.
    public let mtime: Int64
    public let ctime: Int64

    public var isDirectory: Bool { kind == .directory }
    public var isFile: Bool { kind == .file }
}

/// Something that is refused, and left out of listings, or that is there and not whole (`isKept`); the rest of the flist is still used.
public struct EntryProblem: Hashable, Sendable, CustomStringConvertible {
    /// The entry's row; `nil` when the problem belongs to no row.
    public let ino: Int64?
    /// Path or name bytes of the entry, as far as they are known.
    public let path: [UInt8]
    /// What is wrong, without the path.
    public let reason: String
    /// Whether the entry is listed all the same.
    public let isKept: Bool

    public init(ino: Int64?, path: [UInt8], reason: String, isKept: Bool = false) {
        (self.ino, self.path, self.reason, self.isKept) = (ino, path, reason, isKept)
    }

    /// One line for people, the path quoted.
    public var line: String {
        "\(path.isEmpty ? "?" : FlistPath.quoted(path)): \(reason)" + (ino.map { " (inode \($0))" } ?? "")
    }
    public var description: String { line }

    /// The same problem seen from above: `path` is put into `directory`.
    func inside(_ directory: [UInt8]) -> EntryProblem {
        EntryProblem(ino: ino, path: FlistPath.joined(directory, path.isEmpty ? [UInt8(ascii: "?")] : path), reason: reason, isKept: isKept)
    }
}

/// A free key/value pair of the flist. Both are foreign text: `FlistPath.quoted` before showing them.
public struct FlistTag: Hashable, Sendable {
    public let key: String
    public let value: String
    public init(key: String, value: String) { (self.key, self.value) = (key, value) }

    /// The tag that says how blocks are coded, where it is not rfs's own way: the name of a `BlockCoding`.
    public static let codec = "codec"
}
