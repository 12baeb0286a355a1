/// What a node may spend on telling what nodes hold, in bytes: so many a second, and as much as two seconds give at one time.
/// What must be answered is paid later, up to two seconds' worth; beyond it the debt grows no further.
struct ContentBudget: Sendable {
    private let bytesPerSecond: Int
    private var left: Int
    private var filledAt: UInt64

    init(bytesPerSecond: Int, now: UInt64) {
        self.bytesPerSecond = max(bytesPerSecond, 1)
        left = 2 * self.bytesPerSecond
        filledAt = now
    }

    /// Something may be told.
    var isOpen: Bool { left > 0 }
    /// There is no need to save.
    var isEasy: Bool { left > bytesPerSecond }

    mutating func refill(_ now: UInt64) {
        guard now > filledAt else { return }
        // After four seconds it is full in any case.
        let passed = min(now - filledAt, 4 * .second)
        let more = Int(passed / 1_000) * bytesPerSecond / 1_000_000
        guard more > 0 else { return }
        left = min(left + more, 2 * bytesPerSecond)
        filledAt = now
    }

    mutating func spend(_ bytes: Int) { left = max(left - bytes, -2 * bytesPerSecond) }
}
