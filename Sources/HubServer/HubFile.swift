internal import Glibc

/// A regular file of the hub, open for reading. All calls but the properties block.
final class HubFile: Sendable {
    let size: Int
    private let descriptor: Int32
    private let modifiedSeconds: Int
    private let modifiedNanoseconds: Int

    /// The directory without symbolic links in its path.
    ///
    /// - Throws: `HubServerError` when it is none, or cannot be read.
    static func root(_ directory: String) throws(HubServerError) -> String {
        guard let resolved = realpath(directory, nil) else { throw HubServerError("\(directory): \(String(cString: strerror(errno)))") }
        defer { free(resolved) }
        var status = stat()
        guard stat(resolved, &status) == 0, status.st_mode & S_IFMT == S_IFDIR else {
            throw HubServerError("\(directory): not a directory")
        }
        guard access(resolved, R_OK | X_OK) == 0 else { throw HubServerError("\(directory): \(String(cString: strerror(errno)))") }
        return String(cString: resolved)
    }

    /// The first of `places` that is a regular file below `root`.
    ///
    /// - Parameter root: without symbolic links in it (`realpath`). A link below it is followed only where it stays within.
    /// - Returns: `nil` when there is none, or it may not be served.
    static func open(_ places: [String], below root: String) -> HubFile? {
        for place in places {
            guard let resolved = realpath("\(root)/\(place)", nil) else { continue }
            defer { free(resolved) }
            let path = String(cString: resolved)
            guard path.hasPrefix(root == "/" ? "/" : root + "/"), !path.dropFirst(root.count).contains("/.") else { continue }
            // Not blocking: a fifo would wait for its writer.
            let descriptor = Glibc.open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY)
            guard descriptor >= 0 else { continue }
            var status = stat()
            guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
                close(descriptor)
                continue
            }
            return HubFile(descriptor, status)
        }
        return nil
    }

    private init(_ descriptor: Int32, _ status: stat) {
        self.descriptor = descriptor
        size = Int(status.st_size)
        modifiedSeconds = status.st_mtim.tv_sec
        modifiedNanoseconds = status.st_mtim.tv_nsec
    }

    deinit { close(descriptor) }

    /// Changes with size or time of change.
    var entityTag: String {
        "\"\(String(size, radix: 36))-\(String(modifiedSeconds, radix: 36))-\(String(modifiedNanoseconds, radix: 36))\""
    }

    /// As HTTP writes dates (RFC 9110 §5.6.7).
    var lastModified: String {
        var seconds = time_t(modifiedSeconds)
        var parts = tm()
        gmtime_r(&seconds, &parts)
        let days = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"]
        let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
        func two(_ number: Int32) -> String { number < 10 ? "0\(number)" : "\(number)" }
        let date = "\(two(parts.tm_mday)) \(months[Int(parts.tm_mon) % 12]) \(1900 + Int(parts.tm_year))"
        return "\(days[Int(parts.tm_wday) % 7]), \(date) \(two(parts.tm_hour)):\(two(parts.tm_min)):\(two(parts.tm_sec)) GMT"
    }

    /// Fills `target` from `offset` on as far as the file goes.
    ///
    /// - Returns: bytes read; 0 at the end or upon an error.
    func read(into target: UnsafeMutableRawBufferPointer, at offset: Int) -> Int {
        while true {
            let got = pread(descriptor, target.baseAddress, target.count, offset)
            if got < 0, errno == EINTR { continue }
            return max(0, got)
        }
    }
}
