/// Numbers and names out of a request, in the machine's byte order, as the kernel writes them.
enum WireReader {
    static func uint32(_ bytes: RawSpan, _ offset: Int) -> UInt32? {
        guard offset >= 0, bytes.byteCount - offset >= 4 else { return nil }
        return unsafe bytes.unsafeLoadUnaligned(fromByteOffset: offset, as: UInt32.self)
    }

    static func uint64(_ bytes: RawSpan, _ offset: Int) -> UInt64? {
        guard offset >= 0, bytes.byteCount - offset >= 8 else { return nil }
        return unsafe bytes.unsafeLoadUnaligned(fromByteOffset: offset, as: UInt64.self)
    }

    /// The bytes up to the NUL that must stand before `end`; `nil` when there is none, or nothing before it.
    static func name(_ bytes: RawSpan, from start: Int, to end: Int) -> [UInt8]? {
        guard start >= 0, start < end, end <= bytes.byteCount else { return nil }
        return unsafe bytes.withUnsafeBytes { all -> [UInt8]? in
            let rest = unsafe all[start..<end]
            guard let stop = unsafe rest.firstIndex(of: 0), stop > start else { return nil }
            return unsafe Array(rest[start..<stop])
        }
    }
}
