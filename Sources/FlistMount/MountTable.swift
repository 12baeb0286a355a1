internal import Glibc

/// The mounts that this thread sees, as `/proc/thread-self/mountinfo` lists them.
public struct MountTable: Sendable, Equatable {
    public struct Mount: Sendable, Equatable {
        public var id: Int
        /// `major:minor`.
        public var device: String
        public var directory: [UInt8]
        public var type: String
        public var source: [UInt8]
        /// Options of the file system, comma separated.
        public var options: [UInt8]
    }

    /// In the order of their making, as far as the kernel tells.
    public var mounts: [Mount]

    public init(parsing text: [UInt8]) {
        mounts = text.split(separator: UInt8(ascii: "\n")).compactMap { line in
            let fields = line.split(separator: UInt8(ascii: " "), omittingEmptySubsequences: false)
            guard fields.count > 6, let dash = fields.dropFirst(6).firstIndex(of: [UInt8(ascii: "-")]), fields.count > dash + 3,
                let id = Int(String(decoding: fields[0], as: UTF8.self))
            else { return nil }
            return Mount(
                id: id, device: String(decoding: fields[2], as: UTF8.self), directory: Self.unescaped(fields[4]),
                type: String(decoding: fields[dash + 1], as: UTF8.self), source: Self.unescaped(fields[dash + 2]),
                options: Self.unescaped(fields[dash + 3]))
        }
    }

    public static func current() -> MountTable {
        let file = open("/proc/thread-self/mountinfo", O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return MountTable(parsing: []) }
        defer { close(file) }
        return MountTable(parsing: contents(file))
    }

    static func contents(_ file: Int32) -> [UInt8] {
        var text: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: 65_536)
        while true {
            let count = read(file, &piece, piece.count)
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { return text }
            text += piece.prefix(count)
        }
    }

    /// The mount on top at `directory`; a whole path without links.
    public func top(at directory: String) -> Mount? {
        let bytes = Array(directory.utf8)
        return mounts.last { $0.directory == bytes }
    }

    /// `\040` and the like stand for the byte of that octal number.
    private static func unescaped(_ field: ArraySlice<UInt8>) -> [UInt8] {
        var out: [UInt8] = []
        var rest = field
        while let byte = rest.popFirst() {
            let digits = rest.prefix(3)
            if byte == UInt8(ascii: "\\"), digits.count == 3,
                let code = UInt8(String(decoding: digits, as: UTF8.self), radix: 8)
            {
                out.append(code)
                rest = rest.dropFirst(3)
            } else {
                out.append(byte)
            }
        }
        return out
    }
}
