import Glibc
import Testing

@testable import UblkScript

/// Whether another server is started when one ends: `add --restart`.
@Suite struct ServerGuardTests {
    private static let second: UInt64 = 1_000_000_000
    private let world = ServerWorld()

    /// What the process beside a server does when that has ended.
    private func guardAfter(_ server: inout DeviceServer?) -> ServerGuard? {
        server = nil
        world.processes.waitForEnds()
        return world.processes.lastGuard.value
    }

    private func served(deaths: Int?) throws -> DeviceServer {
        world.recovery = .wait
        let server = try world.server(deaths: deaths)
        #expect(try server.bringUp().restarts == (deaths == nil ? nil : true))
        return server
    }

    private func clear() {
        world.driver.lose(DeviceID(0))
        world.state.remove(DeviceID(0))
    }

    @Test func `another server is started only when that was asked for`() throws {
        for deaths in [nil, 0, 3] {
            var server: DeviceServer? = try served(deaths: deaths)
            if let server { world.kill(server) }
            let found = guardAfter(&server)
            #expect(found?.deaths == deaths)
            #expect(found.map { $0.device } == deaths.map { _ in DeviceID(0) })
            clear()
            for file in world.leftFiles { unsafe unlink(file) }
        }
    }

    @Test func `a process beside it that died is replaced by one that guards, too`() throws {
        var server: DeviceServer? = try served(deaths: 2)
        world.processes.kill()
        world.processes.waitForEnds()
        world.processes.lastGuard.set(nil)
        _ = server?.outside.isStopping()
        if let server { world.kill(server) }
        #expect(guardAfter(&server)?.deaths == 2)
        clear()
    }

    @Test func `a server that ends in order is not replaced`() throws {
        var server: DeviceServer? = try served(deaths: 0)
        server?.outside.endGuard(of: DeviceID(0))
        if let server { world.kill(server) }
        #expect(guardAfter(&server) == nil)
        clear()
    }

    @Test func `servers that die quickly, one after the other, are replaced five times`() {
        var deaths = 0
        for round in 1...5 {
            let one = ServerGuard(device: DeviceID(0), deaths: deaths, since: 7 * Self.second)
            #expect(one.deathsNow(at: 8 * Self.second) == round)
            deaths = round
        }
        let last = ServerGuard(device: DeviceID(0), deaths: deaths, since: 7 * Self.second)
        #expect(last.deathsNow(at: 66 * Self.second) == nil)
        #expect(last.deathsNow(at: 67 * Self.second) == 1, "it had lived for a minute")
    }
}
