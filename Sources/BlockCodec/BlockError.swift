public import ChunkModel

/// Which check a block failed, and for which chunk.
public struct BlockError: Error, Hashable, Sendable, CustomStringConvertible {
    public enum Failure: Hashable, Sendable {
        /// Fewer stored bytes than a tag has, or more than a chunk may have.
        case storedLength(Int)
        /// The authentication tag (in legacy blocks: the recorded length) does not fit: wrong key, or bytes that were made with another.
        case tag
        /// Decrypted, but not in snappy's raw format: bad header, bad element, trailing or missing bytes.
        case compression
        /// The snappy header, or the plain bytes given, are over `ChunkLimits.maxPlainBytes`.
        case plainLength(Int)
        /// Decompressed, but the plain bytes do not hash to the key.
        case key
        /// OpenSSL or snappy refused to work (out of memory).
        case library(String)
    }

    /// `nil` while encoding, when there is no id yet.
    public let id: ChunkID?
    public let failure: Failure

    public init(id: ChunkID?, failure: Failure) { (self.id, self.failure) = (id, failure) }

    public var description: String {
        let what =
            switch failure {
            case .storedLength(let count):
                "\(count) stored bytes are no chunk (up to \(ChunkLimits.maxStoredBytes) are, legacy ones in words of 4)"
            case .tag: "decryption failed (wrong key or damaged data)"
            case .compression: "decompression failed (damaged snappy data)"
            case .plainLength(let count): "\(count) plain bytes are over the limit of \(ChunkLimits.maxPlainBytes)"
            case .key: "the plain bytes do not match the block key"
            case .library(let call): "\(call) failed"
            }
        return id.map { "block \($0.hex): \(what)" } ?? "block: \(what)"
    }
}
