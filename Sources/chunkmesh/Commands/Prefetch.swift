import ArgumentParser
import ControlClient
import ControlModel
import Glibc

struct Prefetch: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Brings an flist and its chunks to this node or site before they are needed.",
        discussion: "The job belongs to the daemon: it goes on when this command is interrupted, and after a restart of the node.")

    enum Scope: String, ExpressibleByArgument, CaseIterable { case node, site, all }

    @Argument(help: "Local file, http(s) URL, or known name.") var flist: String
    @Option(help: "node: this node holds all of it; site: the site holds --copies of every chunk; all: every node does.")
    var scope: Scope = .site
    @Option(help: "Copies of every chunk that the site shall hold, and go on holding when nodes leave, until unkeep (scope site).")
    var copies: Int?
    @Flag(help: "Keep the chunks when the cache has to make room.") var pin = false
    @Flag(name: .customLong("no-wait"), help: "Only start the job.") var noWait = false
    @Option(help: ArgumentHelp("Only files whose path matches (* and ?; scope node). May be repeated.", valueName: "GLOB")) var path:
        [String] = []
    @Option(help: ArgumentHelp("First the chunks that a trace recorded, in their order; then the rest.", valueName: "FILE"))
    var profile: String?
    @Flag(name: .customLong("only-profile"), help: "Nothing but the profile's chunks (scope node).") var onlyProfile = false
    @OptionGroup var options: APIOptions

    func validate() throws {
        if let copies, !(1...255).contains(copies) { throw ValidationError("--copies takes a number from 1 to 255") }
        if copies != nil, scope != .site { throw ValidationError("--copies goes with --scope site") }
        if onlyProfile, profile == nil { throw ValidationError("--only-profile goes with --profile") }
        if onlyProfile, scope != .node || !path.isEmpty { throw ValidationError("--only-profile goes with --scope node, without --path") }
        if !path.isEmpty, scope != .node { throw ValidationError("--path goes with --scope node") }
    }

    func run() throws {
        let recorded = try profile.map(Self.read(profile:))
        let client = try options.client()
        var request = PrefetchRequest(
            flist: FlistName.forDaemon(flist), scope: PrefetchScope(rawValue: scope.rawValue), copies: copies, pin: pin,
            path: path.isEmpty ? nil : path)
        if let recorded {
            (request.profile, request.onlyProfile) = (recorded.chunks.map(\.hex), onlyProfile ? true : nil)
        }
        var job: Job = try client.post("/v1/prefetch", request)
        if let digest = recorded?.digest?.hex, digest != job.digest {
            Terminal.error(
                "chunkmesh: the profile is of another flist (\(digest.prefix(12))); what both have in common comes first")
        }
        if !noWait { job = try follow(job, client) }
        if options.json { try Terminal.json(job) }
        switch job.state {
        case .done, .running:
            if !options.json { Terminal.out(summary(job)) }
            if let note = job.note { Terminal.error("chunkmesh: " + Terminal.quoted(note)) }
        case .failed, .cancelled:
            Terminal.error("chunkmesh: prefetch of \(Terminal.quoted(job.flist)) \(job.state.rawValue): \(job.error ?? "")")
            throw ExitCode(1)
        }
    }

    private static func read(profile path: String) throws -> ReadProfile {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw ControlError.broken("\(path): \(String(cString: strerror(errno)))") }
        defer { close(descriptor) }
        var bytes: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: 1 << 16)
        // One byte more than is taken: then it is too long.
        while bytes.count <= ReadProfile.maxBytes {
            let count = Glibc.read(descriptor, &piece, piece.count)
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw ControlError.broken("\(path): \(String(cString: strerror(errno)))") }
            if count == 0 { break }
            bytes += piece[..<count]
        }
        do {
            return try ReadProfile(bytes)
        } catch {
            throw ControlError.broken("\(path): \(error)")
        }
    }

    private func follow(_ started: Job, _ client: ControlClient) throws -> Job {
        var job = started
        var bar = ProgressBar(Terminal.quoted(job.flist))
        while job.state == .running {
            bar.show(done: UInt64(job.doneChunks), of: UInt64(job.chunks), note: note(job))
            job = try client.get("/v1/jobs/\(job.id)?wait=0.2")
        }
        bar.end(done: UInt64(job.doneChunks), of: UInt64(job.chunks), note: note(job))
        return job
    }

    private func note(_ job: Job) -> String {
        let text = "\(job.doneChunks)/\(job.chunks) chunks, \(job.fromPeers) from peers,\(sites(job)) \(job.fromUpstream) from upstream"
        return job.error.map { text + "; " + Terminal.quoted($0) } ?? text
    }

    private func sites(_ job: Job) -> String { job.fromSites == 0 ? "" : " \(job.fromSites) from other sites," }

    private func summary(_ job: Job) -> String {
        let name = Terminal.quoted(job.flist)
        if job.state == .running { return "\(name): job \(job.id) is running; chunkmesh status shows it" }
        let sources = "\(job.fromLocal) were here, \(job.fromPeers) came from peers,\(sites(job)) \(job.fromUpstream) from upstream"
        return
            "\(name): \(job.doneChunks) chunks, \(Terminal.size(job.doneBytes)), in \((job.seconds * 100).rounded() / 100) s; on this node \(sources)"
    }
}
