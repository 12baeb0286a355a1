import CarryFile
import ChunkModel

extension FuzzTarget {
    /// A file of `chunkmesh cache export`; the first byte says in which pieces it comes.
    static let carriedFile = FuzzTarget(
        name: "carried-file", maxLength: 16 << 10,
        seeds: {
            [CarrySeeds.file(), CarrySeeds.file(chunks: 0), Array(CarrySeeds.file().dropLast(30))].flatMap { [[0] + $0, [200] + $0] }
        },
        run: { bytes in
            guard let first = bytes.first else { return }
            var reader = CarryReader()
            var rest = bytes.dropFirst()
            var (body, left): (Bool, UInt64) = (false, 0)
            var counts = CarryCounts()
            do {
                while !rest.isEmpty {
                    let piece = Array(rest.prefix(Int(first) * 8 + 1))
                    rest = rest.dropFirst(piece.count)
                    let start = reader.offset
                    try piece.withUnsafeBytes { bytes in
                        try reader.take(bytes) { event in
                            fuzzCheck(body || left == 0, "bytes are left of a body that has ended")
                            switch event {
                            case .flist(_, let length): (body, left, counts.flists) = (true, length, counts.flists + 1)
                            case .chunk(_, let length):
                                fuzzCheck(length <= ChunkLimits.maxStoredBytes, "a chunk over the limit")
                                (body, left, counts.chunks) = (true, UInt64(length), counts.chunks + 1)
                            case .body(let range):
                                fuzzCheck(body && !range.isEmpty && range.upperBound <= bytes.count, "a body out of place")
                                fuzzCheck(UInt64(range.count) <= left, "a body over its length")
                                left -= UInt64(range.count)
                            case .bodyEnded:
                                fuzzCheck(body && left == 0, "a body that ends early")
                                body = false
                            case .note(let note):
                                fuzzCheck((note.url?.utf8.count ?? 0) <= CarryLimits.urlBytes, "a URL over the limit")
                            case .head: fuzzCheck(start <= UInt64(CarryFormat.headBytes), "a second head")
                            case .ended(let told):
                                fuzzCheck(!body && told.flists == counts.flists && told.chunks == counts.chunks, "an end that miscounts")
                            }
                        }
                    }
                }
                fuzzCheck(reader.offset == UInt64(bytes.count - 1), "bytes were passed over")
            } catch {
                fuzzCheck(error is CarryError && !"\(error)".isEmpty, "an error without a line: \(error)")
            }
        })
}

enum CarrySeeds {
    static func file(chunks: Int = 2) -> [UInt8] {
        let flist = Array("not an flist".utf8)
        let digest = FlistDigest(Blake2b.hash256(flist))
        var out = CarryWriter.head(CarryHead(flists: 1, chunks: UInt64(chunks), bytes: 0))
        out += CarryWriter.note(CarryNote(digest: digest, name: "image.fl", url: "http://hub/image.fl", signature: [1, 2, 3]))
        out += CarryWriter.flistHead(digest, length: UInt64(flist.count)) + flist
        var counts = CarryCounts(flists: 1)
        for number in 0..<chunks {
            let body = [UInt8](repeating: UInt8(number), count: 40)
            let id = body.withUnsafeBytes { ChunkID(ofStored: $0, length: number == 0 ? .full : .legacy) }
            out += CarryWriter.chunkHead(id, length: body.count) + body
            (counts.chunks, counts.chunkBytes) = (counts.chunks + 1, counts.chunkBytes + 40)
        }
        return out + CarryWriter.end(counts)
    }
}
