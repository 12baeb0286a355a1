internal import Glibc

/// A failure of one of the tools; `message` is one clear line.
public struct ToolError: Error, Hashable, Sendable, CustomStringConvertible {
    public let message: String
    public init(_ message: String) { self.message = message }
    public var description: String { message }

    /// What the last system call said about `what`.
    static func system(_ what: String, code: Int32 = errno) -> ToolError { ToolError("\(what): \(String(cString: strerror(code)))") }
}
