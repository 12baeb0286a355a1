import Foundation
import Testing

@testable import UpstreamStores

@Suite struct CredentialsTests {
    private func file(_ text: String) throws(CredentialsError) -> CredentialsFile { try CredentialsFile(parsing: text, place: "netrc") }

    @Test func hostsAndPortsAreTold() throws {
        let file = try file(
            """
            # for the hub
            machine Hub.example.org login me password "two words\\"" # and more
            machine hub.example.org:9000
              login other
              password x#y
            machine [::1]:9900 password onlyone
            machine ::1 login v6 password any
            """)
        #expect(file.credential(for: Endpoint(host: "hub.EXAMPLE.org", port: 443)) == Credential(user: "me", password: "two words\""))
        #expect(file.credential(for: Endpoint(host: "hub.example.org", port: 9000)) == Credential(user: "other", password: "x#y"))
        #expect(file.credential(for: Endpoint(host: "[::1]", port: 9900)) == Credential(user: "", password: "onlyone"))
        #expect(file.credential(for: Endpoint(host: "::1", port: 80))?.user == "v6")
        #expect(file.credential(for: Endpoint(host: "example.org", port: 443)) == nil)
    }

    @Test(arguments: [
        ("machine h login a", "netrc:1: this machine has no password"), ("\n\ndefault login a password b", "netrc:3: default would send"),
        ("machine", "netrc:1: machine takes HOST"), ("machine h:0 password x", "netrc:1: machine takes HOST"),
        ("machine http://h password x", "netrc:1: machine takes HOST"), ("hello", "netrc:1: machine HOST expected"),
        ("machine h password \"a", "netrc:1: a quoted word"), ("machine h password", "netrc:1: password takes a word"),
        ("macdef x\nls", "netrc:1: macdef"),
    ])
    func otherLinesAreRefusedWithTheirNumber(text: String, expected: String) {
        #expect { try file(text) } throws: { "\($0)".hasPrefix(expected) }
    }

    @Test func aFileThatEverybodyReadsIsRefused() throws {
        let folder = try TestFiles.directory()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let path = "\(folder)/netrc"
        try "machine h login a password s3cret".write(toFile: path, atomically: true, encoding: .utf8)
        for (mode, isRefused) in [(0o604, true), (0o600, false), (0o640, false)] {
            try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: path)
            if isRefused {
                #expect { try UpstreamCredentials.load(file: path, environment: [:]) } throws: {
                    "\($0)".contains("run chmod o= on it") && !"\($0)".contains("s3cret")
                }
            } else {
                #expect(try UpstreamCredentials.load(file: path, environment: [:]).credential(for: Endpoint(host: "h", port: 1)) != nil)
            }
        }
        for other in ["\(folder)/none", folder] {
            #expect { try UpstreamCredentials.load(file: other, environment: [:]) } throws: { "\($0)".hasPrefix(other) }
        }
    }

    @Test func keysOfAWSComeFromTheEnvironmentOrItsFile() throws {
        let home = try TestFiles.directory()
        defer { try? FileManager.default.removeItem(atPath: home) }
        try FileManager.default.createDirectory(atPath: "\(home)/.aws", withIntermediateDirectories: true)
        try """
        [default]
        aws_access_key_id = A1
        aws_secret_access_key=s=1
        ; comment
        [ work ]
        AWS_ACCESS_KEY_ID = A2
        aws_secret_access_key = s2
        aws_session_token = t2
        """.write(toFile: "\(home)/.aws/credentials", atomically: true, encoding: .utf8)
        let load = { (environment: [String: String]) in try UpstreamCredentials.load(file: nil, environment: environment).aws }
        #expect(try load(["HOME": home]) == AWSCredential(keys: Credential(user: "A1", password: "s=1")))
        #expect(try load(["HOME": home, "AWS_PROFILE": "work"])?.sessionToken == "t2")
        let environment = ["AWS_ACCESS_KEY_ID": "E", "AWS_SECRET_ACCESS_KEY": "s", "HOME": home]
        #expect(try load(environment) == AWSCredential(keys: Credential(user: "E", password: "s")))
        #expect(try load(["HOME": "/nowhere"]) == nil)
        #expect(throws: CredentialsError.self) { try load(["AWS_SHARED_CREDENTIALS_FILE": "/nowhere"]) }
        #expect(throws: CredentialsError.self) {
            try load(["AWS_SHARED_CREDENTIALS_FILE": "\(home)/.aws/credentials", "AWS_PROFILE": "gone"])
        }
    }
}
