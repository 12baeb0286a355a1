internal import CLinux
internal import Glibc

/// Which content of files is in memory: what is can be sent or copied without waiting for the disk.
package enum PageCache {
    /// What one look covers at most; what lies behind counts as not looked at.
    package static let maxLookBytes = 8 << 20
    /// Read at a time, so that a large range needs no large buffer.
    private static let stepBytes = 128 << 10

    /// Bytes from `offset` that are in memory, at most `count`. Does not wait for the disk. Where the kernel does not tell, all of them are
    /// said to be.
    package static func resident(_ fd: Int32, at offset: UInt64, count: Int) -> Int {
        let count = min(count, maxLookBytes)
        let page = UInt64(sysconf(Int32(_SC_PAGESIZE)))
        let start = offset / page * page
        let before = Int(offset - start)
        guard count > 0, let place = off_t(exactly: start) else { return 0 }
        let length = before + count
        let pages = (length + Int(page) - 1) / Int(page)
        // Quicker than a map, where the kernel has it.
        if chunkmesh_cached_pages(fd, start, UInt64(length)) == pages { return count }
        guard let map = mmap(nil, length, PROT_READ, MAP_SHARED, fd, place), map != MAP_FAILED else { return count }
        defer { munmap(map, length) }
        return withUnsafeTemporaryAllocation(of: UInt8.self, capacity: pages) { states in
            guard mincore(map, length, states.baseAddress!) == 0 else { return count }
            let first = states.firstIndex { $0 & 1 == 0 } ?? pages
            return min(max(0, first * Int(page) - before), count)
        }
    }

    /// Reads the range into memory. Blocks for as long as the disk takes.
    ///
    /// - Returns: whether all of it could be read.
    package static func load(_ fd: Int32, at offset: UInt64, count: Int) -> Bool {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: min(max(count, 1), stepBytes), alignment: 16)
        defer { buffer.deallocate() }
        var done = 0
        while done < count {
            guard let place = Int64(exactly: offset + UInt64(done)) else { return false }
            let step = min(buffer.count, count - done)
            guard FileBytes.read(into: UnsafeMutableRawBufferPointer(rebasing: buffer[..<step]), from: fd, at: place) == step else {
                return false
            }
            done += step
        }
        return true
    }
}
