internal import CSodium

/// Thirty-two bytes held in place: no allocation when millions of them stand in tables.
///
/// The order is that of the bytes (and so of the hex form).
public struct Bytes32: Hashable, Comparable, Sendable {
    @usableFromInline var w0: UInt64
    @usableFromInline var w1: UInt64
    @usableFromInline var w2: UInt64
    @usableFromInline var w3: UInt64

    /// Words are big-endian, so that comparing words compares bytes.
    @inlinable
    init(words w0: UInt64, _ w1: UInt64, _ w2: UInt64, _ w3: UInt64) {
        (self.w0, self.w1, self.w2, self.w3) = (w0, w1, w2, w3)
    }

    public static var zero: Bytes32 { Bytes32(words: 0, 0, 0, 0) }

    /// `nil` unless `bytes` holds exactly 32 bytes.
    public init?(_ bytes: some Collection<UInt8>) {
        guard bytes.count == 32 else { return nil }
        self.init(padding: bytes)
    }

    /// At most 32 bytes, filled up with zeros on the right.
    package init(padding bytes: some Collection<UInt8>) {
        var words: (UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0)
        var n = 0
        for byte in bytes {
            let shifted = UInt64(byte) << UInt64(56 - 8 * (n & 7))
            switch n >> 3 {
            case 0: words.0 |= shifted
            case 1: words.1 |= shifted
            case 2: words.2 |= shifted
            default: words.3 |= shifted
            }
            n += 1
        }
        self.init(words: words.0, words.1, words.2, words.3)
    }

    /// 32 bytes from `start` on, which the caller has seen to be there.
    package init(of bytes: [UInt8], at start: Int) {
        func word(_ at: Int) -> UInt64 {
            var word: UInt64 = 0
            for byte in bytes[at..<(at + 8)] { word = word << 8 | UInt64(byte) }
            return word
        }
        self.init(words: word(start), word(start + 8), word(start + 16), word(start + 24))
    }

    public init?(hex: some StringProtocol) {
        guard let bytes = Hex.decode(hex) else { return nil }
        self.init(bytes)
    }

    /// The 32 bytes, in order.
    public var bytes: [UInt8] {
        [UInt8](unsafeUninitializedCapacity: 32) { buffer, filled in
            write(to: UnsafeMutableRawBufferPointer(buffer))
            filled = 32
        }
    }

    /// Writes the 32 bytes to the start of `target`, which must hold as many.
    public func write(to target: UnsafeMutableRawBufferPointer) {
        target.storeBytes(of: w0.bigEndian, toByteOffset: 0, as: UInt64.self)
        target.storeBytes(of: w1.bigEndian, toByteOffset: 8, as: UInt64.self)
        target.storeBytes(of: w2.bigEndian, toByteOffset: 16, as: UInt64.self)
        target.storeBytes(of: w3.bigEndian, toByteOffset: 24, as: UInt64.self)
    }

    public var hex: String { Hex.encode(bytes) }
    public var firstByte: UInt8 { UInt8(truncatingIfNeeded: w0 >> 56) }
    /// The first eight bytes as a number: evenly spread for hashes, and so fit for rendezvous hashing.
    public var prefix64: UInt64 { w0 }

    @inlinable
    public static func < (a: Bytes32, b: Bytes32) -> Bool {
        (a.w0, a.w1, a.w2, a.w3) < (b.w0, b.w1, b.w2, b.w3)
    }
}

/// The BLAKE2b-256 of an flist file: the name of exactly these bytes.
public struct FlistDigest: Hashable, Comparable, Sendable, CustomStringConvertible {
    public let value: Bytes32
    public init(_ value: Bytes32) { self.value = value }
    public init?(hex: some StringProtocol) {
        guard let value = Bytes32(hex: hex) else { return nil }
        self.value = value
    }
    public var hex: String { value.hex }
    public var description: String { hex }
    public static func < (a: FlistDigest, b: FlistDigest) -> Bool { a.value < b.value }
}

/// Unkeyed BLAKE2b with the digest length in the parameter block (FORMATS.md, head).
public enum Blake2b {
    /// BLAKE2b-256 of `bytes`.
    public static func hash256(_ bytes: UnsafeRawBufferPointer) -> Bytes32 {
        Sodium.ready
        return withUnsafeTemporaryAllocation(byteCount: 32, alignment: 8) { out in
            crypto_generichash(
                out.baseAddress!.assumingMemoryBound(to: UInt8.self), 32,
                bytes.baseAddress?.assumingMemoryBound(to: UInt8.self), UInt64(bytes.count), nil, 0)
            return Bytes32(padding: out)
        }
    }

    /// BLAKE2b-256 of `bytes`.
    public static func hash256(_ bytes: [UInt8]) -> Bytes32 { bytes.withUnsafeBytes { hash256($0) } }

    /// BLAKE2b-128 of `bytes`, in the first 16 bytes of the result (legacy chunk ids and keys, FORMATS.md §2.4).
    public static func hash128(_ bytes: UnsafeRawBufferPointer) -> Bytes32 {
        Sodium.ready
        return withUnsafeTemporaryAllocation(byteCount: 16, alignment: 8) { out in
            crypto_generichash(
                out.baseAddress!.assumingMemoryBound(to: UInt8.self), 16,
                bytes.baseAddress?.assumingMemoryBound(to: UInt8.self), UInt64(bytes.count), nil, 0)
            return Bytes32(padding: out)
        }
    }
}

/// BLAKE2b-256 of bytes that arrive in pieces. Not thread-safe; one owner at a time.
public final class Blake2bStream {
    private let state: OpaquePointer
    private let memory: UnsafeMutableRawPointer

    public init() {
        Sodium.ready
        // The state must be 64-byte aligned, which Swift's allocation of an imported struct would not promise.
        memory = .allocate(byteCount: crypto_generichash_statebytes(), alignment: 64)
        state = OpaquePointer(memory)
        crypto_generichash_init(state, nil, 0, 32)
    }

    deinit { memory.deallocate() }

    public func update(_ bytes: UnsafeRawBufferPointer) {
        crypto_generichash_update(state, bytes.baseAddress?.assumingMemoryBound(to: UInt8.self), UInt64(bytes.count))
    }

    /// The digest of all that was added; the stream takes nothing more afterwards.
    public func finish() -> Bytes32 {
        withUnsafeTemporaryAllocation(byteCount: 32, alignment: 8) { out in
            crypto_generichash_final(state, out.baseAddress!.assumingMemoryBound(to: UInt8.self), 32)
            return Bytes32(padding: out)
        }
    }
}
