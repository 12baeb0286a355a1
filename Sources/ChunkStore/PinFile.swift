internal import ChunkModel
internal import Glibc

/// The chunks that an owner pins, as a file `pins/HEX`: a head line, then for each id its length (16 or 32) and its bytes, then the
/// BLAKE2b-256 of all that. Files of their own, since the index may be lost and pins cannot be had from the directory.
enum PinFile {
    private static let head = Array("chunkmesh pins 1\n".utf8)
    /// Bytes of the largest pin file.
    static let maxBytes = Int64(head.count + 33 * ChunkStoreLimits.maxPinnedIDs + 32)

    static func encode(_ ids: [ChunkID]) -> [UInt8] {
        var out = head
        out.reserveCapacity(head.count + 33 * ids.count + 32)
        for id in ids {
            out.append(id.length.rawValue)
            out.append(contentsOf: id.bytes)
        }
        out.append(contentsOf: Blake2b.hash256(out).bytes)
        return out
    }

    /// - Returns: `nil` for bytes that `encode` did not make.
    static func decode(_ bytes: [UInt8]) -> [ChunkID]? {
        guard bytes.count >= head.count + 32, bytes.starts(with: head) else { return nil }
        let end = bytes.count - 32
        guard Blake2b.hash256(Array(bytes[..<end])).bytes == Array(bytes[end...]) else { return nil }
        var ids: [ChunkID] = []
        ids.reserveCapacity((end - head.count) / 33)
        var next = head.count
        while next < end {
            let count = Int(bytes[next])
            guard next + 1 + count <= end, let id = ChunkID(bytes[(next + 1)..<(next + 1 + count)]) else { return nil }
            ids.append(id)
            next += 1 + count
        }
        return ids
    }
}
