import Testing

@testable import UpstreamStores

@Suite struct ZDBAddressTests {
    private func address(_ url: String, _ credentials: HostCredentials? = nil) throws -> ZDBAddress {
        try ZDBAddress(url, credentials: credentials)
    }

    @Test(arguments: [
        ("zdb://h", ZDBAddress.Place.tcp(host: "h", port: 9_900), ZDBAddress.Entrance.none, "zdb://h:9900"),
        ("zdb://h:1/default", .tcp(host: "h", port: 1), .none, "zdb://h:1/default"),
        ("zdb://h/", .tcp(host: "h", port: 9_900), .none, "zdb://h:9900"),
        ("zdb://u@h/ns", .tcp(host: "h", port: 9_900), .select(namespace: "ns", password: nil), "zdb://h:9900/ns"),
        ("zdb://:p%40w@h/n%20s", .tcp(host: "h", port: 9_900), .select(namespace: "n s", password: "p@w"), "zdb://h:9900/n s"),
        ("zdb://u:p:q@[::1]:7/ns", .tcp(host: "::1", port: 7), .select(namespace: "ns", password: "p:q"), "zdb://[::1]:7/ns"),
        ("zdb:///run/z.sock", .socket(path: "/run/z.sock"), .none, "zdb:///run/z.sock"),
        (
            "zdb://:pw@/run/z.sock?namespace=ns", .socket(path: "/run/z.sock"), .select(namespace: "ns", password: "pw"),
            "zdb:///run/z.sock?namespace=ns"
        ),
        ("redis://h", .tcp(host: "h", port: 6_379), .none, "redis://h:6379"),
        ("redis://pw@h:1/7", .tcp(host: "h", port: 1), .authenticate(user: nil, password: "pw"), "redis://h:1"),
        ("redis://u:pw@h", .tcp(host: "h", port: 6_379), .authenticate(user: "u", password: "pw"), "redis://h:6379"),
        ("redis://:pw@h", .tcp(host: "h", port: 6_379), .authenticate(user: nil, password: "pw"), "redis://h:6379"),
        ("ardb://h", .tcp(host: "h", port: 16_379), .none, "ardb://h:16379"),
        ("redis:///run/r.sock", .socket(path: "/run/r.sock"), .none, "redis:///run/r.sock"),
    ])
    func urlsAreUnderstood(url: String, place: ZDBAddress.Place, entrance: ZDBAddress.Entrance, label: String) throws {
        let address = try address(url)
        #expect(address.place == place && address.entrance == entrance && address.label == label)
    }

    @Test(arguments: [
        "zdb://", "zdb:///", "zdb:/h", "zdb", "zdb://:s3cret@", "zdb://:s3cret@h:0/ns", "zdb://:s3cret@h:70000/ns", "zdb://:s3cret@h:x",
        "zdb://:s3cret@[::1/ns", "zdb://:s3cret@h h/ns", "zdb://:s3cret@h/ns?x=1", "zdb://:s3cret@/sock?ns=1",
        "zdb://:s3cret@/sock?namespace=", "zdb://:s3cret/h@x:1y/ns", "ftp://:s3cret@h/ns", "zdb://:s3cret@h\u{e9}/ns",
        "zdb://:s3cret@h/\(String(repeating: "n", count: 129))", "zdb://:s3cret@h/\(String(repeating: "n", count: 2_100))",
        "zdb:///\(String(repeating: "n", count: 120))",
    ])
    func othersAreRefusedWithoutTheirPassword(url: String) {
        do throws(UpstreamError) {
            let address = try ZDBAddress(url)
            Issue.record("\(url) became \(address)")
        } catch {
            #expect(!error.description.contains("s3cret") && !error.description.contains("\n"), "\(error)")
            if case .unusable = error {} else { Issue.record("\(error)") }
        }
    }

    @Test func credentialsAreLookedUpWhereTheURLHasNone() throws {
        let known: HostCredentials = { host, port in host == "h" && port == 9_900 ? ("me", "filed") : nil }
        #expect(try address("zdb://h/ns", known).entrance == .select(namespace: "ns", password: "filed"))
        #expect(try address("zdb://:own@h/ns", known).entrance == .select(namespace: "ns", password: "own"))
        #expect(try address("zdb://other/ns", known).entrance == .select(namespace: "ns", password: nil))
        #expect(try address("redis://h:9900", known).entrance == .authenticate(user: "me", password: "filed"))
    }

    @Test func whatAServerRepeatsHoldsNoPassword() throws {
        let address = try address("redis://s3cret@h")
        let failure = ZDBRefusal(entrance: .error(Array("ERR unknown command 'AUTH', with args: 's3cret'".utf8)), at: address).failure
        #expect(!failure.line.contains("s3cret") && failure.line.contains("unknown command"))
    }
}
