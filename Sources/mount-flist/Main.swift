import FlistMount
import Glibc

/// mount.flist: what `mount -t flist` runs, and what serves a mount for as long as it lasts.
///
/// Exit statuses are those of mount(8): 0 done, 1 wrong usage or not allowed, 2 the system lacks something, 8 interrupted, 32 failed.
@main
enum Main {
    static func main() {
        signal(SIGPIPE, SIG_IGN)
        // Threads inherit this: signals are taken by the main thread, which waits for them.
        Signals.block()
        do throws(MountError) {
            let arguments = try MountArguments(Array(CommandLine.arguments.dropFirst()))
            if arguments.wantsHelp {
                print(MountArguments.usage)
                exit(0)
            }
            // Who takes over a mount must not look there: it waits for him.
            let directory = arguments.held == nil ? try MountPoint.directory(arguments.directory) : arguments.directory
            if arguments.isFake { exit(0) }
            // A session of its own: no terminal, and no signals meant for the one who mounts.
            if arguments.readiness != nil, arguments.held == nil { setsid() }
            if arguments.foreground || arguments.readiness != nil || arguments.held != nil {
                if arguments.options.hold, arguments.held == nil {
                    exit(try Holder(arguments: arguments, directory: directory, words: Array(CommandLine.arguments.dropFirst())).run())
                }
                try Helper(arguments, directory: directory).run()
                exit(0)
            }
            exit(try Background.start(Array(CommandLine.arguments.dropFirst()), directory: directory))
        } catch {
            complain(error)
        }
    }

    /// One line, and the exit status that belongs to it.
    static func complain(_ error: MountError) -> Never {
        let text =
            "mount.flist: \(error.message)\n"
            + (error.code == .usage && error.message.hasSuffix("needed") ? MountArguments.usage + "\n" : "")
        _ = text.withCString { write(2, $0, strlen($0)) }
        exit(error.code.rawValue)
    }
}
