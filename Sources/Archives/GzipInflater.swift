internal import CZlib

/// Gzip data, inflated; several members in a row are one stream, as gzip(1) has it.
///
/// Our own instead of libarchive's filter, which passes over the checksum and the length at the end: what is damaged, or cut off,
/// must not be taken for whole.
final class GzipInflater {
    private static let inputBytes = 64 << 10

    private let source: ByteSource
    private let label: String
    private let limit: Int64
    private var stream = z_stream()
    private var input: UnsafeMutableRawBufferPointer
    private var isAtEndOfMember = false
    private var isAtEnd = false
    private(set) var producedBytes: Int64 = 0

    /// - Parameter limit: bytes of output; more is `overLimit`.
    init(label: String, limit: Int64, source: @escaping ByteSource) throws(ArchiveError) {
        (self.label, self.limit, self.source) = (label, limit, source)
        input = .allocate(byteCount: Self.inputBytes, alignment: 16)
        guard chunkmesh_inflate_init_gzip(&stream) == Z_OK else {
            throw ArchiveError(.unreadable, "\(label): no memory to inflate gzip data")
        }
    }

    deinit {
        inflateEnd(&stream)
        input.deallocate()
    }

    /// Up to `buffer.count` further bytes; 0 at the end, once the last member's checksum was right.
    func read(into buffer: UnsafeMutableRawBufferPointer) throws -> Int {
        while !isAtEnd, !buffer.isEmpty {
            if stream.avail_in == 0 { try fill() }
            if isAtEndOfMember {
                // What follows a member and is none (tape padding) is passed over.
                guard stream.avail_in > 0, stream.next_in.pointee == 0x1f else {
                    isAtEnd = true
                    break
                }
                inflateReset(&stream)
                isAtEndOfMember = false
            }
            guard stream.avail_in > 0 else { throw ArchiveError(.damaged, "\(label): damaged archive (gzip data is cut off)") }
            stream.next_out = buffer.baseAddress?.assumingMemoryBound(to: UInt8.self)
            stream.avail_out = UInt32(clamping: buffer.count)
            let result = inflate(&stream, Z_NO_FLUSH)
            let produced = min(buffer.count, Int(UInt32.max)) - Int(stream.avail_out)
            producedBytes += Int64(produced)
            switch result {
            case Z_OK, Z_BUF_ERROR: break
            case Z_STREAM_END: isAtEndOfMember = true
            default:
                let reason = stream.msg.map { String(cString: $0) } ?? "error \(result)"
                throw ArchiveError(.damaged, "\(label): damaged archive (gzip: \(reason))")
            }
            guard producedBytes <= limit else {
                throw ArchiveError(.overLimit, "\(label): the archive inflates to more than \(limit) bytes")
            }
            if produced > 0 { return produced }
        }
        return 0
    }

    private func fill() throws {
        let count = try source(input)
        stream.next_in = input.baseAddress?.assumingMemoryBound(to: UInt8.self)
        stream.avail_in = UInt32(clamping: count)
    }
}
