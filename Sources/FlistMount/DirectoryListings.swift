internal import Flist
internal import Synchronization

/// Directories that are being listed: of each a window of rows, so that the kernel's small steps don't each go to the tables.
final class DirectoryListings: Sendable {
    /// Windows that are kept; with more listings at once, the one used longest ago is read again.
    static let maxWindows = 32
    /// Rows that are read at a time.
    static let rows = 512

    private struct Window: Sendable {
        let directory: Int64
        var reader: FlistDirectoryReader
        /// In order of inode number, all of the rows behind `start`.
        var entries: [FlistEntry]
        /// The row before the window.
        var start: Int64
        /// The last row of the window, whether it became an entry or not.
        var end: Int64
        var isLast: Bool
    }

    private struct State {
        /// The one used last stands last.
        var windows: [Window] = []
        /// The directory whose subdirectory was the last to be listed from its start.
        var parent: Int64?
    }

    private let flist: FlistFile
    private let state = Mutex(State())

    init(flist: FlistFile) { self.flist = flist }

    /// Calls `body` with the entries of `directory` whose rows come after `after` (0: from the start), until it returns `false` or there
    /// are no more.
    func list(_ directory: Int64, after: Int64, _ body: (FlistEntry) -> Bool) throws(FlistError) {
        var window: Window
        if let kept = take(directory, after) {
            window = kept
        } else {
            var reader = FlistDirectoryReader(flist: flist, directory: directory)
            if after > 0 { try reader.skip(to: after) }
            window = Window(directory: directory, reader: reader, entries: [], start: after, end: after, isLast: false)
        }
        var position = after
        while true {
            var index = window.entries.firstIndex(after: position)
            while index < window.entries.count {
                guard body(window.entries[index]) else {
                    keep(window)
                    return
                }
                position = window.entries[index].ino
                index += 1
            }
            // Kept even when it has ended: the kernel asks once more before it knows, and it tells which subdirectory follows on which.
            if window.isLast {
                keep(window)
                return
            }
            let page = try window.reader.next(limit: Self.rows)
            window.start = window.end
            window.entries = page.entries
            window.isLast = page.next == nil
            window.end = page.next ?? .max
        }
    }

    /// Takes a window out that can go on behind `after`.
    private func take(_ directory: Int64, _ after: Int64) -> Window? {
        state.withLock { state in
            guard let index = state.windows.lastIndex(where: { $0.directory == directory && $0.start <= after && after <= $0.end }) else {
                return nil
            }
            return state.windows.remove(at: index)
        }
    }

    private func keep(_ window: Window) {
        state.withLock { state in
            if state.windows.count >= Self.maxWindows { state.windows.removeFirst() }
            state.windows.append(window)
        }
    }

    // MARK: Ahead

    /// The listing of `directory` begins.
    ///
    /// - Returns: the subdirectory behind it, when the one listed before lies in the same directory: whoever walks a tree comes to that next.
    ///   `nil` when it is in a window already.
    func follower(of directory: Int64) -> Int64? {
        state.withLock { state in
            guard
                let index = state.windows.lastIndex(where: { window in
                    let place = window.entries.firstIndex(from: directory)
                    return place < window.entries.count && window.entries[place].ino == directory
                })
            else { return nil }
            // It stays, however many of its subdirectories are listed.
            let window = state.windows.remove(at: index)
            state.windows.append(window)
            let isWalked = state.parent == window.directory
            state.parent = window.directory
            guard isWalked, let next = window.entries[window.entries.firstIndex(after: directory)...].first(where: \.isDirectory)?.ino,
                !state.windows.contains(where: { $0.directory == next })
            else { return nil }
            return next
        }
    }

    /// Reads the first window of `directory`, so that it is at hand when the kernel asks. What is wrong with it is said then.
    func readAhead(_ directory: Int64) {
        var reader = FlistDirectoryReader(flist: flist, directory: directory)
        guard let page = try? reader.next(limit: Self.rows) else { return }
        keep(
            Window(
                directory: directory, reader: reader, entries: page.entries, start: 0, end: page.next ?? .max, isLast: page.next == nil))
    }
}

extension [FlistEntry] {
    /// The place of the first entry whose number is above `ino`; they are in order.
    fileprivate func firstIndex(after ino: Int64) -> Int { ino == .max ? count : firstIndex(from: ino + 1) }

    /// The place of the first entry whose number is `ino` or above.
    fileprivate func firstIndex(from ino: Int64) -> Int {
        var (low, high) = (0, count)
        while low < high {
            let middle = low + (high - low) / 2
            if self[middle].ino < ino { low = middle + 1 } else { high = middle }
        }
        return low
    }
}
