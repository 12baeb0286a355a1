/// What knocked at the exchange's port and was not let in, since the start.
public struct StrangerCounters: Sendable, Equatable {
    /// Connections whose first message no mesh key opened.
    public var notOpened: UInt64 = 0
    /// Hellos that were played again.
    public var replayed: UInt64 = 0
    /// Hellos that opened, of somebody who could not prove the identity in them.
    public var unproven: UInt64 = 0
    /// Connections closed at once, or to make room for newer ones, since their host or all strangers together had too many.
    public var crowded: UInt64 = 0
    /// Nodes that hold the key and are no members: connections refused.
    public var notAdmitted: UInt64 = 0
    public init() {}
}
