internal import BlockingThreads
internal import CLinux
internal import Flist
public import FuseProtocol
internal import Glibc
internal import Synchronization

/// Answers the kernel's requests for one mounted flist.
///
/// A few threads, each with a descriptor of its own, answer metadata at once from the flist's file. Content that is not at hand is waited
/// for in tasks, so that no request stands behind another.
public final class MountSession: Sendable {
    /// Threads that wait for requests. More than processors: one may wait for the disk.
    static let threadCount = 4
    /// Bytes of a listing that one request is answered with.
    static let listingBytes = 1 << 16
    /// Between two looks for reads whose time is over.
    static let deadlineStep: Duration = .milliseconds(250)
    /// The largest answer to a READ that is put together here; the kernel asks for no more than it was told (1 MiB).
    static let maxReadBytes = Int(FuseNegotiation.maxPages) * 4096

    let tree: FlistTree
    let content: any MountContent
    let timeout: Duration
    /// Copies of content from files, off the cooperative pool.
    let copying: BlockingThreads
    let buffers = ReplyBuffers(size: MountSession.maxReadBytes)
    let pending = PendingReads()
    let opens = Mutex(OpenTable<OpenWaiter>())
    let counters = Mutex(MountCounts())
    private let device: FuseDevice
    private let wantsPassthrough: Bool
    let held: HeldConnection?
    private let log: @Sendable (String) -> Void
    /// What was agreed with the kernel, and whether it takes files.
    private let agreed = Mutex<(negotiation: FuseNegotiation?, takesFiles: Bool)>((nil, false))
    private let ending: Ending
    /// Content that could not be had is named, but not a line for each of a thousand reads.
    private let complaints = Mutex<(second: ContinuousClock.Instant?, count: Int)>((nil, 0))

    struct OpenWaiter: Sendable {
        let unique: UInt64
        let device: FuseDevice
    }

    /// - Parameters:
    ///   - descriptor: of `/dev/fuse`, mounted or about to be; the session owns it.
    ///   - timeout: for which a reader waits for content; then he gets EIO.
    ///   - passthrough: whether whole files are handed to the kernel.
    ///   - held: what another process keeps in case that this one is killed.
    public init(
        descriptor: Int32, tree: FlistTree, content: any MountContent, timeout: Duration, passthrough: Bool,
        held: HeldConnection? = nil, log: @escaping @Sendable (String) -> Void
    ) {
        device = FuseDevice(owning: descriptor)
        (self.tree, self.content, self.timeout, self.held, self.log) = (tree, content, timeout, held, log)
        wantsPassthrough = passthrough && content.hasWholeFiles
        copying = BlockingThreads(count: 2)
        ending = Ending()
    }

    public var counts: MountCounts { counters.withLock { $0 } }
    /// Whether the kernel takes whole files, as far as is known.
    public var takesFiles: Bool { agreed.withLock { $0.takesFiles } }
    /// Becomes readable when the mount is gone.
    public var endedDescriptor: Int32 { ending.descriptor }

