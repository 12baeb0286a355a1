import FlistMount
import Glibc

/// Keeps a mount's connection to the kernel, and has a helper serve it: when that is killed, a new one takes over, and who reads waits for it.
struct Holder {
    /// Helpers that may be lost within `window`; with one more the mount is given up.
    static let maxLosses = 5
    static let window: Duration = .seconds(60)
    /// Before a helper is started in place of one that could not go on: its daemon may be starting.
    static let pause: UInt32 = 1_000_000
    /// Numbers of descriptors that a helper has.
    private static let (device, state): (Int32, Int32) = (4, 5)

    let arguments: MountArguments
    /// Its whole path: once a helper is lost, nobody may look for it.
    let directory: String
    /// The command line.
    let words: [String]

    /// Returns when the mount is gone.
    ///
    /// - Returns: the exit status.
    func run() throws(MountError) -> Int32 {
        let log = HelperLog(toTerminal: arguments.foreground)
        do throws(MountError) {
            guard geteuid() == 0 else { throw MountError(.usage, "hold needs root") }
            let held = try HeldConnection.open()
            Signals.block(SIGCHLD)
            let signals = Signals.descriptor(SIGCHLD)
            var helper = try start(held, readiness: arguments.readiness)
            if let readiness = arguments.readiness { close(readiness) }
            var losses: [ContinuousClock.Instant] = []
            while true {
                let status = outcome(of: helper, signals)
                // WIFEXITED, WEXITSTATUS.
                let code: Int32? = status & 0x7f == 0 ? status >> 8 & 0xff : nil
                guard code != 0, held.established != nil else { return code ?? MountError.Code.failed.rawValue }
                let now = ContinuousClock.now
                losses = losses.filter { now - $0 < Self.window } + [now]
                guard losses.count <= Self.maxLosses else {
                    throw MountError(
                        .failed, "\(directory): \(losses.count) helpers were lost within a minute; the mount is given up")
                }
                log.line(
                    "\(directory): the helper \(code.map { "ended with status \($0)" } ?? "was killed"); another one takes over")
                if code != nil { usleep(Self.pause) }
                helper = try start(held, readiness: nil)
            }
        } catch {
            Background.tell(arguments.readiness, error)
            if !arguments.foreground { log.line(error.message) }
            throw error
        }
    }

    private func start(_ held: HeldConnection, readiness: Int32?) throws(MountError) -> pid_t {
        var descriptors = [Self.device: held.descriptors.device, Self.state: held.descriptors.state]
        var own = ["--held", "\(Self.device),\(Self.state),\(directory)"]
        if let readiness {
            descriptors[Background.report] = readiness
            own += ["--readiness-fd", "\(Background.report)"]
        }
        return try OwnProcess.start(own + Background.withoutReadiness(words), descriptors: descriptors, isSilent: false)
    }

    /// Waits for the helper's end; passes signals on to it.
    private func outcome(of helper: pid_t, _ signals: Int32) -> Int32 {
        while true {
            var status: Int32 = 0
            if waitpid(helper, &status, WNOHANG) == helper { return status }
            var wait = pollfd(fd: signals, events: Int16(POLLIN), revents: 0)
            guard poll(&wait, 1, -1) > 0 else { continue }
            while let number = Signals.next(signals) {
                if number != SIGCHLD { kill(helper, number) }
            }
        }
    }
}
