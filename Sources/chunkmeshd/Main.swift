import ArgumentParser
import Glibc

/// Exit status 0 done, 1 failed (one clear line), 2 wrong usage: as the command's.
@main
enum Main {
    static func main() async {
        do {
            var daemon = try Daemon.parseAsRoot()
            if var daemon = daemon as? any AsyncParsableCommand {
                try await daemon.run()
            } else {
                try daemon.run()
            }
        } catch {
            let code = Daemon.exitCode(for: error)
            Daemon.exit(withError: code == .validationFailure ? usage(error) : error)
        }
    }

    /// Says what was wrong; what is left is the status.
    private static func usage(_ error: any Error) -> ExitCode {
        let text = Array((Daemon.fullMessage(for: error) + "\n").utf8)
        write(2, text, text.count)
        return ExitCode(2)
    }
}
