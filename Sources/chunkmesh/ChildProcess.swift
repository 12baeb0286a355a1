import ControlClient
import Glibc

/// A program that this one runs, with its own standard streams.
final class ChildProcess {
    private let process: pid_t
    private let name: String
    private var wasInterrupted = false
    private var status: Int32?

    /// - Throws: when the program cannot be run; looks it up in PATH.
    init(_ command: [String]) throws {
        name = command[0]
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        // Ignored here, it would stay ignored there.
        var signals = sigset_t()
        sigemptyset(&signals)
        sigaddset(&signals, SIGPIPE)
        posix_spawnattr_setsigdefault(&attributes, &signals)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGDEF))
        var arguments: [UnsafeMutablePointer<CChar>?] = command.map { strdup($0) } + [nil]
        defer { for argument in arguments { free(argument) } }
        var process: pid_t = 0
        let error = posix_spawnp(&process, command[0], nil, &attributes, &arguments, environ)
        guard error == 0 else { throw ControlError.broken("\(command[0]) cannot be run: \(String(cString: strerror(error)))") }
        self.process = process
    }

    /// `nil` while it runs; 128 and the signal's number where a signal ended it, as shells have it.
    func endedStatus() throws -> Int32? {
        if let status { return status }
        var raw: Int32 = 0
        let found = waitpid(process, &raw, WNOHANG)
        if found == 0 || (found < 0 && errno == EINTR) { return nil }
        guard found == process else { throw ControlError.broken("\(name) cannot be waited for: \(String(cString: strerror(errno)))") }
        status = raw & 0x7f == 0 ? raw >> 8 & 0xff : 128 + (raw & 0x7f)
        return status
    }

    /// Once.
    func interrupt() {
        guard !wasInterrupted, status == nil else { return }
        wasInterrupted = true
        kill(process, SIGTERM)
    }
}
