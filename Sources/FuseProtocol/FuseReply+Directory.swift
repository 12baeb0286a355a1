/// One line of a listing.
public struct FuseDirectoryEntry: Sendable {
    public var ino: UInt64
    /// Where the listing goes on behind it.
    public var cookie: UInt64
    /// The name's bytes: 1 to 255.
    public var name: [UInt8]
    /// The upper four bits of the mode.
    public var type: UInt32

    public init(ino: UInt64, cookie: UInt64, name: [UInt8], type: UInt32) {
        (self.ino, self.cookie, self.name, self.type) = (ino, cookie, name, type)
    }
}

extension FuseReply {
    private static let direntBytes = 24

    /// READDIR: adds a line unless the body would become longer than `limit`.
    ///
    /// - Returns: whether there was room.
    public mutating func add(_ entry: FuseDirectoryEntry, limit: Int) -> Bool {
        guard count + Self.direntBytes + (entry.name.count + 7) & ~7 <= limit else { return false }
        line(entry)
        return true
    }

    /// READDIRPLUS: the same, with attributes, which the kernel keeps.
    ///
    /// - Parameter attributes: `nil` for `.` and `..`, which the kernel does not take in.
    public mutating func add(_ entry: FuseDirectoryEntry, _ attributes: FuseAttributes?, limit: Int) -> Bool {
        guard count + Self.entryBytes + Self.direntBytes + (entry.name.count + 7) & ~7 <= limit else { return false }
        self.entry(attributes)
        line(entry)
        return true
    }

    private mutating func line(_ entry: FuseDirectoryEntry) {
        append(entry.ino)
        append(entry.cookie)
        append(UInt32(clamping: entry.name.count))
        append(entry.type)
        append(entry.name)
        pad((8 - entry.name.count % 8) % 8)
    }
}
