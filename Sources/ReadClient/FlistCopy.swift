internal import Flist
internal import Glibc
internal import LocalFiles

/// A copy of an flist's tables, for a user who may not open the daemon's file. Gone with this object: what reads it has opened it by then.
final class FlistCopy {
    static let pieceBytes = 1 << 20
    private let file: TemporaryFile
    var path: String { file.path }

    init(of source: Int32) throws(FlistError) {
        do throws(TemporaryFileError) { file = try TemporaryFile() } catch { throw FlistError(.unreadable, error.description) }
        let copy = open(file.path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW)
        guard copy >= 0 else { throw Self.failed(errno) }
        defer { close(copy) }
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: Self.pieceBytes, alignment: 4096)
        defer { buffer.deallocate() }
        var offset: Int64 = 0
        while true {
            let count = FileBytes.read(into: buffer, from: source, at: offset)
            guard count >= 0 else { throw Self.failed(Int32(-count)) }
            if count == 0 { return }
            let code = FileBytes.write(UnsafeRawBufferPointer(rebasing: buffer[..<count]), to: copy, at: offset)
            guard code == 0 else { throw Self.failed(code) }
            offset += Int64(count)
        }
    }

    private static func failed(_ code: Int32) -> FlistError {
        FlistError(.unreadable, "the flist cannot be copied to \(TemporaryFile.directory): \(String(cString: strerror(code)))")
    }
}
