/// Why a mount was not made, or could not be taken away; `message` is one clear line.
public struct MountError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The exit statuses of mount(8).
    public enum Code: Int32, Sendable {
        /// Wrong arguments, or not allowed.
        case usage = 1
        /// The system lacks something: memory, /dev/fuse, fusermount3.
        case system = 2
        case interrupted = 8
        /// The mount itself failed.
        case failed = 32
    }

    public let code: Code
    public let message: String
    public init(_ code: Code, _ message: String) { (self.code, self.message) = (code, message) }
    public var description: String { message }
}
