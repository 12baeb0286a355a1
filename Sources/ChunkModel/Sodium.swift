internal import CSodium

/// libsodium's one-time set-up. Every type that calls libsodium touches `Sodium.ready` first.
public enum Sodium {
    /// Runs `sodium_init` once for the process; traps when libsodium cannot find a source of randomness, since nothing that
    /// this project promises would hold without one.
    public static let ready: Void = {
        precondition(sodium_init() >= 0, "libsodium could not be initialised")
    }()

    /// `count` bytes from the operating system's random generator.
    public static func randomBytes(_ count: Int) -> [UInt8] {
        ready
        return [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
            randombytes_buf(buffer.baseAddress!, count)
            filled = count
        }
    }
}
