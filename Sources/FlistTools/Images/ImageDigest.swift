internal import Archives
internal import CCrypto
internal import ChunkModel

/// The digest of a blob of an image: `sha256:HEX`, which OCI demands, or `sha512:HEX`, which it allows.
struct ImageDigest: Hashable, Sendable, CustomStringConvertible {
    enum Algorithm: String, Sendable { case sha256, sha512 }

    let algorithm: Algorithm
    /// Lower case, of the algorithm's length: fit to be part of a path.
    let hex: String

    init(algorithm: Algorithm, hex: String) { (self.algorithm, self.hex) = (algorithm, hex) }

    init?(_ text: some StringProtocol) {
        guard let colon = text.firstIndex(of: ":"), let algorithm = Algorithm(rawValue: String(text[..<colon])) else { return nil }
        let hex = text[text.index(after: colon)...]
        guard hex.utf8.count == (algorithm == .sha256 ? 64 : 128),
            hex.utf8.allSatisfy({ (0x30...0x39).contains($0) || (0x61...0x66).contains($0) })
        else { return nil }
        self.init(algorithm: algorithm, hex: String(hex))
    }

    var description: String { "\(algorithm.rawValue):\(hex)" }
    /// Where an OCI layout keeps the blob.
    var blobPath: String { "blobs/\(algorithm.rawValue)/\(hex)" }

    static func of(_ bytes: [UInt8], _ algorithm: Algorithm) -> ImageDigest {
        let stream = ImageDigestStream(algorithm)
        bytes.withUnsafeBytes { stream.update($0) }
        return stream.finish()
    }
}

/// A digest of bytes that come in pieces.
final class ImageDigestStream {
    private let context: OpaquePointer?
    private let algorithm: ImageDigest.Algorithm
    private var isGood: Bool

    init(_ algorithm: ImageDigest.Algorithm) {
        self.algorithm = algorithm
        context = EVP_MD_CTX_new()
        isGood = context != nil && EVP_DigestInit_ex(context, algorithm == .sha256 ? EVP_sha256() : EVP_sha512(), nil) == 1
    }

    deinit { EVP_MD_CTX_free(context) }

    func update(_ bytes: UnsafeRawBufferPointer) {
        isGood = isGood && EVP_DigestUpdate(context, bytes.baseAddress, bytes.count) == 1
    }

    /// Equal to no digest that was ever written when the library failed.
    func finish() -> ImageDigest {
        var out = [UInt8](repeating: 0, count: 64)
        var count: UInt32 = 0
        isGood = isGood && EVP_DigestFinal_ex(context, &out, &count) == 1
        return ImageDigest(algorithm: algorithm, hex: isGood ? Hex.encode(out.prefix(Int(count))) : "")
    }

    /// `source`, digested on the way.
    func watching(_ source: @escaping ByteSource) -> ByteSource {
        { buffer in
            let count = try source(buffer)
            self.update(UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(buffer)[..<count]))
            return count
        }
    }
}
