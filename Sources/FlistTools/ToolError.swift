internal import Glibc

/// A failure of one of the tools; `message` is one clear line.
public struct ToolError: Error, Hashable, Sendable, CustomStringConvertible {
    public let message: String
    /// Every further write would meet it too: no room, no device, no permission to write there at all.
    let isFatalForWriting: Bool

    public init(_ message: String) { self.init(message, isFatalForWriting: false) }

    private init(_ message: String, isFatalForWriting: Bool) { (self.message, self.isFatalForWriting) = (message, isFatalForWriting) }

    public var description: String { message }

    /// What the last system call said about `what`.
    static func system(_ what: String, code: Int32 = errno) -> ToolError {
        ToolError(
            "\(what): \(String(cString: strerror(code)))",
            isFatalForWriting: [ENOSPC, EDQUOT, EROFS, EIO, EFBIG, ENFILE, EMFILE].contains(code))
    }
}
