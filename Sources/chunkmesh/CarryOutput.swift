import CarryFile
import ChunkModel
import ControlClient
import Glibc

/// Writes a carried file, and reads along: it stands under its name only when it is whole.
final class CarryOutput {
    private let path: String
    private let temporary: String?
    private let descriptor: Int32
    private var reader = CarryReader()
    private var head = CarryHead(flists: 0, chunks: 0, bytes: 0)
    private var counts: CarryCounts?
    private var bar: ProgressBar
    private(set) var written: UInt64 = 0

    /// - Parameter path: `-` for stdout.
    init(_ path: String) throws {
        self.path = path
        bar = ProgressBar("export")
        guard path != "-" else {
            (temporary, descriptor) = (nil, 1)
            return
        }
        let temporary = "\(path).new-\(getpid())"
        descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o644)
        self.temporary = temporary
        guard descriptor >= 0 else { throw Self.failure(path, errno) }
    }

    deinit {
        guard let temporary else { return }
        if descriptor >= 0 { close(descriptor) }
        // After the renaming no file has this name.
        unlink(temporary)
    }

    private static func failure(_ path: String, _ code: Int32) -> ControlError {
        .broken("\(path) cannot be written: \(String(cString: strerror(code)))")
    }

    func take(_ bytes: UnsafeRawBufferPointer) throws {
        try Interrupt.check()
        try reader.take(bytes) { event in
            if case .head(let told) = event { head = told }
            if case .ended(let told) = event { counts = told }
        }
        guard Terminal.write(descriptor, bytes) else { throw Self.failure(path, errno) }
        written += UInt64(bytes.count)
        let known = reader.counts
        bar.show(done: written, of: head.bytes, note: "\(known.chunks)/\(head.chunks) chunks, \(Terminal.size(written))")
    }

    /// Gives the file its name.
    func finish() throws -> CarryCounts {
        bar.end(done: written, of: written, note: "\(reader.counts.chunks) chunks, \(Terminal.size(written))")
        try Interrupt.check()
        guard let counts else { throw ControlError.broken("the daemon broke the export off after \(Terminal.size(written))") }
        if let temporary {
            guard fsync(descriptor) == 0, rename(temporary, path) == 0 else { throw Self.failure(path, errno) }
        }
        return counts
    }
}

/// Reads a carried file, and follows how far it is.
final class CarryInput {
    /// Bytes read at a time.
    private static let pieceBytes = 1 << 20
    private let descriptor: Int32
    private var reader = CarryReader()
    private var head = CarryHead(flists: 0, chunks: 0, bytes: 0)
    private var isDamaged = false
    private var bar = ProgressBar("import")
    /// Why reading the file failed.
    private(set) var failure: String?

    /// - Parameter path: `-` for stdin.
    init(_ path: String) throws {
        descriptor = path == "-" ? 0 : open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw ControlError.broken("\(path): \(String(cString: strerror(errno)))") }
    }

    deinit { if descriptor > 0 { close(descriptor) } }

    /// The next piece; `nil` at the end, and behind the place where the file is damaged.
    func piece() throws -> ChunkBuffer? {
        let buffer = ChunkBuffer(capacity: Self.pieceBytes)
        guard let count = read(into: UnsafeMutableRawBufferPointer(start: buffer.base, count: buffer.capacity)) else {
            throw Interrupted()
        }
        buffer.count = count
        return count > 0 ? buffer : nil
    }

    /// Bytes read; 0 at the end, `nil` when interrupted.
    func read(into buffer: UnsafeMutableRawBufferPointer) -> Int? {
        while true {
            if Interrupt.isRequested { return nil }
            if isDamaged || reader.hasEnded || failure != nil { return 0 }
            let count = Glibc.read(descriptor, buffer.baseAddress, buffer.count)
            if count < 0, errno == EINTR { continue }
            if count < 0 { failure = String(cString: strerror(errno)) }
            guard count > 0 else { return 0 }
            // The daemon finds the same, and says so.
            do {
                try reader.take(UnsafeRawBufferPointer(rebasing: buffer[..<count])) { event in
                    if case .head(let told) = event { head = told }
                }
            } catch {
                isDamaged = true
            }
            let counts = reader.counts
            bar.show(done: reader.offset, of: head.bytes, note: "\(counts.chunks)/\(head.chunks) chunks, \(Terminal.size(reader.offset))")
            return count
        }
    }

    func endProgress() { bar.end(done: 1, of: 1, note: "\(reader.counts.chunks) chunks, \(Terminal.size(reader.offset))") }
}
