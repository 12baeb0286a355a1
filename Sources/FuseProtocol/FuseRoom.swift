/// A stretch of an answer that is filled field by field; what would go past its end is left out.
@safe struct FuseRoom {
    private let room: UnsafeMutableRawBufferPointer
    private var position = 0

    @unsafe init(_ room: UnsafeMutableRawBufferPointer) { unsafe self.room = room }

    @inline(__always)
    mutating func put<T: FixedWidthInteger>(_ value: T) {
        let size = MemoryLayout<T>.size
        guard unsafe room.count - position >= size else { return }
        unsafe room.storeBytes(of: value, toByteOffset: position, as: T.self)
        position += size
    }
}
