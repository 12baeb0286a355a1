/// Why a key, a signature or a file cannot be used: one clear line.
public struct MinisignError: Error, Hashable, Sendable, CustomStringConvertible {
    public enum Code: Hashable, Sendable {
        /// Not of the form that it must have, or larger than allowed.
        case malformed
        /// Made by another key than the one it was checked with.
        case otherKey
        /// The bytes that were signed are not these, or the trusted comment was changed.
        case wrong
        /// The secret key needs another password.
        case password
        /// A file cannot be read.
        case unreadable
    }

    public let code: Code
    public let description: String

    public init(_ code: Code, _ line: String) { (self.code, description) = (code, line) }

    /// The same, with the place that it was found at.
    public func at(_ place: String) -> MinisignError { MinisignError(code, "\(place): \(description)") }
}
