import ArgumentParser
import ControlClient
import ControlModel
import Glibc

struct TraceCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "trace",
        abstract: "Records which chunks of an flist are read, in their order, for prefetch --profile.",
        discussion: """
            What any reader of this machine's daemon reads counts, also what is in the memory or on the disk already. It ends with Ctrl-C, \
            after --seconds, or with the command given behind --, whose exit status is then this one's.
            """)

    /// Wait of one request for something new.
    private static let look = "0.2"

    @Argument(help: "Local file, http(s) URL, or known name.") var flist: String
    @Option(name: .shortAndLong, help: "Where the profile goes; default: stdout.") var output: String?
    @Option(help: "Ends after so many seconds.") var seconds: Double?
    @Argument(parsing: .postTerminator, help: "A command to run meanwhile.") var command: [String] = []
    @OptionGroup var options: APIOptions

    func validate() throws {
        if let seconds, !(seconds > 0 && seconds <= 86_400 * 365) { throw ValidationError("--seconds takes a number above 0") }
        if options.json, output == nil { throw ValidationError("--json goes with -o: the profile itself is on stdout without") }
    }

    func run() throws {
        let client = try options.client()
        Interrupt.cleanUpFirst()
        var trace: Trace = try client.post("/v1/traces", TraceRequest(flist: FlistName.forDaemon(flist)))
        let path = "/v1/traces/\(trace.id)"
        do {
            let file = try output.map(ProfileFile.init(path:)) ?? ProfileFile(descriptor: 1)
            try file.write(ReadProfile.head(of: trace, shown: Terminal.quoted(trace.flist)))
            let status = try record(&trace, path, to: file, client)
            let summary = TraceSummary(
                flist: trace.flist, digest: trace.digest, chunks: trace.chunks, recorded: trace.next, seconds: trace.seconds,
                note: trace.ended == "stopped" ? nil : trace.ended)
            if options.json {
                try Terminal.json(summary)
            } else if output != nil {
                Terminal.error(
                    "chunkmesh: \(summary.recorded) of the \(summary.chunks) chunks of \(Terminal.quoted(summary.flist)) were read in "
                        + "\((summary.seconds * 10).rounded() / 10) s")
            }
            if let note = summary.note { Terminal.error("chunkmesh: the trace ended: \(Terminal.harmless(note))") }
            if status != 0 { throw ExitCode(status) }
        } catch {
            let _: Trace? = try? client.delete(path + "?after=\(Int.max)")
            throw error
        }
    }

    /// - Returns: the exit status of the command, 0 without one.
    private func record(_ trace: inout Trace, _ path: String, to file: ProfileFile, _ client: ControlClient) throws -> Int32 {
        let child = try command.isEmpty ? nil : ChildProcess(command)
        var status: Int32 = 0
        var deadline = timespec()
        clock_gettime(CLOCK_MONOTONIC, &deadline)
        let end = seconds.map { Double(deadline.tv_sec) + Double(deadline.tv_nsec) / 1e9 + $0 }
        do {
            while true {
                trace = try client.get("\(path)?after=\(trace.next)&wait=\(Self.look)")
                try file.write(trace.entries.map(ReadProfile.line).joined())
                if trace.ended != nil, child == nil, trace.next >= trace.recorded { return status }
                if let child {
                    // Ctrl-C reaches it too, from the terminal; SIGTERM is passed on.
                    if Interrupt.isRequested { child.interrupt() }
                    if let ended = try child.endedStatus() {
                        status = ended
                        break
                    }
                } else if Interrupt.isRequested {
                    break
                }
                var now = timespec()
                clock_gettime(CLOCK_MONOTONIC, &now)
                if let end, Double(now.tv_sec) + Double(now.tv_nsec) / 1e9 >= end { break }
            }
        } catch {
            child?.interrupt()
            throw error
        }
        repeat {
            trace = try client.delete("\(path)?after=\(trace.next)")
            try file.write(trace.entries.map(ReadProfile.line).joined())
        } while trace.next < trace.recorded
        return status
    }
}

/// What `trace --json` prints.
private struct TraceSummary: Encodable {
    let flist: String
    let digest: String
    let chunks: Int
    let recorded: Int
    let seconds: Double
    let note: String?
}

/// Where the profile is written, line by line: what was recorded before the power failed can be used.
private final class ProfileFile {
    private let descriptor: Int32
    private let name: String
    private let isOwn: Bool

    init(path: String) throws {
        descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        (name, isOwn) = (path, true)
        guard descriptor >= 0 else { throw ControlError.broken("\(path) cannot be written: \(String(cString: strerror(errno)))") }
    }

    init(descriptor: Int32) { (self.descriptor, name, isOwn) = (descriptor, "stdout", false) }

    deinit { if isOwn { close(descriptor) } }

    func write(_ text: String) throws {
        guard !text.isEmpty, !Terminal.write(descriptor, Array(text.utf8)) else { return }
        throw ControlError.broken("\(name) cannot be written: \(String(cString: strerror(errno)))")
    }
}
