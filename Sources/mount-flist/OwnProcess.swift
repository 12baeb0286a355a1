import FlistMount
import Glibc

/// Starts this program once more.
enum OwnProcess {
    /// - Parameters:
    ///   - words: its arguments.
    ///   - descriptors: which of ours it has, by the number that it has them under: 3 to 9.
    ///   - isSilent: without standard input and outputs.
    static func start(_ words: [String], descriptors: [Int32: Int32], isSilent: Bool) throws(MountError) -> pid_t {
        var files = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&files)
        defer { posix_spawn_file_actions_destroy(&files) }
        // Out of the way first: one of ours may have a number that another one is to get.
        let moved = descriptors.mapValues { fcntl($0, F_DUPFD_CLOEXEC, 10) }
        defer { for descriptor in moved.values { close(descriptor) } }
        for (number, descriptor) in moved { posix_spawn_file_actions_adddup2(&files, descriptor, number) }
        if isSilent {
            posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0)
            posix_spawn_file_actions_addopen(&files, 1, "/dev/null", O_WRONLY, 0)
            posix_spawn_file_actions_addopen(&files, 2, "/dev/null", O_WRONLY, 0)
        }
        let argv = (["mount.flist"] + words).map { strdup($0) } + [nil]
        defer { for word in argv { free(word) } }
        var pid: pid_t = 0
        let code = posix_spawn(&pid, "/proc/self/exe", &files, nil, argv, environ)
        guard code == 0 else { throw MountError(.system, "the helper cannot be started: \(String(cString: strerror(code)))") }
        return pid
    }
}
