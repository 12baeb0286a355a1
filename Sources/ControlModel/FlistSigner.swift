/// Who signed an flist, by the minisign signature beside it.
public struct FlistSigner: Codable, Sendable, Equatable {
    /// Id of the key, 16 hex digits as minisign shows them.
    public var key: String
    /// Checked against a trusted key. Otherwise anybody may have made the signature.
    public var trusted: Bool
    /// The trusted comment, quoted; of a checked signature only.
    public var comment: String?
    public init(key: String, trusted: Bool, comment: String? = nil) { (self.key, self.trusted, self.comment) = (key, trusted, comment) }
}
