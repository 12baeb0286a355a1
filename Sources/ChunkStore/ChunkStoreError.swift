internal import Glibc
public import ChunkModel

/// What went wrong with the cache directory or a file in it; each `description` is one line for the user.
public enum ChunkStoreError: Error, Equatable, Sendable, CustomStringConvertible {
    /// Another daemon holds the directory.
    case inUse(directory: String, pid: Int32?)
    /// The directory cannot be created or written to; `code` is the `errno`.
    case unusable(directory: String, code: Int32)
    /// A system call on a file failed; `code` is the `errno`.
    case failed(action: String, path: String, code: Int32)
    /// A file or a request goes beyond a named limit.
    case tooLarge(what: String, limit: Int64)
    /// The bytes are not those of the flist that was asked for.
    case wrongDigest(expected: FlistDigest, found: FlistDigest)
    /// Pieces of the flist are still missing.
    case incomplete(FlistDigest, missingBytes: Int64)
    /// A name that would leave the directory, or a hidden one.
    case badName(String)
    /// The store was closed.
    case closed(directory: String)

    public var description: String {
        switch self {
        case .inUse(let directory, let pid):
            let who = pid.map { "the process with pid \($0)" } ?? "another process"
            return "cache directory \(directory) is in use by \(who): stop it, or set another cache.dir"
        case .unusable(let directory, let code):
            return "cache directory \(directory) cannot be used: \(Posix.text(code)); make it writable, or set another cache.dir"
        case .failed(let action, let path, let code): return "cannot \(action) \(path): \(Posix.text(code))"
        case .tooLarge(let what, let limit): return "\(what) is larger than the limit of \(limit)"
        case .wrongDigest(let expected, let found): return "flist \(expected) has wrong content (digest \(found)): it was discarded"
        case .incomplete(let digest, let missing): return "flist \(digest) is incomplete: \(missing) bytes are missing"
        case .badName(let name): return "'\(name)' is no name of a file inside the directory"
        case .closed(let directory): return "cache directory \(directory) was closed"
        }
    }

    /// No room on the device, or beyond a file system quota.
    public var isFull: Bool {
        switch self {
        case .failed(_, _, let code), .unusable(_, let code): Posix.isFull(code)
        case .inUse, .tooLarge, .wrongDigest, .incomplete, .badName, .closed: false
        }
    }
}
