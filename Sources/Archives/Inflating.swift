internal import CZstd

extension ArchiveCompression {
    /// The plain bytes of `source`, which holds data compressed in this way: for those who need them besides reading the archive, such as
    /// for a digest.
    ///
    /// - Parameters:
    ///   - label: what errors begin with, fit to be printed.
    ///   - limit: bytes of output; more is `overLimit`.
    public func inflating(_ source: @escaping ByteSource, label: String, limit: Int64) throws(ArchiveError) -> ByteSource {
        switch self {
        case .none:
            var left = limit
            return { buffer in
                let count = try source(buffer)
                left -= Int64(count)
                guard left >= 0 else { throw ArchiveError(.overLimit, "\(label): the archive holds more than \(limit) bytes") }
                return count
            }
        case .gzip:
            let inflater = try GzipInflater(label: label, limit: limit, source: source)
            return { try inflater.read(into: $0) }
        case .zstd:
            let inflater = try ZstdInflater(label: label, limit: limit, source: source)
            return { try inflater.read(into: $0) }
        }
    }
}

/// Zstandard data, inflated; several frames in a row are one stream, as zstd(1) has it.
final class ZstdInflater {
    private static let inputBytes = 128 << 10
    /// The largest window that is accepted, as a power of 2: what zstd(1) itself does without being asked for more (128 MiB of memory).
    private static let maxWindowLog: Int32 = 27

    private let source: ByteSource
    private let label: String
    private let limit: Int64
    private let stream: OpaquePointer
    private let input: UnsafeMutableRawBufferPointer
    private var rest = 0..<0
    private var isInFrame = false
    private var isAtEnd = false
    private var producedBytes: Int64 = 0

    init(label: String, limit: Int64, source: @escaping ByteSource) throws(ArchiveError) {
        guard let stream = ZSTD_createDCtx() else { throw ArchiveError(.unreadable, "\(label): no memory to inflate zstd data") }
        (self.label, self.limit, self.source, self.stream) = (label, limit, source, stream)
        input = .allocate(byteCount: Self.inputBytes, alignment: 16)
        ZSTD_DCtx_setParameter(stream, ZSTD_d_windowLogMax, Self.maxWindowLog)
    }

    deinit {
        ZSTD_freeDCtx(stream)
        input.deallocate()
    }

    /// Up to `buffer.count` further bytes; 0 at the end, which lies between two frames.
    func read(into buffer: UnsafeMutableRawBufferPointer) throws -> Int {
        while !isAtEnd, !buffer.isEmpty {
            if rest.isEmpty {
                rest = 0..<(try source(input))
                if rest.isEmpty {
                    guard !isInFrame else { throw ArchiveError(.damaged, "\(label): damaged archive (zstd data is cut off)") }
                    isAtEnd = true
                    break
                }
            }
            var from = ZSTD_inBuffer(src: input.baseAddress, size: rest.upperBound, pos: rest.lowerBound)
            var to = ZSTD_outBuffer(dst: buffer.baseAddress, size: buffer.count, pos: 0)
            let result = ZSTD_decompressStream(stream, &to, &from)
            guard ZSTD_isError(result) == 0 else {
                throw ArchiveError(.damaged, "\(label): damaged archive (zstd: \(String(cString: ZSTD_getErrorName(result))))")
            }
            isInFrame = result != 0
            rest = from.pos..<rest.upperBound
            producedBytes += Int64(to.pos)
            guard producedBytes <= limit else {
                throw ArchiveError(.overLimit, "\(label): the archive inflates to more than \(limit) bytes")
            }
            if to.pos > 0 { return to.pos }
        }
        return 0
    }
}
