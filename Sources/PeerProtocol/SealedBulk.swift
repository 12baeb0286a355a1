internal import CSodium
internal import ChunkModel

/// Bulk bytes that travel sealed: pieces of `ProtocolLimits.sealedPieceBytes` (the last one shorter), each as u16 length and
/// ChaCha20-Poly1305 under the direction's session key and counter, as frames are. That a piece is no frame is bound into the seal.
extension SessionCipher {
    private static let kind: UInt8 = 1
    /// Bytes that one piece takes more on the wire than it holds.
    public static let bulkOverhead = 2 + SessionCrypto.tagBytes

    /// Pieces that `length` bytes travel in.
    public static func bulkPieces(of length: Int) -> Int {
        (max(0, length) + ProtocolLimits.sealedPieceBytes - 1) / ProtocolLimits.sealedPieceBytes
    }

    /// Appends one piece, sealed, to `out`. What is sealed must be sent in this order.
    /// - Parameter plain: 1 ... `ProtocolLimits.sealedPieceBytes` bytes.
    public mutating func sealBulk(_ plain: UnsafeRawBufferPointer, to out: inout [UInt8]) {
        guard let source = plain.baseAddress, plain.count > 0, plain.count <= ProtocolLimits.sealedPieceBytes else { return }
        let length = plain.count + SessionCrypto.tagBytes
        let header = [UInt8(truncatingIfNeeded: length >> 8), UInt8(truncatingIfNeeded: length)]
        let start = out.count
        out += header
        out += repeatElement(0, count: length)
        let (nonce, key) = takeNonce()
        unsafe out.withUnsafeMutableBytes { bytes in
            guard let target = bytes.baseAddress else { return }
            _ = unsafe crypto_aead_chacha20poly1305_ietf_encrypt(
                (target + start + 2).assumingMemoryBound(to: UInt8.self), nil, source.assumingMemoryBound(to: UInt8.self),
                UInt64(plain.count), header + [Self.kind], 3, nil, nonce, key)
        }
    }

    /// Opens one piece into `target`, which has room for it. `false` when it was sealed by nobody who holds the session.
    mutating func openBulk(_ sealed: UnsafeRawBufferPointer, header: [UInt8], to target: UnsafeMutableRawPointer) -> Bool {
        guard let source = sealed.baseAddress, sealed.count > SessionCrypto.tagBytes else { return false }
        let (nonce, key) = takeNonce()
        return unsafe crypto_aead_chacha20poly1305_ietf_decrypt(
            target.assumingMemoryBound(to: UInt8.self), nil, nil, source.assumingMemoryBound(to: UInt8.self), UInt64(sealed.count),
            header + [Self.kind], 3, nonce, key) == 0
    }

    /// Passes over pieces that were received and not opened.
    public mutating func skipBulk(of length: Int) { for _ in 0..<Self.bulkPieces(of: length) { _ = takeNonce() } }

    /// Opens the next piece of bulk bytes from `reader` into `target`; `nil` when it has not come in whole.
    ///
    /// - Returns: its plain bytes.
    public mutating func openBulk(
        _ reader: inout FrameReader, into target: UnsafeMutableRawBufferPointer
    ) throws(ProtocolViolation) -> Int? {
        try unsafe reader.nextBulk(&self, into: target)
    }
}