    /// Agrees with the kernel on what both can do. The mount must have been made; waits `limit` for the kernel at most.
    ///
    /// - Throws: `MountError` when it does not ask, or is too old.
    public func handshake(limit: Duration = .seconds(20)) throws(MountError) {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: FuseRequest.minBuffer, alignment: 16)
        defer { memory.deallocate() }
        let end = ContinuousClock.now + limit
        while true {
            var wait = pollfd(fd: device.descriptor, events: Int16(POLLIN), revents: 0)
            let left = max(0, (end - .now) / .milliseconds(1))
            guard poll(&wait, 1, Int32(left)) > 0 else {
                throw MountError(.failed, "the kernel does not answer on /dev/fuse")
            }
            guard case .bytes(let count) = device.receive(into: memory), let request = FuseRequest(memory.bytes.extracting(first: count)),
                case .initialise(let start) = request.body
            else { throw MountError(.failed, "the kernel did not begin with INIT on /dev/fuse") }
            let negotiation = FuseNegotiation(start, wanted: wanted)
            var reply = FuseReply()
            switch negotiation.outcome {
            case .tooOld:
                reply.finish(unique: request.unique, error: EPROTO)
                device.send(reply)
                throw MountError(
                    .system, "this kernel speaks FUSE \(start.major).\(start.minor); 7.\(FuseNegotiation.oldestMinor) is needed")
            case .again:
                negotiation.encode(maxReadAhead: 0, into: &reply)
                reply.finish(unique: request.unique)
                device.send(reply)
            case .agreed where held != nil && !negotiation.flags.contains(.resend):
                reply.finish(unique: request.unique, error: EPROTO)
                device.send(reply)
                throw MountError(.system, "hold needs Linux 6.9 or newer")
            case .agreed:
                negotiation.encode(maxReadAhead: max(start.maxReadAhead, UInt32(Self.maxReadBytes)), into: &reply)
                reply.finish(unique: request.unique)
                guard device.send(reply) else { throw MountError(.failed, "the kernel does not take the answer to INIT") }
                agreed.withLock { $0 = (negotiation, negotiation.hasPassthrough) }
                return
            }
        }
    }

    private var wanted: FuseInitFlags {
        var flags: FuseInitFlags = [
            .asyncRead, .exportSupport, .readdirplus, .readdirplusAuto, .asyncDirectIO, .noOpenSupport, .parallelDirectoryOperations,
            .maxPages, .cacheSymlinks, .noOpendirSupport,
        ]
        if wantsPassthrough { flags.insert(.passthrough) }
        if held != nil { flags.insert(.resend) }
        return flags
    }

    /// What was agreed on; `nil` before.
    public var agreement: FuseNegotiation? { agreed.withLock { $0.negotiation } }

    /// Goes on where another process has ended: in place of the handshake. What that one had read and not answered comes again.
    public func resume(_ state: HeldState) {
        agreed.withLock { $0 = (state.negotiation, state.negotiation.hasPassthrough) }
        opens.withLock { $0 = OpenTable(held?.opens() ?? [:]) }
        device.send(.resend)
    }

    /// Whether OPEN and RELEASE are told at all: where no file can be handed to the kernel, they serve nothing.
    var tellsOpens: Bool { agreed.withLock { $0.negotiation.map { !$0.flags.contains(.noOpenSupport) } ?? true || $0.takesFiles } }
    var tellsOpendirs: Bool { agreed.withLock { $0.negotiation.map { !$0.flags.contains(.noOpendirSupport) } ?? true } }

    func takesNoFiles() {
        let wasTaking = agreed.withLock { agreed in
            defer { agreed.takesFiles = false }
            return agreed.takesFiles
        }
        if wasTaking { log("the kernel takes no files from this process (CAP_SYS_ADMIN is needed): content goes through the page cache") }
    }

    /// Starts the threads; they end with the mount.
    ///
    /// - Throws: when the system grants not one.
    public func start() throws(MountError) {
        var started = 0
        for number in 0..<Self.threadCount {
            // What is read from a descriptor of this process alone would be lost with it.
            guard let own = number == 0 || held != nil ? device : device.clone() else { break }
            ending.enter()
            if BlockingThreads.startThread({ [self] in serve(own) }) { started += 1 } else { ending.leave() }
        }
        guard started > 0 else { throw MountError(.system, "the system grants no thread") }
        let weak = Weak(self)
        Task.detached {
            while let session = weak.session, !session.ending.isOver {
                session.failOverdue(.now)
                try? await Task.sleep(for: Self.deadlineStep)
            }
        }
    }

    private final class Weak: Sendable {
        private let reference: Mutex<Reference>
        private struct Reference: Sendable { weak var session: MountSession? }
        init(_ session: MountSession) { reference = Mutex(Reference(session: session)) }
        var session: MountSession? { reference.withLock { $0.session } }
    }

    private func serve(_ device: FuseDevice) {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: FuseRequest.minBuffer * 2, alignment: 16)
        defer { memory.deallocate() }
        var reply = FuseReply(room: Self.listingBytes)
        loop: while true {
            switch device.receive(into: memory) {
            case .bytes(let count):
                guard let request = FuseRequest(memory.bytes.extracting(first: count)) else { continue }
                handle(request, device, &reply)
            case .ended: break loop
            case .failed(let code):
                log("reading /dev/fuse: \(String(cString: strerror(code)))")
                break loop
            }
        }
        // Whoever still waits does so in vain.
        for read in pending.takeOverdue(nil) { fail(read.unique, read.device, ENOTCONN) }
        ending.leave()
    }

    private func handle(_ request: FuseRequest, _ device: FuseDevice, _ reply: inout FuseReply) {
        reply.reset()
        do throws(FlistError) {
            let code = try answer(request, device, &reply)
            guard let code, request.wantsAnswer else { return }
            if code != 0 { reply.reset() }
            reply.finish(unique: request.unique, error: code)
        } catch {
            complain(error.message)
            guard request.wantsAnswer else { return }
            reply.reset()
            reply.finish(unique: request.unique, error: FlistTree.errno(for: error))
        }
        device.send(reply)
    }

    /// Names what went wrong, three times a minute at most.
    func complain(_ line: String) {
        let isShown = complaints.withLock { complaints in
            let now = ContinuousClock.now
            if complaints.second.map({ now - $0 > .seconds(60) }) ?? true { complaints = (now, 0) }
            complaints.count += 1
            return complaints.count <= 3
        }
        if isShown { log(line) }
    }

    /// Says an error on `device`.
    func fail(_ unique: UInt64, _ device: FuseDevice, _ code: Int32) {
        var reply = FuseReply(room: 0)
        reply.finish(unique: unique, error: code)
        device.send(reply)
    }

    private func failOverdue(_ now: ContinuousClock.Instant) {
        for read in pending.takeOverdue(now) {
            counters.withLock { $0.failedReads += 1 }
            complain("content did not come within \(timeout): a reader gets an error")
            fail(read.unique, read.device, EIO)
        }
    }
}

/// Tells when the last thread has ended.
private final class Ending: Sendable {
    let descriptor = eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK))
    private let threads = Mutex((running: 0, isOver: false))

    deinit { close(descriptor) }

    var isOver: Bool { threads.withLock { $0.isOver } }
    func enter() { threads.withLock { $0.running += 1 } }
    func leave() {
        let isLast = threads.withLock { threads in
            threads.running -= 1
            threads.isOver = threads.running == 0
            return threads.isOver
        }
        if isLast { eventfd_write(descriptor, 1) }
    }
}
