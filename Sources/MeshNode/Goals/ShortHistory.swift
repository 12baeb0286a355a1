/// Since when chunks have had too few copies. A machine that reboots, or a node that opens its flists after a restart, is back before
/// anything is copied: only what was short at every look during the grace is due. A value under a time that is given.
///
/// Memory is one bit for each chunk and generation: a new generation begins each quarter of the grace with what is short then, and what is found
/// not to be short drops out of all of them. So a chunk is due after the grace, and a quarter of it at most.
struct ShortHistory: Sendable {
    /// Generations in one grace.
    static let parts = 4
    /// After so many graces others than those first in the ranking take it: who should have may not be able to.
    static let lateGraces = 3

    private struct Generation: Sendable {
        let begun: Duration
        var short: [UInt64]
    }

    var grace: Duration
    private var generations: [Generation] = []

    init(grace: Duration) { self.grace = grace }

    /// - Parameter short: one bit for each chunk, of always the same number of words (another number begins anew).
    /// - Returns: which of them are due, and which have been for long.
    mutating func note(_ short: [UInt64], now: Duration) -> (due: [UInt64], late: [UInt64]) {
        if generations.first?.short.count != short.count { generations = [] }
        for index in generations.indices {
            for word in short.indices { generations[index].short[word] &= short[word] }
        }
        if generations.last.map({ now - $0.begun >= grace / Self.parts }) ?? true {
            generations.append(Generation(begun: now, short: short))
        }
        // Of the old ones the youngest that is late says all that its elders do.
        while generations.count > 1, now - generations[1].begun >= grace * Self.lateGraces { generations.removeFirst() }
        // In order: an elder's are part of a younger one's.
        let none = [UInt64](repeating: 0, count: short.count)
        return (
            generations.last { now - $0.begun >= grace }?.short ?? none,
            generations.last { now - $0.begun >= grace * Self.lateGraces }?.short ?? none
        )
    }
}
