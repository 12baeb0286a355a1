/// Why an flist, or something in it, could not be used; `message` is one clear line.
public struct FlistError: Error, Hashable, Sendable, CustomStringConvertible {
    public enum Code: Hashable, Sendable {
        /// No flist at all, or one of another format.
        case notFlist
        /// An flist by its looks, but its pages, its schema or its root don't hold together.
        case damaged
        /// The file could not be read.
        case unreadable
        /// No such path or inode in the flist.
        case notFound
        /// A component of a path, or the inode asked about, is no directory.
        case notDirectory
        /// More than `FlistFile.maxLinks` symbolic links on the way.
        case linkLoop
        /// The entry exists, but is refused (FORMATS.md §4).
        case badEntry
        /// The file's blocks cannot make up the file.
        case badBlocks
    }

    public let code: Code
    public let message: String
    public init(_ code: Code, _ message: String) { (self.code, self.message) = (code, message) }
    public var description: String { message }
}
