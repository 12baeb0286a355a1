internal import BlockCodec
internal import BlockingThreads
internal import ChunkModel
internal import Flist
internal import Glibc
internal import Synchronization

/// What the flist tools are measured against; scripts/bench runs it.
///
///     flist-bench encode DIR rfs|zstd [LEVEL [THREADS]]     the codec alone on a tree's blocks, all in memory: no store, no flist
///     flist-bench decode FLIST STORE [PATH]                chunks of a directory store to plain bytes on one core, of one file or of all
///     flist-bench touch FLIST CHUNKS SOCKET                reads all files through the daemon at the read socket SOCKET, whose chunks lie in CHUNKS
///     flist-bench list FLIST                               opens it, lists its root, looks one entry up
///
/// Each prints one JSON line.
@main enum FlistBench {
    static func main() throws {
        let arguments = CommandLine.arguments
        switch arguments.dropFirst().first {
        case "encode" where arguments.count >= 4:
            guard let coding = BlockCoding(name: arguments[3]) else { fatalError("rfs or zstd") }
            let level = arguments.count > 4 ? Int32(arguments[4]) : nil
            let threads = arguments.count > 5 ? Int(arguments[5]) : nil
            try encode(arguments[2], coding, level: level, threads: threads ?? BlockingThreads.machineThreads)
        case "decode" where arguments.count == 4 || arguments.count == 5:
            try decode(arguments[2], store: arguments[3], path: arguments.count == 5 ? arguments[4] : nil)
        case "touch" where arguments.count == 5: try TouchBench.run(arguments[2], chunks: arguments[3], socket: arguments[4])
        case "list" where arguments.count == 3: try list(arguments[2])
        default:
            print(
                """
                flist-bench encode DIR rfs|zstd [LEVEL [THREADS]]; flist-bench decode FLIST STORE [PATH]; \
                flist-bench touch FLIST CHUNKS SOCKET; flist-bench list FLIST
                """)
            exit(2)
        }
    }

    static func seconds(_ clock: clockid_t) -> Double {
        var time = timespec()
        clock_gettime(clock, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
    }

    private static func encode(_ directory: String, _ coding: BlockCoding, level: Int32?, threads count: Int) throws {
        var blocks: [ChunkBuffer] = []
        load(directory, &blocks)
        let loaded = blocks
        let pool = ChunkBufferPool(keep: 3 * count)
        let next = Atomic(0)
        let stored = Atomic(0)
        let threads = BlockingThreads(count: count)
        let (wall, cpu) = (seconds(CLOCK_MONOTONIC), seconds(CLOCK_PROCESS_CPUTIME_ID))
        let ended = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)
        sem_init(ended, 0, 0)
        nonisolated(unsafe) let end = ended
        for _ in 0..<count {
            threads.start {
                while true {
                    let index = next.wrappingAdd(1, ordering: .relaxed).oldValue
                    guard index < loaded.count else { break }
                    let block = loaded[index].withBytes { try? BlockCodec.encode($0, as: coding, zstdLevel: level, pool: pool) }
                    stored.wrappingAdd(block?.chunk.byteCount ?? 0, ordering: .relaxed)
                }
                sem_post(end)
            }
        }
        for _ in 0..<count { while sem_wait(ended) != 0 {} }
        let plain = loaded.reduce(0) { $0 + $1.count }
        print(
            "{\"blocks\": \(loaded.count), \"bytes\": \(plain), \"stored\": \(stored.load(ordering: .relaxed)), "
                + "\"seconds\": \(seconds(CLOCK_MONOTONIC) - wall), \"cpu\": \(seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu)}")
    }

    /// All regular files below, cut into blocks.
    private static func load(_ directory: String, _ blocks: inout [ChunkBuffer]) {
        guard let stream = opendir(directory) else { return }
        defer { closedir(stream) }
        while let entry = readdir(stream) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
            if name == "." || name == ".." { continue }
            let path = directory + "/" + name
            var status = stat()
            guard lstat(path, &status) == 0 else { continue }
            if status.st_mode & S_IFMT == S_IFDIR { load(path, &blocks) }
            guard status.st_mode & S_IFMT == S_IFREG else { continue }
            let file = open(path, O_RDONLY | O_CLOEXEC)
            guard file >= 0 else { continue }
            defer { close(file) }
            var offset = 0
            while offset < Int(status.st_size) {
                let block = ChunkBuffer(capacity: min(ChunkLimits.blockBytes, Int(status.st_size) - offset))
                block.count = max(0, pread(file, block.base, block.capacity, off_t(offset)))
                if block.count == 0 { break }
                offset += block.count
                blocks.append(block)
            }
        }
    }

    private static func list(_ path: String) throws {
        let start = seconds(CLOCK_MONOTONIC)
        let flist = try FlistFile(path: path)
        let page = try flist.children(of: flist.root().ino)
        let found = try page.entries.last.flatMap { try flist.lookup(parent: flist.root().ino, name: $0.name) }
        let cpu = seconds(CLOCK_PROCESS_CPUTIME_ID)
        print(
            "{\"entries\": \(page.entries.count), \"found\": \(found != nil), \"seconds\": \(seconds(CLOCK_MONOTONIC) - start), \"cpu\": \(cpu)}"
        )
    }
}
