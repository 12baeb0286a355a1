internal import CSnappy
internal import CZstd
internal import ChunkModel

/// Compressed bytes of a block and back, in snappy's raw format or as one zstd frame.
enum Compression {
    case snappy
    case zstd

    /// zstd's level: what it saves over snappy is nearly all there at 3; the levels above cost several times the CPU.
    static let zstdLevel: Int32 = 3

    func maxCompressedBytes(_ count: Int) -> Int { self == .snappy ? snappy_max_compressed_length(count) : ZSTD_compressBound(count) }

    /// - Returns: bytes written to `out`, which has room for `maxCompressedBytes`; `nil` when the library failed.
    func compress(_ plain: UnsafeRawBufferPointer, to out: UnsafeMutableRawPointer, capacity: Int, zstdLevel: Int32 = zstdLevel) -> Int? {
        switch self {
        case .snappy:
            var count = capacity
            var nothing: CChar = 0
            let result = withUnsafePointer(to: &nothing) { nothing in
                snappy_compress(
                    plain.baseAddress?.assumingMemoryBound(to: CChar.self) ?? nothing, plain.count, out.assumingMemoryBound(to: CChar.self),
                    &count)
            }
            return result == SNAPPY_OK ? count : nil
        case .zstd:
            let count = ZSTD_compress(out, capacity, plain.baseAddress, plain.count, zstdLevel)
            return ZSTD_isError(count) == 0 ? count : nil
        }
    }

    /// The length that the header of `compressed` claims: to be bounded before anything is allocated for it. `nil` when there is none.
    func plainBytes(_ compressed: UnsafeRawBufferPointer) -> Int? {
        switch self {
        case .snappy:
            var count = 0
            guard let start = compressed.baseAddress?.assumingMemoryBound(to: CChar.self),
                snappy_uncompressed_length(start, compressed.count, &count) == SNAPPY_OK
            else { return nil }
            return count
        case .zstd:
            // 2^64-1 and 2^64-2 stand for "unknown" and "error": our writers always record the length.
            return Int(exactly: ZSTD_getFrameContentSize(compressed.baseAddress, compressed.count))
        }
    }

    /// Writes exactly `count` bytes to `out`.
    ///
    /// - Returns: `false` when `compressed` is damaged, or is not one whole frame of that length.
    func decompress(_ compressed: UnsafeRawBufferPointer, to out: UnsafeMutableRawPointer, count: Int) -> Bool {
        guard let start = compressed.baseAddress else { return false }
        switch self {
        case .snappy:
            var written = count
            return snappy_uncompress(
                start.assumingMemoryBound(to: CChar.self), compressed.count, out.assumingMemoryBound(to: CChar.self), &written) == SNAPPY_OK
                && written == count
        case .zstd:
            // One frame and nothing behind it.
            return ZSTD_findFrameCompressedSize(start, compressed.count) == compressed.count
                && ZSTD_decompress(out, count, start, compressed.count) == count
        }
    }
}
