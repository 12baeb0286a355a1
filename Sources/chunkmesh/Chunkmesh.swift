import ArgumentParser
import ControlClient
import Glibc

/// The command line of chunkmesh.
struct Chunkmesh: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "chunkmesh", abstract: "Shares flist downloads between the machines of a site, and shows what they do.",
        discussion: """
            FLIST is a local file, an http(s) URL, or the name under which the daemon knows it. Commands find the daemon by --api or \
            CHUNKMESH_API, else at its default socket.
            """, version: Version.text,
        subcommands: [
            Prefetch.self, StatusCommand.self, StatsCommand.self, PeersCommand.self, LineCommand.self, List.self, Stat.self, Cat.self,
            Get.self, Pin.self, Unpin.self, Unkeep.self, Forget.self, Cache.self, Key.self, FlistCommand.self, Hub.self,
            Mount.self, Umount.self, TraceCommand.self,
        ])
}

enum Version { static let text = "0.1.0" }

/// Exit status 0 done, 1 failed (one clear line), 2 wrong usage, 130 interrupted.
@main
enum Main {
    static func main() async {
        signal(SIGPIPE, SIG_IGN)
        Interrupt.install()
        do {
            var command = try Chunkmesh.parseAsRoot()
            if var command = command as? any AsyncParsableCommand {
                try await command.run()
            } else {
                try command.run()
            }
        } catch let code as ExitCode {
            exit(code.rawValue)
        } catch is Interrupted {
            exit(130)
        } catch let ControlError.usage(line) {
            Terminal.error("chunkmesh: \(line)")
            exit(2)
        } catch {
            let code = Chunkmesh.exitCode(for: error)
            if code == .success {
                print(Chunkmesh.fullMessage(for: error))
                exit(0)
            }
            if code == .validationFailure {
                Terminal.error(Chunkmesh.fullMessage(for: error))
                exit(2)
            }
            Terminal.error("chunkmesh: \(error)")
            exit(1)
        }
        exit(0)
    }
}
