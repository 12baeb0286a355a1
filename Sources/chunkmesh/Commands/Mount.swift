import ArgumentParser
import Flist
import FlistMount
import Glibc

struct Mount: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Mounts an flist on a directory.",
        discussion: """
            The same as `mount -t flist`, for users who are not root too (by fusermount3). Content comes by way of the daemon, or with store=URL \
            without one. Options (-o, comma separated): allow_other, uid=N, gid=N (owners of everything), prefetch (get everything ahead), \
            timeout=SECONDS (how long a reader waits for content, 60), api=SOCKET, store=URL, rw (an overlay: writes stay on this \
            machine, in upperdir= and workdir= or below /var/lib/chunkmesh), hold, nopassthrough, suid, dev, noexec.
            """)

    @Argument(help: "Local file, http(s) URL, or known name.") var flist: String
    @Argument(help: "Directory to mount on.") var directory: String
    @Option(name: .short, help: ArgumentHelp("Options, comma separated. May be repeated.", valueName: "options")) var o: [String] = []
    @Flag(help: "Serve the mount in the foreground, until SIGINT, SIGTERM or an unmount.") var foreground = false

    func run() throws {
        let options: MountOptions
        do throws(MountError) { options = try MountOptions(["nosuid,nodev"] + o) } catch { throw ValidationError(error.message) }
        var words = [flist, directory, "-o", "nosuid,nodev"]
        for text in o { words += ["-o", text] }
        // From mount(8) `rw` comes unasked; here it was meant.
        if options.isWritable { words += ["-o", "overlay"] }
        if foreground { words.append("--foreground") }
        try MountHelper.run(words, inPlace: foreground)
    }
}

struct Umount: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Unmounts what `chunkmesh mount` or `mount -t flist` mounted.",
        discussion: "What is busy is tried for a while, then detached: it is out of sight at once, and ends with its last user.")

    @Argument(help: "Directory that is mounted on.") var directory: String
    @Option(help: ArgumentHelp("Seconds to try while it is busy.", valueName: "seconds")) var patience = 5

    func validate() throws {
        guard (0...3600).contains(patience) else { throw ValidationError("--patience takes 0 to 3600 seconds") }
    }

    func run() throws {
        let wasDetached = try MountPoint.unmountFlist(directory, patience: .seconds(patience))
        if wasDetached {
            Terminal.error("chunkmesh: \(FlistPath.quoted(Array(directory.utf8))) is in use; it is detached, and ends with its last user")
        }
    }
}

/// The program that serves mounts: beside this one, or where the system keeps its helpers.
private enum MountHelper {
    private static let name = "mount.flist"

    private static func path() -> String? {
        var own = [CChar](repeating: 0, count: 4096)
        let count = readlink("/proc/self/exe", &own, own.count - 1)
        var folders = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin"]
        if count > 0 {
            let text = String(decoding: own.prefix(count).map { UInt8(bitPattern: $0) }, as: UTF8.self)
            folders.insert(String(text[..<(text.lastIndex(of: "/") ?? text.startIndex)]), at: 0)
        }
        return folders.map { "\($0)/\(name)" }.first { access($0, X_OK) == 0 }
    }

    /// - Parameter inPlace: the helper takes the place of this process; else it is waited for.
    static func run(_ words: [String], inPlace: Bool) throws {
        guard let path = path() else {
            throw MountError(.system, "\(name) is not there; it belongs beside chunkmesh, or in /usr/sbin")
        }
        let argv = ([name] + words).map { strdup($0) } + [nil]
        defer { for text in argv { free(text) } }
        if inPlace {
            execv(path, argv)
            throw MountError(.system, "\(path): \(String(cString: strerror(errno)))")
        }
        var pid: pid_t = 0
        let code = posix_spawn(&pid, path, nil, nil, argv, environ)
        guard code == 0 else { throw MountError(.system, "\(path): \(String(cString: strerror(code)))") }
        var status: Int32 = 0
        while waitpid(pid, &status, 0) < 0, errno == EINTR {}
        // It has said what was wrong.
        guard status == 0 else { throw ExitCode(status & 0x7f == 0 && status >> 8 == MountError.Code.interrupted.rawValue ? 130 : 1) }
    }
}
