internal import CSodium
internal import ChunkModel

/// A secret key as it lies in its file: encrypted with a password (scrypt), or not (`minisign -W`).
public struct MinisignSecretKeyFile: Sendable {
    /// What scrypt may use, in operations and bytes of memory.
    public struct Work: Hashable, Sendable {
        public let operations: UInt64
        public let memory: UInt64

        public init(operations: UInt64, memory: UInt64) { (self.operations, self.memory) = (operations, memory) }

        /// What minisign writes: seconds, and 1 GiB.
        public static let usual = Work(operations: 1 << 25, memory: 1 << 30)
        /// The most that a file may ask for: four times the usual, so that a hostile one cannot take the machine.
        public static let most = Work(operations: 1 << 27, memory: 1 << 32)
        /// The least that libsodium takes.
        public static let least = Work(operations: 32768, memory: 16 << 20)
    }

    /// A file that holds more is no secret key.
    public static let maxFileBytes = 2048
    /// Bytes of a password, as in minisign.
    public static let maxPasswordBytes = 1024
    private static let scrypt = Array("Sc".utf8)
    private static let blake2b = Array("B2".utf8)
    /// Key id, secret key, checksum.
    private static let hiddenBytes = 8 + 64 + 32

    private let salt: [UInt8]
    private let work: Work
    private let hidden: [UInt8]
    /// Whether `unlock` needs a password.
    public let isEncrypted: Bool

    /// - Throws: `MinisignError.malformed`.
    public init(_ bytes: [UInt8]) throws(MinisignError) {
        guard bytes.count <= Self.maxFileBytes else {
            throw MinisignError(.malformed, "larger than the \(Self.maxFileBytes) bytes that a secret key of minisign may have")
        }
        let lines = MinisignText.lines(of: bytes)
        guard lines.count == 2, lines[0].starts(with: MinisignText.untrustedPrefix),
            let raw = MinisignText.decode(lines[1], count: 6 + 32 + 16 + Self.hiddenBytes)
        else {
            throw MinisignError(.malformed, "not a secret key of minisign (a comment line and 212 characters of base64)")
        }
        guard Array(raw[..<2]) == MinisignPublicKey.algorithm, Array(raw[4..<6]) == Self.blake2b else {
            throw MinisignError(.malformed, "a secret key of other algorithms than Ed25519 (\"Ed\") and BLAKE2b (\"B2\")")
        }
        switch Array(raw[2..<4]) {
        case Self.scrypt: isEncrypted = true
        case [0, 0]: isEncrypted = false
        default: throw MinisignError(.malformed, "a secret key whose password goes through something else than scrypt (\"Sc\")")
        }
        salt = Array(raw[6..<38])
        work = Work(operations: Self.number(raw[38..<46]), memory: Self.number(raw[46..<54]))
        hidden = Array(raw[54...])
        guard !isEncrypted || (work.operations <= Work.most.operations && work.memory <= Work.most.memory) else {
            throw MinisignError(.malformed, "a secret key whose password would take more than \(Work.most.memory >> 30) GiB to check")
        }
    }

    /// Takes seconds and a gigabyte of memory where the key is encrypted.
    ///
    /// - Parameter password: ignored where the key is not encrypted.
    /// - Throws: `MinisignError`: `.password`; `.malformed`.
    public func unlock(password: [UInt8]) throws(MinisignError) -> MinisignSecretKey {
        let open = isEncrypted ? try Self.mix(hidden, password: password, salt: salt, work: work) : hidden
        let (id, secret, checksum) = (Array(open[..<8]), Array(open[8..<72]), Array(open[72...]))
        // minisign leaves the checksum of a key without a password empty.
        let isRight = checksum == Self.checksum(id: id, secret: secret)
        guard isRight || (!isEncrypted && checksum.allSatisfy { $0 == 0 }) else {
            throw isEncrypted ? MinisignError(.password, "wrong password") : MinisignError(.malformed, "the secret key is damaged")
        }
        guard let key = MinisignSecretKey(id: MinisignKeyID(id), secret: secret) else {
            throw MinisignError(.malformed, "the secret key is damaged")
        }
        return key
    }

    /// The text of the file for `key`.
    ///
    /// - Parameter password: `nil` leaves the key unprotected.
    /// - Throws: `MinisignError.password` when it is too long, or scrypt lacks memory.
    public static func text(of key: MinisignSecretKey, password: [UInt8]?, work: Work = .usual) throws(MinisignError) -> String {
        let id = key.publicKey.id.bytes
        var raw = MinisignPublicKey.algorithm
        if let password {
            let salt = Sodium.randomBytes(32)
            let open = id + key.secret + checksum(id: id, secret: key.secret)
            raw += scrypt + blake2b + salt + bytes(work.operations) + bytes(work.memory)
            raw += try mix(open, password: password, salt: salt, work: work)
        } else {
            raw += [0, 0] + blake2b + [UInt8](repeating: 0, count: 48) + id + key.secret + [UInt8](repeating: 0, count: 32)
        }
        let kind = password == nil ? "secret key without a password" : "encrypted secret key"
        return "untrusted comment: minisign \(kind)\n\(MinisignText.encode(raw))\n"
    }

    /// Hides what is open, opens what is hidden.
    private static func mix(_ bytes: [UInt8], password: [UInt8], salt: [UInt8], work: Work) throws(MinisignError) -> [UInt8] {
        Sodium.ready
        guard password.count <= maxPasswordBytes else {
            throw MinisignError(.password, "the password is longer than \(maxPasswordBytes) bytes")
        }
        var stream = [UInt8](repeating: 0, count: bytes.count)
        let code = crypto_pwhash_scryptsalsa208sha256(
            &stream, UInt64(stream.count), password.map { CChar(bitPattern: $0) }, UInt64(password.count), salt, work.operations,
            Int(clamping: work.memory))
        guard code == 0 else {
            throw MinisignError(.password, "not enough memory to check the password: \(work.memory >> 20) MiB are needed")
        }
        return zip(bytes, stream).map { $0 ^ $1 }
    }

    private static func checksum(id: [UInt8], secret: [UInt8]) -> [UInt8] {
        Blake2b.hash256(MinisignPublicKey.algorithm + id + secret).bytes
    }

    private static func number(_ bytes: ArraySlice<UInt8>) -> UInt64 { bytes.reversed().reduce(0) { $0 << 8 | UInt64($1) } }
    private static func bytes(_ number: UInt64) -> [UInt8] { (0..<8).map { UInt8(truncatingIfNeeded: number >> ($0 * 8)) } }
}
