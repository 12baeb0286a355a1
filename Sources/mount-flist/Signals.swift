import CLinux
import Glibc

/// The signals that a helper lives by: SIGTERM and SIGINT end it, SIGUSR1 has it say what it did.
enum Signals {
    private static func set(_ more: [Int32]) -> sigset_t {
        var set = sigset_t()
        sigemptyset(&set)
        for number in [SIGTERM, SIGINT, SIGUSR1, SIGHUP] + more { sigaddset(&set, number) }
        return set
    }

    /// In this thread, and those that it starts.
    static func block(_ more: Int32...) {
        var set = Self.set(more)
        pthread_sigmask(SIG_BLOCK, &set, nil)
    }

    /// A descriptor that becomes readable when one has come.
    static func descriptor(_ more: Int32...) -> Int32 {
        var set = Self.set(more)
        return signalfd(-1, &set, Int32(SFD_CLOEXEC | SFD_NONBLOCK))
    }

    /// The next one that has come; `nil` when there is none.
    static func next(_ descriptor: Int32) -> Int32? {
        var info = signalfd_siginfo()
        let size = MemoryLayout<signalfd_siginfo>.size
        return read(descriptor, &info, size) == size ? Int32(bitPattern: info.ssi_signo) : nil
    }
}
