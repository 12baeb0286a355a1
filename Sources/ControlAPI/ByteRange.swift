/// A `Range` header of the one form that is served here: a single range of bytes (RFC 9110 §14.1.2).
enum ByteRange: Equatable {
    case whole
    case part(Range<UInt64>)
    case unsatisfiable

    /// Anything but one well-formed byte range means the whole, as the RFC has it.
    init(header: String?, size: UInt64) {
        self = .whole
        guard let header, header.lowercased().hasPrefix("bytes=") else { return }
        let value = header.dropFirst(6).filter { $0 != " " }
        let ends = value.split(separator: "-", maxSplits: 1, omittingEmptySubsequences: false)
        guard ends.count == 2, !value.contains(",") else { return }
        if ends[0].isEmpty {
            guard let count = UInt64(ends[1]) else { return }
            self = count == 0 || size == 0 ? .unsatisfiable : .part(size - min(count, size)..<size)
            return
        }
        guard let start = UInt64(ends[0]) else { return }
        var end = size
        if !ends[1].isEmpty {
            guard let last = UInt64(ends[1]), last >= start else { return }
            end = last < size ? last + 1 : size
        }
        self = start >= size ? .unsatisfiable : .part(start..<end)
    }
}
