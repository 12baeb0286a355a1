/// Why an archive could not be read; `message` is one clear line that begins with the archive's label.
public struct ArchiveError: Error, Hashable, Sendable, CustomStringConvertible {
    public enum Code: Hashable, Sendable {
        /// No tar, or compressed in a way that was not asked for.
        case notArchive
        /// Cut off, or its parts don't hold together.
        case damaged
        /// One of `ArchiveLimits` is exceeded.
        case overLimit
        /// The bytes could not be read.
        case unreadable
    }

    public let code: Code
    public let message: String
    public init(_ code: Code, _ message: String) { (self.code, self.message) = (code, message) }
    public var description: String { message }
}
