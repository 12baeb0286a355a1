/// How far to read ahead of one reader of one file, in blocks. Reading on grows the window, from 1 to `maxBlocks`; going elsewhere closes it.
///
/// A pure value: what was asked for goes in, what to fetch besides comes out. Nothing is read ahead before a reader has gone on from one block into
/// the next: whoever looks at one place pays for one block.
public struct ReadAhead: Sendable {
    /// Blocks ahead of a reader at most (8 MiB).
    public static let maxBlocks = 16

    /// Blocks that were asked for, or said to be there, without a gap.
    private var run = 0..<0
    private var window = 0
    /// The first block that has not been asked for ahead.
    private var end = 0

    public init() {}

    /// Blocks that were read on without a gap.
    public var runLength: Int { run.count }

    /// Blocks ahead of the reader at this moment.
    public var blocks: Int { window }

    /// Notes a read of `wanted`, not empty, of a file of `count` blocks.
    ///
    /// - Returns: the blocks to fetch ahead, none of which was returned before in this run.
    public mutating func read(_ wanted: Range<Int>, of count: Int) -> Range<Int> {
        guard !run.isEmpty, wanted.lowerBound >= run.lowerBound, wanted.lowerBound <= run.upperBound else {
            (run, window, end) = (wanted, 0, 0)
            return 0..<0
        }
        // Again, or out of order.
        guard wanted.upperBound > run.upperBound else { return 0..<0 }
        run = run.lowerBound..<wanted.upperBound
        window = min(Self.maxBlocks, max(1, window * 2))
        let first = max(end, run.upperBound)
        let last = min(count, run.upperBound + window)
        guard first < last else { return 0..<0 }
        end = last
        return first..<last
    }

    /// The reader was told that all is there up to the block `end`: it goes on without asking.
    public mutating func told(upTo end: Int) {
        guard !run.isEmpty, end > run.upperBound else { return }
        run = run.lowerBound..<end
    }
}
