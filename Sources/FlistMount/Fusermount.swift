internal import CLinux
internal import Flist
internal import Glibc

/// The set-user-id program by which users who are not root mount, and unmount what is theirs.
enum Fusermount {
    private static let names = ["fusermount3", "fusermount"]
    /// Bytes of a control message that carries one descriptor: struct cmsghdr and the number, aligned.
    private static let controlBytes = 24

    /// - Returns: the descriptor of the connection.
    static func mount(source: String, at directory: String, _ options: MountOptions) throws(MountError) -> Int32 {
        var list = "ro,nosuid,nodev,default_permissions,subtype=flist,fsname=" + escaped(source)
        if options.noExec { list += ",noexec" }
        if options.allowOther { list += ",allow_other" }
        var pair: [Int32] = [-1, -1]
        guard socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0, &pair) == 0 else {
            throw MountError(.system, "no pair of sockets for fusermount3: \(String(cString: strerror(errno)))")
        }
        defer { for descriptor in pair { close(descriptor) } }
        let (status, errors) = try run(["-o", list, "--", directory], connection: pair[1])
        guard status == 0 else {
            throw MountError(.failed, errors.isEmpty ? "fusermount3 ended with status \(status)" : errors)
        }
        guard let descriptor = received(from: pair[0]) else { throw MountError(.system, "fusermount3 gave no connection") }
        return descriptor
    }

    /// - Returns: whether it was detached lazily.
    static func unmount(_ directory: String, isLazy: Bool, until end: ContinuousClock.Instant) throws(MountError) -> Bool {
        while true {
            let isLast = ContinuousClock.now >= end
            let (status, errors) = try run((isLast ? ["-u", "-z"] : ["-u"]) + ["--", directory], connection: nil)
            if status == 0 { return isLast }
            guard !isLast, errors.contains("busy") else {
                throw MountError(.failed, errors.isEmpty ? "fusermount3 ended with status \(status)" : errors)
            }
            usleep(100_000)
        }
    }

    private static func escaped(_ text: String) -> String {
        text.reduce(into: "") { out, character in
            if character == "," || character == "\\" { out.append("\\") }
            out.append(character)
        }
    }

    /// Runs it to its end.
    ///
    /// - Returns: its exit status, and the first line of what it said.
    private static func run(_ arguments: [String], connection: Int32?) throws(MountError) -> (status: Int32, errors: String) {
        var output: [Int32] = [-1, -1]
        guard pipe2(&output, O_CLOEXEC) == 0 else { throw MountError(.system, String(cString: strerror(errno))) }
        defer { close(output[0]) }
        var files = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&files)
        defer { posix_spawn_file_actions_destroy(&files) }
        posix_spawn_file_actions_adddup2(&files, output[1], 2)
        // Where source and target are one, the descriptor would stay close-on-exec: 3 is free of both here or is the connection.
        if let connection { posix_spawn_file_actions_adddup2(&files, connection, connection) }
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var none = sigset_t()
        sigemptyset(&none)
        posix_spawnattr_setsigmask(&attributes, &none)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK))
        var environment = ["PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C"]
        if let connection { environment.append("_FUSE_COMMFD=\(connection)") }
        let envp = environment.map { strdup($0) } + [nil]
        defer { for text in envp { free(text) } }
        var code: Int32 = ENOENT
        var pid: pid_t = 0
        for name in names where code == ENOENT {
            let argv = ([name] + arguments).map { strdup($0) } + [nil]
            defer { for text in argv { free(text) } }
            code = posix_spawnp(&pid, name, &files, &attributes, argv, envp)
        }
        close(output[1])
        guard code == 0 else {
            throw MountError(
                .system, "fusermount3 cannot be run (\(String(cString: strerror(code)))); install fuse3, or mount as root")
        }
        let said = MountTable.contents(output[0])
        var status: Int32 = 0
        while waitpid(pid, &status, 0) < 0, errno == EINTR {}
        let line = said.split(separator: UInt8(ascii: "\n")).first.map { String(decoding: $0, as: UTF8.self) } ?? ""
        return (status & 0x7f == 0 ? status >> 8 & 0xff : 128 + (status & 0x7f), line)
    }

    /// The descriptor that stands in the next message (SCM_RIGHTS).
    private static func received(from socket: Int32) -> Int32? {
        let control = UnsafeMutableRawBufferPointer.allocate(byteCount: controlBytes, alignment: 8)
        defer { control.deallocate() }
        var byte: UInt8 = 0
        return withUnsafeMutableBytes(of: &byte) { data -> Int32? in
            var piece = iovec(iov_base: data.baseAddress, iov_len: 1)
            return withUnsafeMutablePointer(to: &piece) { pieces -> Int32? in
                var message = msghdr()
                message.msg_iov = pieces
                message.msg_iovlen = 1
                message.msg_control = control.baseAddress
                message.msg_controllen = controlBytes
                var count = recvmsg(socket, &message, Int32(MSG_CMSG_CLOEXEC))
                while count < 0, errno == EINTR { count = recvmsg(socket, &message, Int32(MSG_CMSG_CLOEXEC)) }
                // struct cmsghdr: length, level, type; then the number.
                guard count >= 0, message.msg_controllen >= 20, control.load(fromByteOffset: 8, as: Int32.self) == SOL_SOCKET,
                    control.load(fromByteOffset: 12, as: Int32.self) == Int32(SCM_RIGHTS)
                else { return nil }
                let descriptor = control.load(fromByteOffset: 16, as: Int32.self)
                return descriptor >= 0 ? descriptor : nil
            }
        }
    }
}
