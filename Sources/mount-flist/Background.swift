import FlistMount
import Glibc

/// Starts the helper as a process of its own, and waits until its mount works.
enum Background {
    /// The helper's descriptor for its report.
    static let report: Int32 = 3

    /// The command line as the one who mounts gave it.
    static func withoutReadiness(_ words: [String]) -> [String] {
        guard let place = words.firstIndex(of: "--readiness-fd") else { return words }
        return Array(words[..<place] + words[(place + 2)...])
    }

    /// - Parameters:
    ///   - words: the arguments of this program.
    ///   - directory: that is mounted on.
    /// - Returns: the exit status.
    static func start(_ words: [String], directory: String) throws(MountError) -> Int32 {
        var pipe: [Int32] = [-1, -1]
        guard Glibc.pipe(&pipe) == 0 else { throw MountError(.system, String(cString: strerror(errno))) }
        for end in pipe { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        let pid: pid_t
        do throws(MountError) {
            pid = try OwnProcess.start(
                ["--readiness-fd", "\(report)"] + words, descriptors: [report: pipe[1]], isSilent: true)
        } catch {
            for end in pipe { close(end) }
            throw error
        }
        close(pipe[1])
        return try outcome(pipe[0], pid)
    }

    /// What the helper reports: its exit status in one byte, then a line where that is not 0.
    private static func outcome(_ pipe: Int32, _ pid: pid_t) throws(MountError) -> Int32 {
        let signals = Signals.descriptor()
        var text: [UInt8] = []
        while true {
            var waits = [pollfd(fd: pipe, events: Int16(POLLIN), revents: 0), pollfd(fd: signals, events: Int16(POLLIN), revents: 0)]
            guard poll(&waits, 2, -1) > 0 else { continue }
            if let number = Signals.next(signals), number == SIGINT || number == SIGTERM {
                kill(pid, SIGTERM)
                throw MountError(.interrupted, "interrupted")
            }
            guard waits[0].revents != 0 else { continue }
            var piece = [UInt8](repeating: 0, count: 4096)
            let count = read(pipe, &piece, piece.count)
            if count < 0, errno == EINTR { continue }
            if count > 0 { text += piece.prefix(count) }
            if text.first == 0 { return 0 }
            guard count <= 0 else { continue }
            guard let status = text.first, let code = MountError.Code(rawValue: Int32(status)) else {
                throw MountError(.system, "the helper ended before the mount worked")
            }
            throw MountError(code, String(decoding: text.dropFirst(), as: UTF8.self))
        }
    }

    /// The helper's side.
    static func tell(_ descriptor: Int32?, _ error: MountError?) {
        guard let descriptor else { return }
        let bytes = [UInt8(error?.code.rawValue ?? 0)] + Array((error?.message ?? "").utf8)
        _ = write(descriptor, bytes, bytes.count)
        close(descriptor)
    }
}
