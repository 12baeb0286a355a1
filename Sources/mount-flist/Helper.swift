import FlistMount
import Glibc
import Synchronization

/// One mount, from its making to its end.
final class Helper: Sendable {
    /// How long a busy mount is tried for when the helper is told to end; then it is detached.
    private static let patience: Duration = .milliseconds(500)

    private let arguments: MountArguments
    private let directory: String
    private let log: HelperLog

    init(_ arguments: MountArguments, directory: String) {
        (self.arguments, self.directory) = (arguments, directory)
        log = HelperLog(toTerminal: arguments.foreground)
    }

    /// Returns when the mount is gone.
    func run() throws(MountError) {
        do {
            try serve()
        } catch {
            Background.tell(arguments.readiness, error)
            throw error
        }
    }

    private func serve() throws(MountError) {
        let options = arguments.options
        let opened = try OpenedFlist.open(arguments.source, options, log)
        let tree = FlistTree(flist: opened.flist, uid: options.uid, gid: options.gid)
        let held = arguments.held
        func session(_ descriptor: Int32) -> MountSession {
            MountSession(
                descriptor: descriptor, tree: tree, content: opened.content, timeout: .seconds(options.timeout),
                passthrough: options.passthrough, held: held
            ) { [log] in log.line($0) }
        }
        if let held, let state = held.established { return try takeOver(session(held.descriptor()), state, opened) }
        let overlay = try options.overlay.map { overlay throws(MountError) in try OverlayPlace(overlay, opened, directory) }
        let session = session(try MountPoint.mount(source: arguments.source, at: directory, options, held: held))
        var device: String?
        do {
            try session.handshake()
            try session.start()
            device = MountTable.current().top(at: directory)?.device
            MountPoint.raiseReadAhead(at: directory)
            if let overlay { try MountPoint.overlay(directory, upper: overlay.upper, work: overlay.work, options) }
        } catch {
            _ = try? MountPoint.unmount(directory, device: device, patience: .zero)
            throw error
        }
        let mounted = Mounted(
            directory: directory, device: device, overlay: overlay == nil ? nil : MountTable.current().top(at: directory)?.device)
        if let agreement = session.agreement {
            held?.establish(HeldState(negotiation: agreement, device: device, overlay: mounted.overlay, identity: opened.identity))
        }
        Background.tell(arguments.readiness, nil)
        if arguments.isVerbose, arguments.readiness == nil { log.line("\(arguments.source) is mounted at \(directory)") }
        if options.prefetch {
            Task.detached { [log, content = opened.content] in
                do { try await content.prefetch() } catch { log.line("prefetch: \(error)") }
            }
        }
        wait(session, mounted)
        log.line("\(directory): \(session.counts)")
    }

    /// Serves the mount of a helper that was killed.
    private func takeOver(_ session: MountSession, _ state: HeldState, _ opened: OpenedFlist) throws(MountError) {
        guard state.identity == opened.identity else {
            throw MountError(.failed, "\(arguments.source) is another flist now than the one that is mounted at \(directory)")
        }
        session.resume(state)
        try session.start()
        wait(session, Mounted(directory: directory, device: state.device, overlay: state.overlay))
        log.line("\(directory): \(session.counts)")
    }

    private struct Mounted {
        let directory: String
        let device: String?
        let overlay: String?

        /// Both mounts, the upper one first; what somebody else has put over them stays.
        func remove(patience: Duration) throws(MountError) {
            if let overlay { try MountPoint.unmount(directory, device: overlay, patience: patience) }
            try MountPoint.unmount(directory, device: device ?? "none", patience: patience)
        }

        /// Whether the overlay was there and is no more.
        var lostOverlay: Bool {
            guard let overlay else { return false }
            let bytes = Array(directory.utf8)
            return !MountTable.current().mounts.contains { $0.device == overlay && $0.directory == bytes }
        }
    }

    /// Until the mount is gone, or a signal takes it away.
    private func wait(_ session: MountSession, _ mounted: Mounted) {
        let signals = Signals.descriptor()
        // Becomes "exceptional" whenever a mount is made or removed.
        let table = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC)
        defer {
            close(signals)
            if table >= 0 { close(table) }
        }
        while true {
            // Looked for each time, the first included: the table tells only of what happens once it is open.
            if mounted.lostOverlay {
                // `umount` of the overlay means the mount under it too.
                _ = try? MountPoint.unmount(mounted.directory, device: mounted.device ?? "none", patience: Self.patience)
            }
            var waits = [
                pollfd(fd: session.endedDescriptor, events: Int16(POLLIN), revents: 0),
                pollfd(fd: signals, events: Int16(POLLIN), revents: 0),
                pollfd(fd: mounted.overlay == nil ? -1 : table, events: Int16(POLLPRI), revents: 0),
            ]
            guard poll(&waits, nfds_t(waits.count), -1) > 0 else { continue }
            if waits[0].revents != 0 { return }
            while let number = Signals.next(signals) {
                switch number {
                case SIGUSR1: log.line("\(directory): \(session.counts)")
                case SIGHUP: break
                default:
                    do throws(MountError) {
                        try mounted.remove(patience: Self.patience)
                    } catch {
                        log.line(error.message)
                    }
                    return
                }
            }
        }
    }
}
