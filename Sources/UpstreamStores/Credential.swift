/// A user name and a password; of an S3 store the access key and the secret. Prints neither.
public struct Credential: Sendable, Equatable, CustomStringConvertible, CustomDebugStringConvertible {
    public var user: String
    public var password: String

    public init(user: String, password: String) { (self.user, self.password) = (user, password) }

    public var description: String { "credential" }
    public var debugDescription: String { description }
}

/// What AWS's own tools take from the environment and from `~/.aws/credentials`.
struct AWSCredential: Sendable, Equatable {
    var keys: Credential
    /// Of temporary keys.
    var sessionToken: String?
}

/// Why credentials cannot be used: one clear line without any secret.
public struct CredentialsError: Error, CustomStringConvertible, Sendable {
    /// The file, and the line in it where there is one.
    public let place: String
    public let reason: String

    public var description: String { "\(place): \(reason)" }
}
