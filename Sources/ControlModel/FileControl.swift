/// What the API needs to serve the tree of an flist as files and directories.
public protocol FileControl: Sendable {
    /// What stands at `path` (bytes), symbolic links followed inside the flist.
    ///
    /// - Throws: `notFound` also where the path leads nowhere: through a file, in circles, to a device.
    func entry(_ flist: String, path: [UInt8]) async throws(NodeError) -> ServedEntry
    /// A regular file. `badRequest` when it is something else.
    func file(_ flist: String, path: [UInt8]) async throws(NodeError) -> any ServedFile
    /// A regular file that `entry` gave lately; `nil` when it is to be asked for there. Does not wait.
    func kept(_ flist: String, path: [UInt8]) -> (any ServedFile)?
}

/// An entry of an flist, ready to be served.
public enum ServedEntry: Sendable {
    case file(any ServedFile)
    case directory(any ServedDirectory)
}

/// A directory of an flist.
public protocol ServedDirectory: Sendable {
    /// Seconds since 1970.
    var mtime: Int64 { get }
    /// A new listing, from its beginning.
    func listing() -> any ServedListing
}

/// A directory's entries as they are read, so that none needs to be held whole.
public protocol ServedListing: Sendable {
    /// The next entries, in the order of their names within each page; `nil` at the end. Asked by one at a time.
    func next() async throws -> [ServedChild]?
}

/// An entry of a directory, its link followed.
public struct ServedChild: Sendable, Equatable {
    public enum Kind: Sendable, Equatable {
        case file
        case directory
        /// Cannot be read over HTTP: what it is, for people.
        case other(String)
    }
    /// Bytes; no slash, not empty.
    public var name: [UInt8]
    public var kind: Kind
    public var size: UInt64
    /// Seconds since 1970.
    public var mtime: Int64
    public init(name: [UInt8], kind: Kind, size: UInt64, mtime: Int64) {
        (self.name, self.kind, self.size, self.mtime) = (name, kind, size, mtime)
    }
}
