import Testing

import struct SystemPackage.Errno

@testable import UblkScript

/// What others do to a device while it is being recovered.
@Suite struct RecoveryRaceTests {
    private static let id = DeviceID(0)
    private let world = ServerWorld()

    @Test(arguments: [
        ControlCommand.Kind.getDeviceInfo, .getParams, .startRecovery, .getQueueAffinity,
        .endRecovery,
    ])
    func `nothing is left of a device that is deleted while it is recovered`(
        during kind: ControlCommand.Kind
    ) throws {
        world.kernelRelease = "6.12.118"
        let record = try RecoveryTests.orphan(world)
        let (state, driver) = (world.state, world.driver)
        driver.onCommand { given, _ in
            guard given == kind else { return }
            state.remove(Self.id)
            driver.lose(Self.id)
        }
        let server = try world.server(recovering: record)
        #expect(throws: DeviceError.self) { _ = try server.bringUp() }
        driver.onCommand(nil)
        #expect(world.leftovers() == world.leftFiles)
    }

    @Test func `the files of a device whose DEL fails meanwhile stay`() throws {
        let record = try RecoveryTests.orphan(world)
        let (state, driver) = (world.state, world.driver)
        driver.onCommand { given, _ in
            guard given == .startRecovery else { return }
            let kept = state.copy(of: Self.id)
            state.remove(Self.id)
            state.putBack(kept, of: Self.id)
        }
        driver.fail(.endRecovery, .interrupted)
        // Its own function, as a server that is still there has the file.
        func breakOff() throws {
            let server = try world.server(recovering: record)
            #expect(throws: DeviceError.self) { _ = try server.bringUp() }
        }
        try breakOff()
        driver.onCommand(nil)
        #expect(state.readRecord(Self.id) != nil)
        let second = try world.server(recovering: record)
        _ = try second.bringUp()
        try second.takeDown(deletes: true, patienceSeconds: 5)
        #expect(world.leftovers() == world.leftFiles)
    }
}
