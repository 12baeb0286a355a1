/// How much that is read ahead may be under way while a reader waits, in bytes that are still to come: enough to keep a thin line full, no
/// more than another reader can bear. A value without I/O.
struct AheadBudget: Sendable {
    /// Almost four times what a line of 20 Mbit/s holds at 40 ms, for a connection that begins slowly needs that long to take over from one
    /// that ends. At the limit nothing more is begun, and what was begun is finished.
    static let bytes = 384 << 10
    /// What a transfer counts as of which nothing is known yet: a whole block, and all else. Small files have small chunks, and there are
    /// many of them.
    static let unknownWhole = 256 << 10
    static let unknown = 16 << 10

    private var left = AheadBudget.bytes

    /// It is under way.
    mutating func take(_ remaining: Int?, isWholeBlock: Bool) { left -= remaining ?? (isWholeBlock ? Self.unknownWhole : Self.unknown) }

    /// - Parameter remaining: bytes of the transfer that are still to come; `nil` before that is known.
    /// - Returns: whether it may begin, or go on. One may, however large it is.
    mutating func admits(_ remaining: Int?, isWholeBlock: Bool) -> Bool {
        guard left > 0 else { return false }
        take(remaining, isWholeBlock: isWholeBlock)
        return true
    }
}
