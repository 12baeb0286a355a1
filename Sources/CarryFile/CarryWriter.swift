public import ChunkModel

/// The bytes between the bodies; the caller puts the bodies of flists and chunks behind their heads.
public enum CarryWriter {
    public static func head(_ head: CarryHead) -> [UInt8] {
        CarryFormat.magic + bytes(CarryFormat.version) + bytes(UInt32(0)) + bytes(head.flists) + bytes(head.chunks) + bytes(head.bytes)
    }

    /// - Precondition: name, URL and signature are within `CarryLimits`; longer URLs and signatures are left out, a longer name is cut.
    public static func note(_ note: CarryNote) -> [UInt8] {
        var name = note.name
        while name.utf8.count > 1024 { name.removeLast() }
        let url = Array((note.url ?? "").utf8)
        var body: [UInt8] = []
        for field in [Array(name.utf8), url.count <= CarryLimits.urlBytes ? url : [], note.signature.count <= 4096 ? note.signature : []] {
            body += bytes(UInt16(clamping: field.count)) + field
        }
        return recordHead(CarryFormat.Kind.note, id: note.digest.value.bytes, length: UInt64(body.count)) + body
    }

    /// Before the flist's bytes.
    public static func flistHead(_ digest: FlistDigest, length: UInt64) -> [UInt8] {
        recordHead(CarryFormat.Kind.flist, id: digest.value.bytes, length: length)
    }

    /// Before the chunk's stored bytes.
    public static func chunkHead(_ id: ChunkID, length: Int) -> [UInt8] {
        recordHead(CarryFormat.Kind.chunk, id: id.bytes, length: UInt64(clamping: length))
    }

    public static func end(_ counts: CarryCounts) -> [UInt8] {
        recordHead(CarryFormat.Kind.end, id: [], length: UInt64(CarryFormat.endBytes))
            + bytes(counts.flists) + bytes(counts.chunks) + bytes(counts.chunkBytes) + bytes(counts.absent)
    }

    private static func recordHead(_ kind: UInt8, id: [UInt8], length: UInt64) -> [UInt8] {
        [kind, UInt8(clamping: id.count), 0, 0] + bytes(length) + id + [UInt8](repeating: 0, count: 32 - id.count)
    }

    /// Big-endian.
    private static func bytes(_ number: some FixedWidthInteger) -> [UInt8] {
        stride(from: number.bitWidth - 8, through: 0, by: -8).map { UInt8(truncatingIfNeeded: number >> $0) }
    }
}
